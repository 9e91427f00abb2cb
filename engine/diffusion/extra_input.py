"""Input channels beside the latent: mask and picture (inpainting), picture (InstructPix2Pix), a
small picture with noise (x4 upscaler), picture and mask in Flux's way (Fill, Canny, Depth).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from engine.api.errors import NodeError
from engine.diffusion.latent_ops import repeated
from engine.diffusion.latent_space import FLUX, LatentSpace
from engine.diffusion.network import sd_alphas_cumprod
from engine.diffusion.noise import steering_generator
from engine.diffusion.scaling import scale

PICTURE_CHANNELS = 3
MOST_NOISE = 350  # Source: Stability AI's `x4-upscaling.yaml` (MIT), max_noise_level
# The latent of a grey picture in Stable Diffusion 1's space: what a model is shown for "nothing".
GREY = (0.8223, -0.6876, 0.6364, 0.1380)


def extra_input(
    options: Mapping[str, Any],
    latent: Tensor,
    noise_mask: Tensor | None,
    channels: int,
    space: LatentSpace,
    seed: int = 0,
) -> Tensor | None:
    """What is put after the latent's own channels, from a conditioning's options.

    `latent` is the scaled clean latent, which also gives the size.
    Shapes: latent (B, C, H, W), noise_mask (B, 1, H, W) -> (B, channels, H, W).
    Raises: NodeError, for a number of channels that nothing here fills.
    """
    picture = options.get("concat_latent_image")
    if channels == 0:
        return None
    if space == FLUX and channels in (latent.shape[1], latent.shape[1] + space.factor**2):
        return _flux(options.get("concat_mask", noise_mask), picture, latent, channels)
    if channels == latent.shape[1]:
        return torch.zeros_like(latent) if picture is None else _fitted(picture, latent)
    if channels == latent.shape[1] + 1:
        return _inpaint(options.get("concat_mask", noise_mask), picture, latent, space)
    if channels == PICTURE_CHANNELS:
        return _small_picture(options, latent, seed)
    raise NodeError(
        f"The model takes {channels} channels beside its latent of {latent.shape[1]}.",
        hint="Known are inpainting and InstructPix2Pix models, Flux Fill, Canny and Depth, and the "
        "x4 upscaler.",
    )


def picture_to_enlarge(image: Tensor, ratio: float) -> Tensor:
    """Pictures for the x4 upscaler, as large as the latent of one `ratio` times their size.

    Shapes: (B, H, W, C) 0..1 -> (B, 3, H ratio / 4, W ratio / 4) -1..1.
    """
    height, width = (max(1, round(side * ratio)) // 4 for side in image.shape[1:3])
    return scale(image[..., :3].movedim(-1, 1) * 2 - 1, width, height, "bilinear", "center")


def noise_level(options: Mapping[str, Any]) -> int:
    """How noisy the x4 upscaler's small picture is made: a time of its training schedule."""
    return round(float(options.get("noise_augmentation", 0.0)) * MOST_NOISE)


def _small_picture(options: Mapping[str, Any], latent: Tensor, seed: int) -> Tensor:
    """The picture to enlarge, in the latent's size, with noise of the level that is also told.

    Source: Rombach et al. 2022 (arXiv 2112.10752), section 4.4; diffusers (Apache-2.0),
    StableDiffusionUpscalePipeline.
    """
    picture = options.get("concat_image")
    if picture is None:
        raise NodeError(
            "The x4 upscaler was given no picture to enlarge.",
            hint="Put SD_4XUpscale_Conditioning between the prompts and the sampler.",
        )
    kept = float(sd_alphas_cumprod(0.0001, 0.02)[noise_level(options)])
    picture = _fitted(picture, latent)
    noise = torch.randn(picture.shape, generator=steering_generator(seed)).to(picture)
    return picture * kept**0.5 + noise * (1 - kept) ** 0.5


def _inpaint(
    mask: Tensor | None, picture: Tensor | None, latent: Tensor, space: LatentSpace
) -> Tensor:
    """Mask and picture for an inpainting model."""
    if mask is None:
        grey = latent.new_tensor(GREY).reshape(1, -1, 1, 1).expand_as(latent)
        return torch.cat([torch.ones_like(latent[:, :1]), grey], dim=1)
    mask = mask.reshape(-1, 1, *mask.shape[-2:]).to(latent)
    mask = repeated(_sized(mask, latent).round(), latent.shape[0])
    shown = latent if picture is None else space.entered(_fitted(picture, latent))
    return torch.cat([mask, shown], dim=1)


def _flux(mask: Tensor | None, picture: Tensor | None, latent: Tensor, channels: int) -> Tensor:
    """The picture for Flux Canny and Depth; for Flux Fill also the mask, each pixel a channel.

    Source: diffusers (Apache-2.0), FluxControlPipeline and FluxFillPipeline.
    """
    shown = torch.zeros_like(latent) if picture is None else _fitted(picture, latent)
    shown = FLUX.entered(shown)
    if channels == latent.shape[1]:
        return shown
    side = FLUX.factor
    height, width = (n * side for n in latent.shape[-2:])
    if mask is None:
        mask = latent.new_ones(1, 1, height, width)
    mask = scale(
        mask.reshape(-1, 1, *mask.shape[-2:]).to(latent), width, height, "bilinear", "center"
    )
    return torch.cat([shown, repeated(pixel_unshuffle(mask, side), latent.shape[0])], dim=1)


def _fitted(picture: Tensor, latent: Tensor) -> Tensor:
    return repeated(_sized(picture.to(latent), latent), latent.shape[0])


def _sized(x: Tensor, latent: Tensor) -> Tensor:
    if x.shape[-2:] == latent.shape[-2:]:
        return x
    return scale(x, latent.shape[-1], latent.shape[-2], "bilinear", "center")
