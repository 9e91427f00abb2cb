"""Socket types: what travels on wires.

Values have the ecosystem's own shapes, so that packs and built-in nodes exchange them without any
conversion. For a type checker the names below are the value types; at run time they are `Socket`
markers from which `@node` reads the schema. Values on wires are immutable: never change one that
you received.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Required, TypeAlias, TypedDict


@dataclass(frozen=True, slots=True)
class Socket:
    """A socket type by its wire name; `A | B` makes a union, `A | None` an optional input."""

    name: str
    is_optional: bool = False

    def __or__(self, other: object) -> "Socket":
        if other is None:
            return Socket(self.name, is_optional=True)
        if isinstance(other, Socket):
            return Socket(f"{self.name},{other.name}", self.is_optional or other.is_optional)
        return NotImplemented

    def __call__(self) -> None:
        raise TypeError(f"{self.name} is a socket type, not a class")


class LatentDict(TypedDict, total=False):
    """A latent: `samples` (B, C, H, W) float in the family's unscaled latent space.

    `noise_mask` (B, 1, H, W) or (B, H, W), 1 = repaint; `batch_index` numbers each item's noise.
    Further keys of packs are kept.
    """

    samples: Required["Any"]
    noise_mask: "Any"
    batch_index: list[int]


if TYPE_CHECKING:
    from torch import Tensor

    from engine.api.recipe import Recipe
    from engine.diffusion.training import settings
    from engine.diffusion.training.data import dataset

    Image: TypeAlias = Tensor  # (B, H, W, C) float32 0..1
    Mask: TypeAlias = Tensor  # (B, H, W) float32 0..1, 1 = repaint
    Latent: TypeAlias = LatentDict
    Conditioning: TypeAlias = list[tuple[Tensor, dict[str, Any]]]  # [(embeds (B, T, D), options)]
    Model: TypeAlias = Recipe
    Clip: TypeAlias = Recipe
    Vae: TypeAlias = Recipe
    ControlNet: TypeAlias = Recipe
    ClipVision: TypeAlias = Recipe
    UpscaleModel: TypeAlias = Recipe
    PixelModel: TypeAlias = Recipe
    VqModel: TypeAlias = Recipe
    Sigmas: TypeAlias = Tensor  # (steps + 1,) falling
    Sampler: TypeAlias = Any  # engine.diffusion.samplers.SamplerChoice
    Noise: TypeAlias = Any  # object with generate_noise(latent) and seed
    Guider: TypeAlias = Any
    Dataset: TypeAlias = dataset.Dataset  # captioned pictures, by content
    TrainingSettings: TypeAlias = settings.TrainingSettings
    AnyValue: TypeAlias = Any
else:
    Image = Socket("IMAGE")
    Mask = Socket("MASK")
    Latent = Socket("LATENT")
    Conditioning = Socket("CONDITIONING")
    Model = Socket("MODEL")
    Clip = Socket("CLIP")
    Vae = Socket("VAE")
    ControlNet = Socket("CONTROL_NET")
    ClipVision = Socket("CLIP_VISION")
    UpscaleModel = Socket("UPSCALE_MODEL")
    PixelModel = Socket("PIXEL_MODEL")
    VqModel = Socket("VQ_MODEL")
    Sigmas = Socket("SIGMAS")
    Sampler = Socket("SAMPLER")
    Noise = Socket("NOISE")
    Guider = Socket("GUIDER")
    Dataset = Socket("DATASET")
    TrainingSettings = Socket("TRAINING_SETTINGS")
    AnyValue = Socket("*")
