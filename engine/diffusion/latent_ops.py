"""Operations on latents (B, C, H, W). Never changes its inputs."""

import torch
from torch import Tensor

FACTOR = 8  # pixels per latent cell of an empty latent


def empty(width_px: int, height_px: int, batch: int, channels: int = 4) -> Tensor:
    """A latent of zeros for a picture size."""
    return torch.zeros(batch, channels, height_px // FACTOR, width_px // FACTOR)
