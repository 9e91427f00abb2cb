"""GLIGEN: boxes with texts of their own, read by gated attention inside the denoising network.

Source: Li et al. 2023, "GLIGEN: Open-Set Grounded Text-to-Image Generation" (arXiv 2301.07093),
sections 4.1 (grounding tokens) and 4.2 (gated self-attention).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engine.api.errors import NodeError, NotThisFamily
from engine.api.recipe import FileRef, Hook, Recipe
from engine.diffusion.checkpoint import PartSource
from engine.diffusion.families.ldm import number, sizes
from engine.diffusion.keymap import Source
from engine.diffusion.weightfile import WeightFile, open_weights

if TYPE_CHECKING:
    from engine.api.types import Conditioning

MAX_BOXES = 30  # grounding tokens that the models were trained with
SLOT = "middle_patch"

Box = tuple[Tensor, int, int, int, int]  # the text's pooled output; height, width, y, x in cells
Boxes = tuple[str, Recipe, list[Box]]  # what a conditioning holds as `gligen`


# Conditioning -------------------------------------------------------------------------------------


def with_box(conditioning: "Conditioning", model: Recipe, box: Box) -> "Conditioning":
    """A conditioning with one box more in every entry. Raises: NodeError, for too many boxes."""
    changed: Conditioning = []
    for embeds, options in conditioning:
        previous: Boxes | None = options.get("gligen")
        boxes = [*(previous[2] if previous else ()), box]
        if len(boxes) > MAX_BOXES:
            raise NodeError(
                f"GLIGEN reads {MAX_BOXES} boxes; this would be number {len(boxes)}.",
                hint="Leave out some of the GLIGENTextBoxApply nodes.",
            )
        changed.append((embeds, {**options, "gligen": ("position", model, boxes)}))
    return changed


def gligen_recipes(conditionings: Sequence["Conditioning"]) -> dict[str, Recipe]:
    """The GLIGEN models that conditionings name, by key."""
    named: list[Boxes] = [o["gligen"] for c in conditionings for _, o in c if o.get("gligen")]
    return {model.key: model for _, model, _ in named}


# Files --------------------------------------------------------------------------------------------

_FUSER = re.compile(
    r"(?:.*\.)?(input|middle|output)_blocks?\.(\d+)\.(?:1\.)?transformer_blocks\.(\d+)\.fuser\.(.+)"
)
_POSITION = re.compile(r"(?:.*\.)?(position_net\..+)")


def open_gligen(path: Path, digest: str, name: str) -> Recipe:
    """The GLIGEN model of a file. Raises: CorruptFile, NotThisFamily."""
    gligen_source(open_weights(path))
    file = FileRef(path=str(path), digest=digest, name=name)
    return Recipe(part="gligen", family="gligen", files=(file,))


def gligen_source(file: WeightFile) -> PartSource:
    """How the pool builds the GLIGEN model of a file. Raises: NotThisFamily."""
    found = {ours: Source(key=key) for key in file.infos if (ours := _our_name(key))}
    places = sorted({name.split(".")[1] for name in found if name.startswith("fusers.")})
    try:
        if not places:
            raise NotThisFamily("has no fuser in any transformer block")
        text = _sizes(file, found, "position_net.null_positive_feature", 1)[0]
        out = _sizes(file, found, "position_net.linears.4.weight", 2)[0]
        widths = {p: _sizes(file, found, f"fusers.{p}.norm1.weight", 1)[0] for p in places}
        heads = number(file, "weft.unet.attention_heads", 8)
        if any(width % heads for width in widths.values()):
            raise NotThisFamily(f"has widths that {heads} heads do not divide")
    except NotThisFamily as error:
        raise NotThisFamily(
            f"{file.path.name} is no GLIGEN text box model: it {error.message}.",
            hint="Choose a file from the gligen folder.",
        ) from error
    return PartSource(
        file=file,
        layout=None,
        build=lambda: _build(text, out, widths, heads),
        sources=found,
    )


def _sizes(file: WeightFile, found: Mapping[str, Source], name: str, rank: int) -> tuple[int, ...]:
    return sizes(file, found[name].key if name in found else name, rank)


def _our_name(key: str) -> str | None:
    if match := _FUSER.fullmatch(key):
        side, block, layer, rest = match.groups()
        return f"fusers.{_place(side, 0 if side == 'middle' else int(block), int(layer))}.{rest}"
    match = _POSITION.fullmatch(key)
    return match[1] if match else None


def _place(side: str, block: int, layer: int) -> str:
    return f"{side}_{block}_{layer}"


class Gligen(nn.Module):
    """The grounding tokens' network, and a gated attention for each transformer layer."""

    def __init__(self, text: int, out: int, widths: Mapping[str, int], heads: int) -> None:
        super().__init__()
        # Imported on use: diffusers takes seconds, and listing nodes must not wait for it.
        from diffusers.models.attention import GatedSelfAttentionDense
        from diffusers.models.embeddings import GLIGENTextBoundingboxProjection

        self.position_net = GLIGENTextBoundingboxProjection(text, out)
        self.fusers = nn.ModuleDict(
            {
                place: GatedSelfAttentionDense(width, out, heads, width // heads)
                for place, width in widths.items()
            }
        )


def _build(text: int, out: int, widths: Mapping[str, int], heads: int) -> Gligen:
    with torch.device("meta"):
        return Gligen(text, out, widths, heads)


# Use ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LoadedGligen:
    """A GLIGEN model ready to be used."""

    model: Gligen
    device: torch.device
    dtype: torch.dtype

    def hook(self, boxes: Sequence[Sequence[Box]], x: Tensor) -> Hook:
        """What shows the network the boxes of each part of a batch; no box is a part's "nothing".

        Shapes: x (parts * B, C, H, W). Raises: NodeError.
        """
        with torch.no_grad():
            tokens = self._tokens(boxes, x.shape[2], x.shape[3])
        tokens = tokens.repeat_interleave(x.shape[0] // len(boxes), dim=0)

        fusers = dict(self.model.fusers.items())

        def attend(h: Tensor, extra: Mapping[str, Any]) -> Tensor:
            side, block = extra["block"]
            place = _place(side, block, extra["block_index"])
            fuser: Any = fusers.get(place)
            if fuser is None:
                return h
            width = fuser.norm1.weight.shape[0]
            if width != h.shape[-1]:
                raise NodeError(
                    f"The GLIGEN model has {width} channels at {extra['block']}, the diffusion "
                    f"model {h.shape[-1]}.",
                    hint="Use a GLIGEN model of the same family as the checkpoint.",
                )
            return fuser(h.to(self.dtype), tokens).to(h)

        return Hook(slot=SLOT, function=attend)

    def _tokens(self, boxes: Sequence[Sequence[Box]], height: int, width: int) -> Tensor:
        """The grounding tokens of each part. Shapes: (parts, MAX_BOXES, D)."""
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        channels = self.model.position_net.positive_len
        texts = torch.zeros(len(boxes), MAX_BOXES, channels, **place)
        corners = torch.zeros(len(boxes), MAX_BOXES, 4, **place)
        masks = torch.zeros(len(boxes), MAX_BOXES, **place)
        for i, part in enumerate(boxes):
            for j, (text, tall, wide, y, x) in enumerate(part):
                if text.shape[-1] != channels:
                    raise NodeError(
                        f"The text of a GLIGEN box has {text.shape[-1]} channels, but the model "
                        f"expects {channels}.",
                        hint="Encode the box with the CLIP of a Stable Diffusion 1 checkpoint.",
                    )
                texts[i, j] = text.reshape(-1, channels)[0]
                ends = (x / width, y / height, (x + wide) / width, (y + tall) / height)
                corners[i, j] = corners.new_tensor(ends)
                masks[i, j] = 1.0
        return self.model.position_net(corners, masks, texts)
