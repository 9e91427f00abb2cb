"""Samplers with a second evaluation in each step: Heun and DPM-Solver-2 forms."""

import torch
from torch import Tensor

from engine.diffusion.noise import NoiseSource
from engine.diffusion.samplers.base import (
    Denoise,
    StepCallback,
    ancestral_step,
    flow_ancestral_step,
    slope,
    steps,
)


def sample_heun(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Heun steps, Euler in the last one.

    Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 1 without churn.
    """
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        direction = slope(x, sigma, denoised)
        dt = following - sigma
        if following == 0:
            x = x + direction * dt
        else:
            ahead = x + direction * dt
            second = slope(ahead, following, denoise(ahead, following))
            x = x + (direction + second) / 2 * dt
        on_step(i, x, denoised)
    return x


def sample_heunpp2(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Heun steps that look up to two levels ahead, weighted by sigma.

    Source: Zhang 2023, "Heun++" in HaloCloud's notes on k-diffusion samplers (MIT).
    """
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        direction = slope(x, sigma, denoised)
        dt = following - sigma
        if following == sigmas[-1]:
            x = x + direction * dt
        else:
            ahead = x + direction * dt
            second = slope(ahead, following, denoise(ahead, following))
            after = sigmas[i + 2]
            if after == sigmas[-1]:
                share = following / (2 * sigmas[0])
                mixed = direction * (1 - share) + second * share
            else:
                further = ahead + second * (after - following)
                third = slope(further, after, denoise(further, after))
                whole = 3 * sigmas[0]
                share2, share3 = following / whole, after / whole
                mixed = (1 - share2 - share3) * direction + share2 * second + share3 * third
            x = x + mixed * dt
        on_step(i, x, denoised)
    return x


def sample_dpm_2(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Midpoint steps in log sigma.

    Source: Lu et al. 2022 (DPM-Solver, arXiv 2206.00927), algorithm 1; k-diffusion (MIT).
    """
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        x = _midpoint(denoise, x, sigma, following, denoised)
        on_step(i, x, denoised)
    return x


def _midpoint(
    denoise: Denoise, x: Tensor, sigma: Tensor, target: Tensor, denoised: Tensor
) -> Tensor:
    """One step to `target` along the slope in the middle of log sigma."""
    direction = slope(x, sigma, denoised)
    if target == 0:
        return x + direction * (target - sigma)
    middle = sigma.log().lerp(target.log(), 0.5).exp()
    half = x + direction * (middle - sigma)
    second = slope(half, middle, denoise(half, middle))
    return x + second * (target - sigma)


def sample_dpm_2_ancestral(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Midpoint steps that go too far and add noise. Source: k-diffusion (MIT)."""
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        if denoise.model.is_flow:
            down, scale, up = flow_ancestral_step(sigma, following, eta)
        else:
            (down, up), scale = ancestral_step(sigma, following, eta), torch.ones(())
        x = _midpoint(denoise, x, sigma, down, denoised)
        if down > 0:
            x = scale * x if denoise.model.is_flow else x
            x = x + noise.normal() * s_noise * up
        on_step(i, x, denoised)
    return x
