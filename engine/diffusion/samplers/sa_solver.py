"""SA-Solver: stochastic Adams steps with predictor and corrector."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from engine.diffusion.noise import NoiseSource
from engine.diffusion.samplers.base import Denoise, StepCallback, usable_log_snr


def sample_sa_solver(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    eta: float = 1.0,
    sde_start_percent: float = 0.2,
    sde_end_percent: float = 0.8,
    s_noise: float = 1.0,
    predictor_order: int = 3,
    corrector_order: int = 4,
    use_pece: bool = False,
    simple_order_2: bool = False,
) -> Tensor:
    """Stochastic Adams steps; noise (`eta`) only in a part of the process.

    `simple_order_2` takes closed forms for steps of order 2.

    Source: Xue et al. 2023 (SA-Solver, arXiv 2309.05019), algorithm 1.
    """
    if len(sigmas) <= 1:
        return x
    model = denoise.model
    sigmas = usable_log_snr(model, sigmas)
    lambdas = model.half_log_snr(sigmas)
    first, last = model.times.sigma_at(sde_start_percent), model.times.sigma_at(sde_end_percent)
    known: list[Tensor] = []
    most = max(predictor_order, corrector_order)
    ends_at_zero = bool(sigmas[-1] == 0)
    predicted, h, tau, added = x, lambdas.new_zeros(()), 0.0, torch.zeros_like(x)
    for i in range(len(sigmas) - 1):
        sigma, following = sigmas[i], sigmas[i + 1]
        denoised = denoise(predicted, sigma)
        on_step(i, predicted, denoised)
        known = [*known, denoised][-most:]
        use_p, use_c = min(predictor_order, len(known)), min(corrector_order, len(known))
        if i == 0 or (following == 0 and not use_pece):
            use_c = 0
        if ends_at_zero:
            use_p, use_c = min(use_p, len(sigmas) - 2 - i), min(use_c, len(sigmas) - 1 - i)
        if use_c == 0:
            x = predicted
        else:
            nodes = lambdas[i - use_c + 1 : i + 1]
            span = (lambdas[i - 1], lambdas[i])
            weights = (
                simple_corrector(sigma, *span, tau)
                if simple_order_2 and use_c == 2
                else adams_weights(sigma, nodes, *span, tau)
            )
            x = sigma / sigmas[i - 1] * (-(tau**2) * h).exp() * x + _mixed(known, weights)
            x = x + added
            if use_pece:
                known[-1] = denoised = denoise(x, sigma)
        if following == 0:
            predicted = denoised
        else:
            tau = eta if first >= float(following) >= last else 0.0
            nodes = lambdas[i - use_p + 1 : i + 1]
            span = (lambdas[i], lambdas[i + 1])
            weights = (
                simple_predictor(following, nodes[0], *span, tau)
                if simple_order_2 and use_p == 2
                else adams_weights(following, nodes, *span, tau)
            )
            h = lambdas[i + 1] - lambdas[i]
            predicted = following / sigma * (-(tau**2) * h).exp() * x + _mixed(known, weights)
            added = torch.zeros_like(x)
            if tau > 0 and s_noise > 0:
                spread = (-2 * tau**2 * h).expm1().neg().sqrt()
                added = noise.normal() * following * spread * s_noise
                predicted = predicted + added
    return predicted


def sample_sa_solver_pece(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """The same, evaluated again after each correction. Source: arXiv 2309.05019, algorithm 1."""
    return sample_sa_solver(denoise, x, sigmas, noise=noise, on_step=on_step, use_pece=True)


def _mixed(known: Sequence[Tensor], weights: Tensor) -> Tensor:
    """The newest predictions, weighted."""
    stacked = torch.stack(list(known[-len(weights) :]), dim=1)
    axes: Any = ([1], [0])
    return torch.tensordot(stacked, weights.to(stacked), dims=axes)


def adams_weights(sigma: Tensor, nodes: Tensor, start: Tensor, end: Tensor, tau: float) -> Tensor:
    """How much each known prediction counts in a step of log SNR from `start` to `end`.

    The integral of (1 + tau²) e^{(1 + tau²)(lambda - end)} times the Lagrange polynomials of the
    nodes, times alpha at the end. In single precision, as the recorded values are.
    """
    matrix = torch.vander(nodes, len(nodes), increasing=True).T
    moments = _moments(1 + tau**2, start, end, len(nodes))
    return sigma * end.exp() * torch.linalg.solve(matrix, moments)


def simple_predictor(
    sigma: Tensor, before: Tensor, start: Tensor, end: Tensor, tau: float
) -> Tensor:
    """The weights of two known predictions, with the integral of the slope to second order.

    Source: Lu et al. 2022 (DPM-Solver++, arXiv 2211.01095), equation 14 for tau = 0: the weight of
    the difference quotient is (1 + tau²) h² / 2 instead of its exact integral.
    """
    total, speed = _total(sigma, start, end, tau)
    older = sigma * end.exp() * (0.5 * speed * (end - start) ** 2) / (before - start)
    return torch.stack([older, total - older])


def simple_corrector(sigma: Tensor, start: Tensor, end: Tensor, tau: float) -> Tensor:
    """The weights of the predictions at both ends of a step: the newer one (1 + tau²) h / 2.

    Source: Zhao et al. 2023 (UniPC, arXiv 2302.04867), order 2 with B(h) = h.
    """
    total, speed = _total(sigma, start, end, tau)
    newer = sigma * end.exp() * (0.5 * speed * (end - start))
    return torch.stack([total - newer, newer])


def _total(sigma: Tensor, start: Tensor, end: Tensor, tau: float) -> tuple[Tensor, float]:
    """All weights together, and how fast the past decays."""
    speed = 1 + tau**2
    return sigma * end.exp() * (-(end - start) * speed).expm1().neg(), speed


def _moments(speed: float, start: Tensor, end: Tensor, count: int) -> Tensor:
    """Integrals of speed · e^{speed (u - end)} u^p over u in [start, end], p = 0 … count - 1.

    By parts, written out: sum over k of (-1/speed)^k p!/(p - k)! times the bounds of u^{p - k}.
    """
    decay = (-speed * (end - start)).exp()
    found: list[Tensor] = []
    for p in range(count):
        integral = torch.zeros_like(end)
        for k in range(p + 1):
            bounds = end ** (p - k) - decay * start ** (p - k)
            integral = integral + (-1) ** k * math.perm(p, k) * bounds / speed**k
        found.append(integral)
    return torch.stack(found)
