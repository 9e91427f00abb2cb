"""FreeU: weighs a UNet's backbone against its skip connections, as a hook inside the network."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

BlockPatch = Callable[[Tensor, Tensor, Mapping[str, Any]], tuple[Tensor, Tensor]]


def freeu_patch(
    width: int, b1: float, b2: float, s1: float, s2: float, *, is_v2: bool
) -> BlockPatch:
    """An `output_block_patch` for a UNet whose first level is `width` channels wide.

    Source: Si et al. 2023 (FreeU, arXiv 2309.11497), equations 4 to 6; version 2 of its code.
    """
    scales = {width * 4: (b1, s1), width * 2: (b2, s2)}

    def patch(h: Tensor, skip: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        found = scales.get(h.shape[1])
        if found is None:
            return h, skip
        backbone, low = found
        half = h.shape[1] // 2
        factor = _structure(h, backbone) if is_v2 else backbone
        h = torch.cat([h[:, :half] * factor, h[:, half:]], dim=1)
        return h, low_frequencies_scaled(skip, low)

    return patch


def _structure(h: Tensor, backbone: float) -> Tensor:
    """More weight where the mean over channels is high. Shapes: (B, 1, H, W)."""
    mean = h.mean(1, keepdim=True)
    low, high = mean.amin((-2, -1), keepdim=True), mean.amax((-2, -1), keepdim=True)
    return (backbone - 1) * ((mean - low) / (high - low)) + 1


def low_frequencies_scaled(x: Tensor, factor: float, radius: int = 1) -> Tensor:
    """Maps (B, C, H, W) with their lowest spatial frequencies scaled."""
    spectrum = torch.fft.fftshift(torch.fft.fftn(x.float(), dim=(-2, -1)), dim=(-2, -1))
    row, column = x.shape[-2] // 2, x.shape[-1] // 2
    mask = torch.ones(x.shape[-2:], device=x.device)
    mask[row - radius : row + radius, column - radius : column + radius] = factor
    spectrum = torch.fft.ifftshift(spectrum * mask, dim=(-2, -1))
    return torch.fft.ifftn(spectrum, dim=(-2, -1)).real.to(x.dtype)
