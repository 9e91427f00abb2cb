"""Stochastic exponential integrators: SEEDS and ER-SDE."""

import torch
from torch import Tensor

from engine.diffusion.noise import NoiseSource
from engine.diffusion.samplers.base import Denoise, StepCallback, steps, usable_log_snr


def sample_seeds_2(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 0.5,
) -> Tensor:
    """Two stages a step. Source: Gonzalez et al. 2023 (SEEDS, arXiv 2305.14267), algorithm 2."""
    model = denoise.model
    sigmas = usable_log_snr(model, sigmas)
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
        else:
            start, end = model.half_log_snr(sigma), model.half_log_snr(following)
            h = end - start
            h_eta = h * (eta + 1)
            middle = start + r * h
            half_sigma = model.sigma_of_half_log_snr(middle)
            alpha_half, alpha = half_sigma * middle.exp(), following * end.exp()
            half = half_sigma / sigma * (-r * h * eta).exp() * x
            half = half - alpha_half * (-r * h_eta).expm1() * denoised
            first = second = x.new_zeros(())
            if eta > 0 and s_noise > 0:
                spread = (-2 * r * h * eta).expm1().neg().sqrt()
                carried = ((-2 * r * h * eta).expm1() - (-2 * h * eta).expm1()).sqrt()
                first, second = noise.normal(), noise.normal()
                half = half + half_sigma * (spread * first) * s_noise
                second = carried * first + spread * second
            denoised_half = denoise(half, half_sigma)
            share = 1 / (2 * r)
            mixed = (1 - share) * denoised + share * denoised_half
            x = following / sigma * (-h * eta).exp() * x - alpha * (-h_eta).expm1() * mixed
            x = x + following * second * s_noise
        on_step(i, x, denoised)
    return x


def sample_seeds_3(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Three stages a step. Source: Gonzalez et al. 2023 (SEEDS, arXiv 2305.14267), algorithm 3."""
    model = denoise.model
    sigmas = usable_log_snr(model, sigmas)
    r1, r2 = 1.0 / 3, 2.0 / 3
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
        else:
            start, end = model.half_log_snr(sigma), model.half_log_snr(following)
            h = end - start
            h_eta = h * (eta + 1)
            places = [start + r * h for r in (r1, r2)]
            levels = [model.sigma_of_half_log_snr(p) for p in places]
            alphas = [s * p.exp() for s, p in zip(levels, places)]
            alpha = following * end.exp()
            drawn = _seeds_noise(noise, h, eta, s_noise, (0.0, r1, r2, 1.0))
            one = levels[0] / sigma * (-r1 * h * eta).exp() * x
            one = one - alphas[0] * (-r1 * h_eta).expm1() * denoised + levels[0] * drawn[0]
            denoised_1 = denoise(one, levels[0])
            growth = (-r2 * h_eta).expm1()
            two = levels[1] / sigma * (-r2 * h * eta).exp() * x - alphas[1] * growth * denoised
            factor = r2 / r1 * alphas[1] * (growth / (r2 * h_eta) + 1)
            two = two + factor * (denoised_1 - denoised) + levels[1] * drawn[1]
            denoised_2 = denoise(two, levels[1])
            growth = (-h_eta).expm1()
            x = following / sigma * (-h * eta).exp() * x - alpha * growth * denoised
            x = x + 1 / r2 * alpha * (growth / h_eta + 1) * (denoised_2 - denoised)
            x = x + following * drawn[2]
        on_step(i, x, denoised)
    return x


def _seeds_noise(
    noise: NoiseSource, h: Tensor, eta: float, s_noise: float, shares: tuple[float, ...]
) -> list[Tensor]:
    """One noise path of a step at its inner points, each in units of the sigma there."""
    if not (eta > 0 and s_noise > 0):
        return [torch.zeros_like(h)] * (len(shares) - 1)
    path: list[Tensor] = []
    for before, after in zip(shares, shares[1:]):
        width = (before - after) * h * eta
        fresh = (2 * width).expm1().neg().sqrt() * noise.normal()
        path.append(fresh if not path else width.exp() * path[-1] + fresh)
    return [p * s_noise for p in path]


def sample_er_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    s_noise: float = 1.0,
    max_stage: int = 3,
    solver_type: str = "ER-SDE",
    eta: float = 1.0,
) -> Tensor:
    """Extended reverse-time SDE, up to three stages.

    Source: Cui et al. 2023 (ER-SDE-Solvers, arXiv 2309.06169), algorithms 2 to 4.
    """
    model = denoise.model
    sigmas = usable_log_snr(model, sigmas)
    lambdas = model.half_log_snr(sigmas).neg().exp()
    previous = previous_slope = x
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        stage = min(max_stage, i + 1)
        if following == 0:
            x = denoised
        else:
            start, end = lambdas[i], lambdas[i + 1]
            alpha = following / end
            scale_end = _er_scale(end, solver_type, eta)
            r = scale_end / _er_scale(start, solver_type, eta)
            x = (alpha / (sigma / start)) * r * x + alpha * (1 - r) * denoised
            if stage >= 2:
                dt = end - start
                width = -dt / 200
                place = end + torch.arange(200, dtype=torch.float32, device=x.device) * width
                scaled = _er_scale(place, solver_type, eta)
                area = torch.sum(1 / scaled) * width
                first = (denoised - previous) / (start - lambdas[i - 1])
                x = x + alpha * (dt + area * scale_end) * first
                if stage >= 3:
                    moment = torch.sum((place - start) / scaled) * width
                    second = (first - previous_slope) / ((start - lambdas[i - 2]) / 2)
                    x = x + alpha * ((dt**2) / 2 + moment * scale_end) * second
                previous_slope = first
            if s_noise > 0 and solver_type != "ODE":
                spread = (end**2 - start**2 * r**2).sqrt().nan_to_num(nan=0.0)
                x = x + alpha * noise.normal() * s_noise * spread
        previous = denoised
        on_step(i, x, denoised)
    return x


def _er_scale(x: Tensor, solver_type: str, eta: float) -> Tensor:
    """The paper's phi: how much of the path is drift, from the ODE to the reverse-time SDE."""
    if solver_type == "ODE":
        return x
    if solver_type == "Reverse-time SDE":
        return x ** (eta + 1)
    return x * ((x**0.3).exp() + 10.0)
