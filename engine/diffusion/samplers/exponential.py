"""Stochastic exponential integrators: SEEDS and ER-SDE."""

from itertools import pairwise

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
    sigmas = usable_log_snr(denoise.model, sigmas)
    share = 1 / (2 * r)
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
        else:
            step = _Stages(denoise, sigma, following, eta)
            drawn = _path_noise(noise, step.h, eta, s_noise, (0.0, r, 1.0))
            half = step.place(r, x, (-r * step.h_eta).expm1(), denoised, drawn[0])
            mixed = (1 - share) * denoised + share * denoise(half, step.level(r))
            x = step.place(1.0, x, (-step.h_eta).expm1(), mixed, drawn[1])
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
    sigmas = usable_log_snr(denoise.model, sigmas)
    r1, r2 = 1.0 / 3, 2.0 / 3
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
        else:
            step = _Stages(denoise, sigma, following, eta)
            drawn = _path_noise(noise, step.h, eta, s_noise, (0.0, r1, r2, 1.0))
            one = step.place(r1, x, (-r1 * step.h_eta).expm1(), denoised, drawn[0])
            denoised_1 = denoise(one, step.level(r1))
            b = r2 / r1 * _phi_2(-r2 * step.h_eta)
            mixed = ((-r2 * step.h_eta).expm1() - b) * denoised + b * denoised_1
            two = step.place(r2, x, 1.0, mixed, drawn[1])
            denoised_2 = denoise(two, step.level(r2))
            b = _phi_2(-step.h_eta) / r2
            mixed = ((-step.h_eta).expm1() - b) * denoised + b * denoised_2
            x = step.place(1.0, x, 1.0, mixed, drawn[2])
        on_step(i, x, denoised)
    return x


def _phi_2(t: Tensor) -> Tensor:
    return (t.expm1() - t) / t


class _Stages:
    """The places inside one step, by their share of its log SNR."""

    def __init__(self, denoise: Denoise, sigma: Tensor, following: Tensor, eta: float) -> None:
        self._model, self._sigma, self._following, self._eta = (
            denoise.model,
            sigma,
            following,
            eta,
        )
        self._start, self._end = (denoise.model.half_log_snr(s) for s in (sigma, following))
        self.h = self._end - self._start
        self.h_eta = self.h * (eta + 1)

    def level(self, share: float) -> Tensor:
        """The sigma at a place."""
        return self._model.sigma_of_half_log_snr(torch.lerp(self._start, self._end, share))

    def place(
        self, share: float, x: Tensor, growth: Tensor | float, prediction: Tensor, noise: Tensor
    ) -> Tensor:
        """The latent at a place, from the one at the step's start."""
        if share == 1.0:
            level, place = self._following, self._end
        else:
            level, place = self.level(share), torch.lerp(self._start, self._end, share)
        kept = level / self._sigma * (-share * self.h * self._eta).exp() * x
        return kept - level * place.exp() * growth * prediction + noise * level


def _path_noise(
    noise: NoiseSource, h: Tensor, eta: float, s_noise: float, shares: tuple[float, ...]
) -> list[Tensor]:
    """One noise path of a step at its inner points, each in units of the sigma there."""
    if not (eta > 0 and s_noise > 0):
        return [torch.zeros_like(h)] * (len(shares) - 1)
    path: list[Tensor] = []
    for before, after in pairwise(shares):
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
