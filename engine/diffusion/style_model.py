"""T2I-Adapter's style model: a picture's CLIP embeds become words that a prompt goes on with.

Source: Mou et al. 2023 (T2I-Adapter, arXiv 2302.08453); its published code (Apache-2.0),
`StyleAdapter`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engine.api.errors import NodeError, NotThisFamily
from engine.api.recipe import FileRef, Recipe
from engine.diffusion.checkpoint import PartSource
from engine.diffusion.families.ldm import number, sizes
from engine.diffusion.keymap import Source
from engine.diffusion.weightfile import WeightFile, open_weights

if TYPE_CHECKING:
    from engine.api.types import Conditioning
    from engine.diffusion.clip_vision import ClipVisionOutput


class StyleNetwork(nn.Module):
    """Reads a picture's embeds with some places of its own, and gives what these then hold."""

    def __init__(self, width: int, text: int, places: int, layers: int, heads: int) -> None:
        # Imported on use: diffusers takes seconds, and listing nodes must not wait for it.
        from diffusers.models.controlnets.controlnet_union import ResidualAttentionBlock

        super().__init__()
        self.style_embedding = nn.Parameter(torch.empty(1, places, width))
        self.ln_pre = nn.LayerNorm(width)
        # The name is the published files' own.
        self.transformer_layes = nn.Sequential(
            *(ResidualAttentionBlock(width, heads) for _ in range(layers))
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, text))

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, T, width) -> (B, places, text)."""
        places = self.style_embedding.expand(x.shape[0], -1, -1)
        x = self.ln_pre(torch.cat([x, places], dim=1)).transpose(0, 1)  # (T + places, B, width)
        x = self.transformer_layes(x).transpose(0, 1)
        return self.ln_post(x[:, -places.shape[1] :]) @ self.proj


@dataclass(frozen=True, kw_only=True)
class LoadedStyle:
    """A style model ready to be used."""

    model: StyleNetwork
    device: torch.device
    dtype: torch.dtype

    def words(self, picture: "ClipVisionOutput") -> Tensor:
        """The words of pictures (1, B places, text). Raises: NodeError, for other embeds."""
        x = picture.last_hidden_state
        width = self.model.style_embedding.shape[-1]
        if x.shape[-1] != width:
            raise NodeError(
                f"The CLIP vision embeds have {x.shape[-1]} channels, but the style model expects "
                f"{width}.",
                hint="Use the CLIP vision that the style model was trained with (ViT-L/14).",
            )
        with torch.no_grad():
            found = self.model(x.to(self.device, self.dtype))
        return found.float().cpu().flatten(0, 1)[None]


def open_style_model(path: Path, digest: str, name: str) -> Recipe:
    """The style model of a file. Raises: CorruptFile, NotThisFamily."""
    style_source(open_weights(path))
    file = FileRef(path=str(path), digest=digest, name=name)
    return Recipe(part="style", family="style", files=(file,))


def style_source(file: WeightFile) -> PartSource:
    """How the pool builds the style model of a file. Raises: NotThisFamily."""
    try:
        _, places, width = sizes(file, "style_embedding", 3)
        text = sizes(file, "proj", 2)[1]
        heads = number(file, "weft.style.heads", 8)
        if width % heads:
            raise NotThisFamily(f"has a width of {width}, which {heads} heads do not divide")
    except NotThisFamily as error:
        raise NotThisFamily(
            f"{file.path.name} is no style model of T2I-Adapter: it {error.message}.",
            hint="Choose a file from the style_models folder; those for Flux cannot be used.",
        ) from error
    layers = 0
    while f"transformer_layes.{layers}.ln_1.weight" in file:
        layers += 1

    def build() -> nn.Module:
        with torch.device("meta"):
            return StyleNetwork(width, text, places, layers, heads)

    found = {key: Source(key=key) for key in file.infos}
    return PartSource(file=file, layout=None, build=build, sources=found)


def with_style(conditioning: "Conditioning", words: Tensor, strength: float) -> "Conditioning":
    """A conditioning that goes on with a picture's words. Raises: NodeError, for other text."""
    for embeds, _ in conditioning:
        if embeds.shape[-1] != words.shape[-1]:
            raise NodeError(
                f"The conditioning has {embeds.shape[-1]} channels, but the style model gives "
                f"{words.shape[-1]}.",
                hint="Style models of T2I-Adapter are for Stable Diffusion 1.x.",
            )
    return [
        (torch.cat([e, (words * strength).to(e).expand(e.shape[0], -1, -1)], dim=1), options)
        for e, options in conditioning
    ]
