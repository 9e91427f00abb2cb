"""Vector-quantised autoencoders: pictures as grids of codes out of a learned book, and back.

Source: van den Oord et al. 2017, "Neural Discrete Representation Learning" (arXiv:1711.00937).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engine.api.errors import NodeError, NotThisFamily
from engine.api.recipe import FileRef, Recipe
from engine.diffusion.checkpoint import PartSource
from engine.diffusion.keymap import Source
from engine.diffusion.vae import crop_to_factor
from engine.diffusion.weightfile import WeightFile, open_weights

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vq_model import VQModel

SIZES_KEY = "weft.vq_autoencoder"  # of the file's metadata: the sizes as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class VqSizes:
    """Sizes of the network: `codes` vectors of `channels` numbers in the book."""

    width: int = 32
    multiples: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    codes: int = 256
    channels: int = 4
    groups: int = 8

    @property
    def factor(self) -> int:
        """Pixels per code."""
        return 2 ** (len(self.multiples) - 1)


def new_vq(sizes: VqSizes) -> "VQModel":
    """The network with random weights."""
    # Imported on use: diffusers takes seconds, and listing nodes must not wait for it.
    from diffusers.models.autoencoders.vq_model import VQModel

    levels = len(sizes.multiples)
    model = VQModel(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(sizes.width * m for m in sizes.multiples),
        layers_per_block=sizes.blocks,
        latent_channels=sizes.channels,
        num_vq_embeddings=sizes.codes,
        norm_num_groups=sizes.groups,
    )
    model.quantize.legacy = False  # the paper's commitment term, equation 3
    return model


@dataclass(frozen=True, kw_only=True)
class LoadedVq:
    """A vector-quantised autoencoder ready to be used."""

    sizes: VqSizes
    model: Any
    device: torch.device
    dtype: torch.dtype


def open_vq(path: Path, digest: str, name: str) -> Recipe:
    """The vector-quantised autoencoder of a file. Raises: CorruptFile, NotThisFamily."""
    read_vq_sizes(open_weights(path))
    file = FileRef(path=str(path), digest=digest, name=name)
    return Recipe(part="vq", family="vq", files=(file,))


def read_vq_sizes(file: WeightFile) -> VqSizes:
    """Raises: NotThisFamily."""
    try:
        values: Any = json.loads(file.metadata.get(SIZES_KEY, ""))
        return VqSizes(**{**values, "multiples": tuple(values["multiples"])})
    except (ValueError, TypeError, KeyError) as error:
        raise NotThisFamily(
            f"{file.path.name} is no vector-quantised autoencoder of Weft: its metadata has no "
            "sizes.",
            hint="Choose a file that Train VQ Autoencoder made.",
        ) from error


def vq_metadata(sizes: VqSizes) -> dict[str, str]:
    return {SIZES_KEY: json.dumps(asdict(sizes))}


def vq_source(file: WeightFile) -> PartSource:
    """How the pool builds the autoencoder of a file. Raises: NotThisFamily."""
    sizes = read_vq_sizes(file)

    def build() -> nn.Module:
        with torch.device("meta"):
            return new_vq(sizes)

    sources = {name: Source(key=name) for name in file.infos}
    return PartSource(file=file, layout=None, build=build, sources=sources)


@torch.no_grad()
def encode_codes(loaded: LoadedVq, image: Tensor) -> Tensor:
    """The codes of pictures, as their vectors; edges beyond whole codes are cropped.

    Shapes: image (B, H, W, C) 0..1 → (B, channels, H / factor, W / factor).
    Source: van den Oord et al. 2017 eq. 1 and 2.
    """
    sizes = loaded.sizes
    if min(image.shape[1:3]) < sizes.factor:
        raise NodeError(
            f"A picture of {image.shape[2]} x {image.shape[1]} pixels is too small to encode.",
            hint=f"Each side needs at least {sizes.factor} pixels.",
        )
    pixels = crop_to_factor(image, sizes.factor)[..., :3].movedim(-1, 1) * 2 - 1
    parts: list[Tensor] = []
    for part in pixels.split(1):
        hidden = loaded.model.encode(part.to(loaded.device, loaded.dtype)).latents
        parts.append(_nearest(loaded, hidden).float().cpu())
    return torch.cat(parts)


@torch.no_grad()
def decode_codes(loaded: LoadedVq, codes: Tensor) -> Tensor:
    """The pictures of codes; vectors that are none go to the nearest code first.

    Shapes: (B, channels, h, w) → (B, H, W, 3) 0..1. Raises: NodeError.
    """
    if codes.dim() != 4 or codes.shape[1] != loaded.sizes.channels:
        raise NodeError(
            f"A latent of shape {list(codes.shape)} does not fit this autoencoder, whose codes "
            f"have {loaded.sizes.channels} numbers.",
            hint="Use the autoencoder that made the latent.",
        )
    parts = [
        loaded.model.decode(
            _nearest(loaded, part.to(loaded.device, loaded.dtype)), force_not_quantize=True
        )
        .sample.float()
        .cpu()
        for part in codes.split(1)
    ]
    return ((torch.cat(parts) + 1) / 2).clamp(0, 1).movedim(1, -1)


def _nearest(loaded: LoadedVq, hidden: Tensor) -> Tensor:
    """The code nearest to each place. Shapes: (B, channels, h, w), also of the result.

    The book is asked as a layer: the pool puts a layer's weights in place when it runs.
    """
    book = loaded.model.quantize.embedding(torch.arange(loaded.sizes.codes, device=loaded.device))
    places = hidden.movedim(1, -1)
    picks = torch.cdist(places.flatten(0, -2).float(), book.float()).argmin(1)
    return book[picks].view(places.shape).movedim(-1, 1).to(hidden)
