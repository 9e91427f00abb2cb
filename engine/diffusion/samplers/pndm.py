"""The pseudo linear multistep sampler of PNDM, as Stable Diffusion's first pipelines used it."""

import torch
from torch import Tensor

from engine.diffusion.noise import NoiseSource
from engine.diffusion.samplers.base import Denoise, StepCallback, slope, steps
from engine.diffusion.samplers.multistep import equal_step_slope

_RUNGE_KUTTA_STEPS = 3


def sample_pndm(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    skip_prk: bool = True,
) -> Tensor:
    """Adams-Bashforth steps with the weights of equal spacing, after a warm-up.

    The transfer part of PNDM is, in sigma space, a straight line along the combined slope. With
    `skip_prk` the first step is done twice and its slopes averaged (one evaluation more), else the
    first three steps are fourth-order Runge-Kutta (nine more), their middles half-way in timesteps.
    Source: Liu et al. 2022 (PNDM, arXiv:2202.09778) equations 9, 11, 13; `skip_prk` as in
    diffusers' PNDMScheduler (Apache-2.0).
    """

    def slope_at(place: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        denoised = denoise(place, sigma)
        return slope(place, sigma, denoised), denoised

    slopes: list[Tensor] = []
    for i, sigma, following in steps(sigmas):
        width = following - sigma
        first, denoised = slope_at(x, sigma)
        slopes = [first, *slopes[:3]]
        if following > 0 and not skip_prk and i < _RUNGE_KUTTA_STEPS:
            middle = _middle(denoise, sigma, following)
            second, _ = slope_at(x + (middle - sigma) * first, middle)
            third, _ = slope_at(x + (middle - sigma) * second, middle)
            last, _ = slope_at(x + width * third, following)
            direction = (first + 2 * second + 2 * third + last) / 6
        elif following > 0 and i == 0:
            again, _ = slope_at(x + width * first, following)
            direction = (first + again) / 2
        else:
            direction = equal_step_slope(slopes)
        x = x + width * direction
        on_step(i, x, denoised)
    return x


def _middle(denoise: Denoise, sigma: Tensor, following: Tensor) -> Tensor:
    """The sigma half-way between two in the model's own time."""
    times = denoise.model.times
    ends = times.timestep(torch.stack([sigma, following]))
    return times.sigma(ends.float().mean()).to(sigma)
