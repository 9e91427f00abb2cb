"""Noise masks that change from step to step, as `denoise_mask_function` hooks."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from engine.diffusion.parameterization import Parameterization


def differential_mask(strength: float) -> Callable[..., Tensor]:
    """Repaints a place once the process has passed its mask's value.

    Source: Levin and Fried 2023 (Differential Diffusion, arXiv 2306.00950), algorithm 1.
    """

    def mask_at(sigma: Tensor, mask: Tensor, extra_options: Mapping[str, Any]) -> Tensor:
        model: Parameterization = extra_options["parameterization"]
        sigmas: Tensor = extra_options["sigmas"]
        last = sigmas[-1].clamp(min=model.sigma_min)
        start, end, now = (model.timestep(s.reshape(1)) for s in (sigmas[0], last, sigma[0]))
        threshold = (now - end) / (start - end)
        hard = (mask >= threshold.to(mask.device)).to(mask.dtype)
        return hard if strength >= 1.0 else strength * hard + (1.0 - strength) * mask

    return mask_at
