"""Operations on latents (B, C, H, W). Never changes its inputs."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from engine.api.types import LatentDict

FACTOR = 8  # pixels per latent cell of an empty latent


def empty(width_px: int, height_px: int, batch: int, channels: int = 4) -> Tensor:
    """A latent of zeros for a picture size."""
    return torch.zeros(batch, channels, height_px // FACTOR, width_px // FACTOR)


def noise_mask(mask: Tensor) -> Tensor:
    """A mask (H, W) or (B, H, W) as a latent carries it: (B, 1, H, W)."""
    return mask.reshape(-1, 1, *mask.shape[-2:])


def from_batch(latent: "LatentDict", start: int, length: int) -> "LatentDict":
    """Items of a batch, with the numbers that their noise has there."""
    samples = latent["samples"]
    batch = samples.shape[0]
    start = min(batch - 1, start)
    length = min(batch - start, length)
    picked = {**latent, "samples": samples[start : start + length].clone()}
    mask = latent.get("noise_mask")
    if mask is not None and mask.shape[0] > 1:
        repeated = mask.repeat(-(-batch // mask.shape[0]), *([1] * (mask.ndim - 1)))
        picked["noise_mask"] = repeated[start : start + length].clone()
    index = latent.get("batch_index") or list(range(batch))
    picked["batch_index"] = index[start : start + length]
    return picked  # pyright: ignore[reportReturnType] - a TypedDict with a pack's keys
