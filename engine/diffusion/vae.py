"""Pictures to latents and back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.diffusion.families.base import VaeLayout

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


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
    pixels = crop_to_factor(image, vae.factor)[..., :3].movedim(-1, 1) * 2 - 1
    return torch.cat([_encode_pixels(vae, p[None]) for p in pixels])


def decode(vae: LoadedVae, latent: Tensor) -> Tensor:
    """The pictures of an unscaled latent. Shapes: (B, 4, h, w) -> (B, H, W, 3) 0..1."""
    return torch.cat([_decode_latent(vae, z[None]) for z in latent])


def crop_to_factor(image: Tensor, factor: int) -> Tensor:
    """The middle of a picture, cut to multiples of `factor`. Shapes: (B, H, W, C)."""
    height, width = image.shape[1:3]
    top, left = (height % factor) // 2, (width % factor) // 2
    return image[:, top : top + height // factor * factor, left : left + width // factor * factor]


def _encode_pixels(vae: LoadedVae, pixels: Tensor) -> Tensor:
    """Shapes: (B, 3, H, W) -1..1 -> (B, 4, h, w): the mean of the posterior."""
    with torch.no_grad():
        moments: Any = vae.model._encode(pixels.to(vae.device, vae.dtype))
    return moments[:, : vae.latent_channels].float().cpu()


def _decode_latent(vae: LoadedVae, latent: Tensor) -> Tensor:
    """Shapes: (B, 4, h, w) -> (B, H, W, 3) 0..1."""
    with torch.no_grad():
        out: Any = vae.model.decode(latent.to(vae.device, vae.dtype), return_dict=False)
    pixels = out[0].float().cpu()
    return ((pixels + 1) / 2).clamp(0, 1).movedim(1, -1).contiguous()


def build_vae(layout: VaeLayout) -> "AutoencoderKL":
    """The autoencoder without weights (on the meta device)."""
    # Imported on use: diffusers takes seconds, and listing nodes must not wait for it.
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(layout.mult)
    with torch.device("meta"):
        return AutoencoderKL(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(layout.width * m for m in layout.mult),
            layers_per_block=layout.blocks,
            latent_channels=layout.latent_channels,
            norm_num_groups=layout.groups,
        )
