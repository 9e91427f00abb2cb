"""DPM-Solver++ samplers: single and multistep, with and without noise."""

from collections.abc import Callable

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
    usable_log_snr,
)


def sample_dpmpp_2s_ancestral(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """DPM-Solver++(2S) steps that go too far and add noise.

    Source: Lu et al. 2022 (DPM-Solver++, arXiv 2211.01095), algorithm 1; k-diffusion (MIT).
    """
    step = _flow_2s if denoise.model.is_flow else _ancestral_2s
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        x = step(denoise, x, sigma, following, denoised, noise, eta, s_noise)
        on_step(i, x, denoised)
    return x


def _ancestral_2s(
    denoise: Denoise,
    x: Tensor,
    sigma: Tensor,
    following: Tensor,
    denoised: Tensor,
    noise: NoiseSource,
    eta: float,
    s_noise: float,
) -> Tensor:
    down, up = ancestral_step(sigma, following, eta)
    if down == 0:
        x = x + slope(x, sigma, denoised) * (down - sigma)
    else:
        t, t_next = -sigma.log(), -down.log()
        h = t_next - t
        s = t + 0.5 * h
        half = ((-s).exp() / (-t).exp()) * x - (-h * 0.5).expm1() * denoised
        second = denoise(half, (-s).exp())
        x = ((-t_next).exp() / (-t).exp()) * x - (-h).expm1() * second
    if following > 0:
        x = x + noise.normal() * s_noise * up
    return x


def _flow_2s(
    denoise: Denoise,
    x: Tensor,
    sigma: Tensor,
    following: Tensor,
    denoised: Tensor,
    noise: NoiseSource,
    eta: float,
    s_noise: float,
) -> Tensor:
    if following == 0:
        return x + slope(x, sigma, denoised) * (following - sigma)
    down, scale, up = flow_ancestral_step(sigma, following, eta)
    if sigma == 1.0:
        middle = torch.full_like(sigma, 0.9999)
    else:
        t, t_down = ((1 - sigma) / sigma).log(), ((1 - down) / down).log()
        middle = 1 / ((t + 0.5 * (t_down - t)).exp() + 1)
    half = (middle / sigma) * x + (1 - middle / sigma) * denoised
    second = denoise(half, middle)
    x = (down / sigma) * x + (1 - down / sigma) * second
    if eta > 0:
        x = scale * x + noise.normal() * s_noise * up
    return x


def sample_dpmpp_2s_ancestral_cfg_pp(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """DPM-Solver++(2S) ancestral with CFG++. Source: arXiv 2211.01095 and arXiv 2406.08070."""
    for i, sigma, following in steps(sigmas):
        denoised, uncond = denoise.with_uncond(x, sigma)
        down, up = ancestral_step(sigma, following, eta)
        if down == 0:
            x = denoised + slope(x, sigma, uncond) * down
        else:
            t, t_next = -sigma.log(), -down.log()
            h = t_next - t
            s = t + 0.5 * h
            half = ((-s).exp() / (-t).exp()) * (x + (denoised - uncond))
            half = half - (-h * 0.5).expm1() * denoised
            second, uncond = denoise.with_uncond(half, (-s).exp())
            x = ((-t_next).exp() / (-t).exp()) * (x + (denoised - uncond)) - (-h).expm1() * second
        if following > 0:
            x = x + noise.normal() * s_noise * up
        on_step(i, x, denoised)
    return x


def sample_dpmpp_2m(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Multistep of order two. Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 2."""
    previous: Tensor | None = None
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        t, t_next = -sigma.log(), -following.log()
        h = t_next - t
        mixed = denoised
        if previous is not None and following > 0:
            r = (t + sigmas[i - 1].log()) / h
            mixed = (1 + 1 / (2 * r)) * denoised - (1 / (2 * r)) * previous
        x = ((-t_next).exp() / (-t).exp()) * x - (-h).expm1() * mixed
        previous = denoised
        on_step(i, x, denoised)
    return x


def sample_dpmpp_2m_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Multistep of order two with CFG++. Source: arXiv 2211.01095 and arXiv 2406.08070."""
    previous: Tensor | None = None
    for i, sigma, following in steps(sigmas):
        denoised, uncond = denoise.with_uncond(x, sigma)
        t, t_next = -sigma.log(), -following.log()
        h = t_next - t
        mixed = -torch.exp(-h) * uncond
        if previous is not None and following > 0:
            r = (t + sigmas[i - 1].log()) / h
            mixed = mixed - torch.expm1(-h) * (1 / (2 * r)) * (denoised - previous)
        x = denoised + mixed + torch.exp(-h) * x
        previous = uncond
        on_step(i, x, denoised)
    return x


# With Brownian noise ------------------------------------------------------------------------------


def sample_dpmpp_sde(
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
    """Single steps of order two of the reverse SDE.

    Source: Lu et al. 2022 (arXiv 2211.01095), section 6; k-diffusion (MIT), `sample_dpmpp_sde`.
    """
    between = noise.brownian(sigmas)
    model = denoise.model
    sigmas = usable_log_snr(model, sigmas)
    share = 1 / (2 * r)
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
        else:
            start, end = model.half_log_snr(sigma), model.half_log_snr(following)
            middle = start + r * (end - start)
            half_sigma = model.sigma_of_half_log_snr(middle)
            half = _sde_part(x, denoised, sigma, half_sigma, start, middle, eta)
            if eta > 0 and s_noise > 0:
                _, up = ancestral_step((-start).exp(), (-middle).exp(), eta)
                alpha = half_sigma * middle.exp()
                half = half + alpha * between(sigma, half_sigma) * s_noise * up
            second = denoise(half, half_sigma)
            mixed = (1 - share) * denoised + share * second
            x = _sde_part(x, mixed, sigma, following, start, end, eta)
            if eta > 0 and s_noise > 0:
                _, up = ancestral_step((-start).exp(), (-end).exp(), eta)
                alpha = following * end.exp()
                x = x + alpha * between(sigma, following) * s_noise * up
        on_step(i, x, denoised)
    return x


def _sde_part(
    x: Tensor,
    denoised: Tensor,
    sigma: Tensor,
    target: Tensor,
    start: Tensor,
    end: Tensor,
    eta: float,
) -> Tensor:
    """The noiseless part of a step from log SNR `start` to `end`."""
    down, _ = ancestral_step((-start).exp(), (-end).exp(), eta)
    h = -down.log() - start
    alpha, alpha_end = sigma * start.exp(), target * end.exp()
    return (alpha_end / alpha) * (-h).exp() * x - alpha_end * (-h).expm1() * denoised


def sample_dpmpp_2m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: str = "midpoint",
) -> Tensor:
    """Multistep of order two of the reverse SDE.

    Source: Lu et al. 2022 (arXiv 2211.01095), section 6; k-diffusion (MIT), `sample_dpmpp_2m_sde`.
    """
    between = noise.brownian(sigmas)
    model = denoise.model
    sigmas = usable_log_snr(model, sigmas)
    previous: Tensor | None = None
    h_last = sigmas[0]
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
        else:
            start, end = model.half_log_snr(sigma), model.half_log_snr(following)
            h = end - start
            h_eta = h * (eta + 1)
            alpha = following * end.exp()
            x = following / sigma * (-h * eta).exp() * x + alpha * (-h_eta).expm1().neg() * denoised
            if previous is not None:
                r = h_last / h
                if solver_type == "heun":
                    factor = alpha * ((-h_eta).expm1().neg() / (-h_eta) + 1)
                else:
                    factor = 0.5 * alpha * (-h_eta).expm1().neg()
                x = x + factor * (1 / r) * (denoised - previous)
            x = _with_sde_noise(x, sigma, following, h, between, eta, s_noise)
            h_last = h
        previous = denoised
        on_step(i, x, denoised)
    return x


def _with_sde_noise(
    x: Tensor,
    sigma: Tensor,
    following: Tensor,
    h: Tensor,
    between: Callable[[Tensor, Tensor], Tensor],
    eta: float,
    s_noise: float,
) -> Tensor:
    if not (eta > 0 and s_noise > 0):
        return x
    spread = (-2 * h * eta).expm1().neg().sqrt()
    return x + between(sigma, following) * following * spread * s_noise


def sample_dpmpp_2m_sde_heun(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """The same with Heun's correction. Source: k-diffusion (MIT), `sample_dpmpp_2m_sde`."""
    return sample_dpmpp_2m_sde(denoise, x, sigmas, noise=noise, on_step=on_step, solver_type="heun")


def sample_dpmpp_3m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Multistep of order three of the reverse SDE.

    Source: k-diffusion (MIT), `sample_dpmpp_3m_sde`.
    """
    between = noise.brownian(sigmas)
    model = denoise.model
    sigmas = usable_log_snr(model, sigmas)
    earlier: list[Tensor] = []  # predictions, newest first
    widths: list[Tensor] = []
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
        else:
            start, end = model.half_log_snr(sigma), model.half_log_snr(following)
            h = end - start
            h_eta = h * (eta + 1)
            alpha = following * end.exp()
            x = following / sigma * (-h * eta).exp() * x + alpha * (-h_eta).expm1().neg() * denoised
            phi_2 = h_eta.neg().expm1() / h_eta + 1
            if len(earlier) == 2:
                r0, r1 = widths[0] / h, widths[1] / h
                d1_0, d1_1 = (denoised - earlier[0]) / r0, (earlier[0] - earlier[1]) / r1
                d1 = d1_0 + (d1_0 - d1_1) * r0 / (r0 + r1)
                d2 = (d1_0 - d1_1) / (r0 + r1)
                phi_3 = phi_2 / h_eta - 0.5
                x = x + (alpha * phi_2) * d1 - (alpha * phi_3) * d2
            elif len(earlier) == 1:
                x = x + (alpha * phi_2) * ((denoised - earlier[0]) / (widths[0] / h))
            x = _with_sde_noise(x, sigma, following, h, between, eta, s_noise)
            widths = [h, *widths[:1]]
        earlier = [denoised, *earlier[:1]]
        on_step(i, x, denoised)
    return x
