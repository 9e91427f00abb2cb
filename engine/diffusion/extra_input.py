"""Input channels beside the latent: mask and picture (inpainting), picture (InstructPix2Pix)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.latent_ops import repeated
from engine.diffusion.latent_space import LatentSpace
from engine.diffusion.scaling import scale

# The latent of a grey picture in Stable Diffusion 1's space: what a model is shown for "nothing".
GREY = (0.8223, -0.6876, 0.6364, 0.1380)


def extra_input(
    options: Mapping[str, Any],
    latent: Tensor,
    noise_mask: Tensor | None,
    channels: int,
    space: LatentSpace,
) -> Tensor | None:
    """What is put after the latent's own channels, from a conditioning's options.

    `latent` is the scaled clean latent, which also gives the size.
    Shapes: latent (B, C, H, W), noise_mask (B, 1, H, W) -> (B, channels, H, W).
    Raises: NodeError, for a number of channels that nothing here fills.
    """
    picture = options.get("concat_latent_image")
    if channels == 0:
        return None
    if channels == latent.shape[1]:
        return torch.zeros_like(latent) if picture is None else _fitted(picture, latent)
    if channels == latent.shape[1] + 1:
        return _inpaint(options.get("concat_mask", noise_mask), picture, latent, space)
    raise NodeError(
        f"The model takes {channels} channels beside its latent of {latent.shape[1]}.",
        hint="Only inpainting and InstructPix2Pix models are known.",
    )


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


def _fitted(picture: Tensor, latent: Tensor) -> Tensor:
    return repeated(_sized(picture.to(latent), latent), latent.shape[0])


def _sized(x: Tensor, latent: Tensor) -> Tensor:
    if x.shape[-2:] == latent.shape[-2:]:
        return x
    return scale(x, latent.shape[-1], latent.shape[-2], "bilinear", "center")
