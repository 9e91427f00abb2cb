"""LATENT_OPERATION values: functions on a latent, for one latent or for each sampling step."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

from engine.api.recipe import Hook
from engine.diffusion.image_ops import gaussian

LatentOperation = Callable[[Tensor], Tensor]  # (B, C, H, W) -> the same shape, a new tensor


def sharpened(radius: int, sigma: float, alpha: float) -> LatentOperation:
    """The difference from a blurred latent added to its directions; lengths per cell stay.

    Kernel and strength are those of sharpening a picture (`image_ops.sharpen`).
    """
    kernel = gaussian(radius, sigma) * -(alpha * 10)
    kernel[radius, radius] = kernel[radius, radius] - kernel.sum() + 1.0

    def operation(latent: Tensor) -> Tensor:
        length, direction = _split(latent)
        channels = latent.shape[1]
        weights = kernel.to(latent).expand(channels, 1, -1, -1)
        padded = _reflected(direction, radius)
        return length * F.conv2d(padded, weights, groups=channels)

    return operation


def _reflected(x: Tensor, radius: int) -> Tensor:
    """Mirrored beyond the edges, as often as a small latent needs it."""
    left = radius
    while left:
        step = min(left, min(x.shape[-2:]) - 1)
        if step == 0:
            return F.pad(x, (left,) * 4, mode="replicate")
        x = F.pad(x, (step,) * 4, mode="reflect")
        left -= step
    return x


def tonemapped(multiplier: float) -> LatentOperation:
    """The longest cells made shorter, so that a high cfg does not burn out.

    The scale is five deviations above the mean length. Source: Reinhard et al. 2002, "Photographic
    Tone Reproduction for Digital Images", equation 3.
    """

    def operation(latent: Tensor) -> Tensor:
        length, direction = _split(latent)
        mean = length.mean((1, 2, 3), keepdim=True)
        spread = length.std((1, 2, 3), keepdim=True)
        top = ((spread * 5 + mean) * multiplier).clamp(min=1e-10)
        scaled = length / top
        return direction * (scaled / (scaled + 1.0)) * top

    return operation


def _split(latent: Tensor) -> tuple[Tensor, Tensor]:
    """Length and direction of each cell's channels."""
    length = torch.linalg.vector_norm(latent, dim=1, keepdim=True) + 1e-10
    return length, latent / length


def on_guidance(operation: LatentOperation) -> Hook:
    """An operation on the difference that the prompt makes, at each step, before guidance."""

    def change(values: Mapping[str, Any]) -> list[Tensor]:
        cond, uncond = values["conds_out"]
        return [operation(cond - uncond) + uncond, uncond]

    return Hook(slot="sampler_pre_cfg_function", function=change)
