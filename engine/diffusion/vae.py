"""Pictures to latents and back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.families.base import VaeLayout
from engine.diffusion.finite import check_finite
from engine.diffusion.tiling import run_tiled

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


BATCH_PIXELS = 512 * 512
OVERFLOW_HINT = "The VAE overflows, or its file is damaged; use --precision fp32 or another VAE."


@dataclass(frozen=True, kw_only=True)
class LoadedVae:
    """An autoencoder ready to be used."""

    layout: VaeLayout
    model: "AutoencoderKL"
    device: torch.device
    dtype: torch.dtype

    @property
    def latent_channels(self) -> int:
        return self.layout.latent_channels

    @property
    def factor(self) -> int:
        return self.layout.factor


def encode(vae: LoadedVae, image: Tensor) -> Tensor:
    """The latent (unscaled) of pictures; edges beyond a multiple of the factor are cropped.

    Shapes: image (B, H, W, C) 0..1 -> (B, 4, H / factor, W / factor).
    """
    pixels = _pixels(vae, image)
    return _finite(torch.cat([_encode_pixels(vae, part) for part in _batches(pixels)]))


def decode(vae: LoadedVae, latent: Tensor) -> Tensor:
    """The pictures of an unscaled latent. Shapes: (B, 4, h, w) -> (B, H, W, 3) 0..1."""
    _check_latent(vae, latent)
    parts = [_decode_latent(vae, part) for part in _batches(latent, vae.factor**2)]
    return _image(torch.cat(parts))


def encode_tiled(
    vae: LoadedVae,
    image: Tensor,
    *,
    tile: int = 512,
    overlap: int = 64,
    on_tile: Callable[[], None] | None = None,
) -> Tensor:
    """The latent of large pictures, tile by tile; the mean of three tilings of different shape.

    Units: tile and overlap in pixels. Shapes: as `encode`.
    """
    pixels = _pixels(vae, image)
    return _finite(
        _tiled(
            pixels,
            lambda part: _encode_pixels(vae, part),
            tile=tile,
            overlap=overlap,
            scale=Fraction(1, vae.factor),
            on_tile=on_tile,
        )
    )


def _finite(latent: Tensor) -> Tensor:
    """Raises: NodeError, for a latent with NaN."""
    check_finite(latent, "Encoding gave", OVERFLOW_HINT)
    return latent


def decode_tiled(
    vae: LoadedVae,
    latent: Tensor,
    *,
    tile: int = 512,
    overlap: int = 64,
    on_tile: Callable[[], None] | None = None,
) -> Tensor:
    """The pictures of a large latent, tile by tile; the mean of three tilings of different shape.

    Units: tile and overlap in pixels. Shapes: as `decode`.
    """
    _check_latent(vae, latent)
    return _image(
        _tiled(
            latent,
            lambda part: _decode_latent(vae, part),
            tile=tile // vae.factor,
            overlap=min(overlap, tile // 4) // vae.factor,
            scale=Fraction(vae.factor),
            on_tile=on_tile,
        )
    )


def _shapes(tile: int) -> tuple[tuple[int, int], ...]:
    """Height and width of the tiles of each pass."""
    return (tile // 2, tile * 2), (tile * 2, tile // 2), (tile, tile)


def _tiled(
    image: Tensor,
    function: Callable[[Tensor], Tensor],
    *,
    tile: int,
    overlap: int,
    scale: Fraction,
    on_tile: Callable[[], None] | None,
) -> Tensor:
    if overlap >= tile // 2:
        raise NodeError(
            f"The overlap of {overlap} is too large for tiles of {tile}.",
            hint="Take at most a quarter of the tile size.",
        )
    passes = [
        run_tiled(
            image,
            function,
            tile_height=height,
            tile_width=width,
            overlap=overlap,
            scale=scale,
            on_tile=on_tile,
        )
        for height, width in _shapes(tile)
    ]
    return torch.stack(passes).mean(0)


def crop_to_factor(image: Tensor, factor: int) -> Tensor:
    """The middle of a picture, cut to multiples of `factor`. Shapes: (B, H, W, C)."""
    height, width = (n // factor * factor for n in image.shape[1:3])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


def _check_latent(vae: LoadedVae, latent: Tensor) -> None:
    """Raises: NodeError, for a latent of another family."""
    if latent.dim() != 4 or latent.shape[1] != vae.latent_channels:
        raise NodeError(
            f"A latent of shape {list(latent.shape)} does not fit this VAE, "
            f"which takes (batch, {vae.latent_channels} channels, height, width).",
            hint="Use the VAE of the checkpoint that made the latent.",
        )
    check_finite(latent, "The latent that came in holds", "Look at the node that made it.")


def _pixels(vae: LoadedVae, image: Tensor) -> Tensor:
    """Shapes: (B, H, W, C) 0..1 -> (B, 3, H, W) -1..1. Raises: NodeError."""
    if min(image.shape[1:3]) < vae.factor:
        raise NodeError(
            f"A picture of {image.shape[2]} x {image.shape[1]} pixels is too small to encode.",
            hint=f"Each side needs at least {vae.factor} pixels.",
        )
    return crop_to_factor(image, vae.factor)[..., :3].movedim(-1, 1) * 2 - 1


def _image(pixels: Tensor) -> Tensor:
    """Shapes: (B, 3, H, W) -1..1 -> (B, H, W, 3) 0..1. Raises: NodeError, for NaN."""
    check_finite(pixels, "Decoding gave", OVERFLOW_HINT)
    return ((pixels + 1) / 2).clamp(0, 1).movedim(1, -1).contiguous()


def _batches(items: Tensor, cells: int = 1) -> Iterator[Tensor]:
    """A batch in parts that hold no more than BATCH_PIXELS pixels, at least one item each."""
    pixels = items.shape[-1] * items.shape[-2] * cells
    yield from items.split(max(1, BATCH_PIXELS // pixels))


def _encode_pixels(vae: LoadedVae, pixels: Tensor) -> Tensor:
    """The mean of the posterior. Shapes: (B, 3, H, W) -1..1 -> (B, 4, h, w)."""
    with torch.no_grad():
        out: Any = vae.model.encode(pixels.to(vae.device, vae.dtype), return_dict=False)
    return out[0].mean.float().cpu()


def _decode_latent(vae: LoadedVae, latent: Tensor) -> Tensor:
    """Shapes: (B, 4, h, w) -> (B, 3, H, W) -1..1."""
    with torch.no_grad():
        model: Any = vae.model
        out = model.decode(latent.to(vae.device, vae.dtype), return_dict=False)
    return out[0].float().cpu()


def build_vae(layout: VaeLayout) -> "AutoencoderKL":
    """The autoencoder without weights (on the meta device)."""
    with torch.device("meta"):
        return new_vae(layout)


def new_vae(layout: VaeLayout) -> "AutoencoderKL":
    """The autoencoder with random weights."""
    # Imported on use: diffusers takes seconds, and listing nodes must not wait for it.
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(layout.mult)
    config: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": tuple(layout.width * m for m in layout.mult),
        "layers_per_block": layout.blocks,
        "latent_channels": layout.latent_channels,
        "norm_num_groups": layout.groups,
        "use_quant_conv": layout.has_quant,
        "use_post_quant_conv": layout.has_quant,
    }
    return AutoencoderKL(**config)
