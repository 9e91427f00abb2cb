"""Reference pictures in a conditioning, for models that edit by looking at them."""

from typing import TYPE_CHECKING

from torch import Tensor

from engine.diffusion.scaling import scale

if TYPE_CHECKING:
    from engine.api.types import Conditioning

# Width and height. Source: diffusers (Apache-2.0), `PREFERRED_KONTEXT_RESOLUTIONS`.
KONTEXT_SIZES = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184),
    (944, 1104), (1024, 1024), (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752),
    (1456, 720), (1504, 688), (1568, 672),
)  # fmt: skip


def with_reference(conditioning: "Conditioning", latent: Tensor) -> "Conditioning":
    """Every entry with one reference picture more."""
    return [
        (embeds, {**old, "reference_latents": [*old.get("reference_latents", ()), latent]})
        for embeds, old in conditioning
    ]


def to_kontext_size(image: Tensor) -> Tensor:
    """Pictures in the trained size of the nearest proportions. Shapes: (B, H, W, C)."""
    wanted = image.shape[2] / image.shape[1]
    width, height = min(KONTEXT_SIZES, key=lambda size: abs(wanted - size[0] / size[1]))
    return scale(image.movedim(-1, 1), width, height, "lanczos", "center").movedim(1, -1)
