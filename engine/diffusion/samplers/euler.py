"""One-evaluation samplers and their ancestral, guided (CFG++) and consistency forms."""

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
from engine.diffusion.scaling import scale


def sample_euler(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Euler steps of the probability flow.

    Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 2 without churn.
    """
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        x = x + slope(x, sigma, denoised) * (following - sigma)
        on_step(i, x, denoised)
    return x


def sample_euler_ancestral(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Euler steps that go too far and add noise.

    Source: k-diffusion (MIT), `sample_euler_ancestral`; for flow models its rectified form.
    """
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
        elif denoise.model.is_flow:
            down, scale, up = flow_ancestral_step(sigma, following, eta)
            x = (down / sigma) * x + (1 - down / sigma) * denoised
            if eta > 0:
                x = scale * x + noise.normal() * s_noise * up
        else:
            down, up = ancestral_step(sigma, following, eta)
            x = x + slope(x, sigma, denoised) * (down - sigma) + noise.normal() * s_noise * up
        on_step(i, x, denoised)
    return x


def sample_euler_ancestral_cfg_pp(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Euler ancestral that re-noises along the prediction without guidance.

    Source: Chung et al. 2024 (CFG++, arXiv 2406.08070), algorithm 2.
    """
    for i, sigma, following in steps(sigmas):
        denoised, uncond = denoise.with_uncond(x, sigma)
        if following == 0:
            x = denoised
        else:
            alpha, alpha_next = _alpha(denoise, sigma), _alpha(denoise, following)
            direction = slope(x, sigma, alpha * uncond)
            down, up = ancestral_step(sigma / alpha, following / alpha_next, eta)
            x = alpha_next * denoised + alpha_next * down * direction
            if eta > 0 and s_noise > 0:
                x = x + alpha_next * noise.normal() * s_noise * up
        on_step(i, x, denoised)
    return x


def sample_euler_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Euler with CFG++. Source: Chung et al. 2024 (CFG++, arXiv 2406.08070), algorithm 2."""
    return sample_euler_ancestral_cfg_pp(
        denoise, x, sigmas, noise=noise, on_step=on_step, eta=0.0, s_noise=0.0
    )


def _alpha(denoise: Denoise, sigma: Tensor) -> Tensor:
    return sigma * denoise.model.half_log_snr(sigma).exp()


def sample_lcm(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Denoise, noise again, repeat.

    Source: Luo et al. 2023 (Latent Consistency Models, arXiv 2310.04378), algorithm 3.
    """
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        x = denoised
        if following > 0:
            x = denoise.model.noised(x, noise.normal(), following, is_start=False)
        on_step(i, x, denoised)
    return x


def sample_lcm_upscale(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    scale_ratio: float = 1.0,
    scale_steps: int = -1,
    upscale_method: str = "bislerp",
) -> Tensor:
    """`sample_lcm` that makes the latent larger in equal parts of its first steps.

    `scale_steps` steps reach `scale_ratio`; negative means half of all.
    Source: Luo et al. 2023 (arXiv 2310.04378), algorithm 3.
    """
    count = len(sigmas) // 2 if scale_steps < 0 else min(scale_steps, len(sigmas))
    height, width = x.shape[-2:]
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        x = denoised
        if i < count and scale_ratio != 1.0:
            ratio = 1 + (scale_ratio - 1) * (i + 1) / count
            x = scale(x, round(width * ratio), round(height * ratio), upscale_method)
        if following > 0:
            drawn = noise.normal(x)
            x = denoise.model.noised(x, drawn, following, is_start=False)
        on_step(i, x, denoised)
    return x


def sample_ddpm(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Ancestral steps of the variance-preserving chain.

    Source: Ho et al. 2020 (DDPM, arXiv 2006.11239), algorithm 2.
    """
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        eps = slope(x, sigma, denoised)
        total, total_next = 1 / (sigma * sigma + 1), 1 / (following * following + 1)
        alpha = total / total_next
        scaled = x / torch.sqrt(1.0 + sigma**2.0)
        x = (1.0 / alpha).sqrt() * (scaled - (1 - alpha) * eps / (1 - total).sqrt())
        if following > 0:
            spread = ((1 - alpha) * (1.0 - total_next) / (1.0 - total)).sqrt()
            x = (x + spread * noise.normal()) * torch.sqrt(1.0 + following**2.0)
        on_step(i, x, denoised)
    return x


def sample_gradient_estimation(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    gamma: float = 2.0,
) -> Tensor:
    """Euler steps with an estimate of the gradient's error.

    Source: Permenter and Yuan 2023 (arXiv 2306.04848), algorithm 2.
    """
    previous: Tensor | None = None
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        direction = slope(x, sigma, denoised)
        if following == 0:
            x = denoised
        else:
            x = x + direction * (following - sigma)
            if previous is not None:
                x = x + (gamma - 1) * (direction - previous) * (following - sigma)
        previous = direction
        on_step(i, x, denoised)
    return x


def sample_gradient_estimation_cfg_pp(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    gamma: float = 2.0,
) -> Tensor:
    """Gradient estimation with CFG++.

    Source: Permenter and Yuan 2023 (arXiv 2306.04848); Chung et al. 2024 (arXiv 2406.08070).
    """
    previous: Tensor | None = None
    for i, sigma, following in steps(sigmas):
        denoised, uncond = denoise.with_uncond(x, sigma)
        direction = slope(x, sigma, uncond)
        if following == 0:
            x = denoised
        else:
            x = denoised + direction * following
            if previous is not None:
                x = x + (gamma - 1) * (direction - previous) * (following - sigma)
        previous = direction
        on_step(i, x, denoised)
    return x
