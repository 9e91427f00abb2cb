"""Samplers that reuse the slopes of earlier steps: linear multistep, PNDM, DEIS, RES."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.diffusion.noise import NoiseSource
from engine.diffusion.samplers.base import Denoise, StepCallback, ancestral_step, slope, steps

# Nodes and weights of the 21-point Gauss-Kronrod rule, from the ends to the middle.
# Source: Piessens et al. 1983, QUADPACK, routine QK21.
_KRONROD = (
    (0.995657163025808080735527280689003, 0.011694638867371874278064396062192),
    (0.973906528517171720077964012084452, 0.032558162307964727478818972459390),
    (0.930157491355708226001207180059508, 0.054755896574351996031381300244580),
    (0.865063366688984510732096688423493, 0.075039674810919952767043140916190),
    (0.780817726586416897063717578345042, 0.093125454583697605535065465083366),
    (0.679409568299024406234327365114874, 0.109387158802297641899210590325805),
    (0.562757134668604683339000099272694, 0.123491976262065851077958109585166),
    (0.433395394129247190799265943165784, 0.134709217311473325928054001771707),
    (0.294392862701460198131126603103866, 0.142775938577060080797094273138717),
    (0.148874338981631210884826001129720, 0.147739104901338491374841515972068),
)
_KRONROD_MIDDLE = 0.149445554002916905664936468389821


def adams_weights(nodes: Sequence[float], start: float, end: float) -> list[float]:
    """Integrals over [start, end] of the Lagrange polynomials of the nodes.

    By quadrature with polynomials in single precision, which gives the rounding of the recorded
    values; with up to 20 nodes the rule itself is exact.
    Source: Hairer, Nørsett, Wanner, "Solving Ordinary Differential Equations I", III.1.
    """
    single = np.asarray(nodes, dtype=np.float32)
    centre, half = 0.5 * (start + end), 0.5 * (end - start)

    def polynomial(j: int, place: float) -> float:
        product = np.float32(1.0)
        for k, node in enumerate(single):
            if k != j:
                product = product * ((np.float32(place) - node) / (single[j] - node))
        return float(product)

    weights: list[float] = []
    for j in range(len(nodes)):
        total = _KRONROD_MIDDLE * polynomial(j, centre)
        for offset, weight in (*_KRONROD[1::2], *_KRONROD[::2]):
            ends = polynomial(j, centre - half * offset), polynomial(j, centre + half * offset)
            total += weight * (ends[0] + ends[1])
        weights.append(total * half)
    return weights


def sample_lms(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    order: int = 4,
) -> Tensor:
    """Adams-Bashforth steps on the schedule's own spacing.

    Source: k-diffusion (MIT), `sample_lms`; Liu et al. 2022 (PNDM, arXiv 2202.09778).
    """
    levels: list[float] = sigmas.tolist()
    slopes: list[Tensor] = []
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        slopes = [slope(x, sigma, denoised), *slopes[: order - 1]]
        if following == 0:
            x = denoised
        else:
            nodes = [levels[i - k] for k in range(len(slopes))]
            weights = adams_weights(nodes, levels[i], levels[i + 1])
            x = x + _weighted(weights, slopes)
        on_step(i, x, denoised)
    return x


def _weighted(weights: Sequence[float | Tensor], slopes: Sequence[Tensor]) -> Tensor:
    total = weights[0] * slopes[0]
    for weight, direction in zip(weights[1:], slopes[1:]):
        total = total + weight * direction
    return total


# Numerators and the common denominator, by the number of slopes.
_EQUAL_STEPS = {
    1: ((1,), 1),
    2: ((3, -1), 2),
    3: ((23, -16, 5), 12),
    4: ((55, -59, 37, -9), 24),
}


def equal_step_slope(slopes: Sequence[Tensor]) -> Tensor:
    """The Adams-Bashforth combination of up to four slopes, the newest first."""
    weights, divisor = _EQUAL_STEPS[len(slopes)]
    return _weighted(weights, slopes) / divisor


def sample_ipndm(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Adams-Bashforth steps with the weights of equal spacing.

    Source: Zhang and Chen 2023 (DEIS, arXiv 2204.13902), improved PNDM.
    """
    slopes: list[Tensor] = []
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        slopes = [slope(x, sigma, denoised), *slopes[:3]]
        if following == 0:
            x = denoised
        else:
            weights, divisor = _EQUAL_STEPS[len(slopes)]
            x = x + (following - sigma) * _weighted(weights, slopes) / divisor
        on_step(i, x, denoised)
    return x


def sample_ipndm_v(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Multistep whose weights follow the schedule's spacing, by nested corrections.

    Source: Zhou et al. 2023 (AMED, arXiv 2312.00094), the `ipndm_v` of diff-sampler (Apache-2.0).
    """
    slopes: list[Tensor] = []
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        slopes = [slope(x, sigma, denoised), *slopes[:3]]
        if following == 0:
            x = denoised
        else:
            widths = [sigmas[i + 1 - k] - sigmas[i - k] for k in range(len(slopes))]
            x = x + widths[0] * _weighted(_spaced_weights(widths), slopes)
        on_step(i, x, denoised)
    return x


def _spaced_weights(h: Sequence[Tensor]) -> tuple[Tensor | float, ...]:
    """The weights for the widths of the step and of those before it, newest first."""
    if len(h) == 1:
        return (1.0,)
    ratio = h[0] / h[1]
    if len(h) == 2:
        return ((2 + ratio) / 2, -ratio / 2)
    one = (1 - h[0] / (3 * (h[0] + h[1])) * (h[0] * (h[0] + h[1])) / (h[1] * (h[1] + h[2]))) / 2
    older = h[1] / h[2]
    if len(h) == 3:
        return ((2 + ratio) / 2 + one, -ratio / 2 - (1 + older) * one, one * h[1] / h[2])
    two = (
        (1 - h[0] / (3 * (h[0] + h[1]))) / 2
        + (1 - h[0] / (2 * (h[0] + h[1]))) * h[0] / (6 * (h[0] + h[1] + h[2]))
    ) * (
        (h[0] * (h[0] + h[1]) * (h[0] + h[1] + h[2]))
        / (h[1] * (h[1] + h[2]) * (h[1] + h[2] + h[3]))
    )
    oldest = h[1] * (h[1] + h[2]) / (h[2] * (h[2] + h[3]))
    return (
        (2 + ratio) / 2 + one + two,
        -ratio / 2 - (1 + older) * one - (1 + older + oldest) * two,
        one * h[1] / h[2] + (older + oldest * (1 + h[2] / h[3])) * two,
        -two * oldest * h[1] / h[2],
    )


def sample_deis(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Steps that integrate the network's polynomial exactly in the VP process's time.

    Source: Zhang and Chen 2023 (DEIS, arXiv 2204.13902), tAB-DEIS of order 3.
    """
    weights = deis_weights(sigmas, 3)
    slopes: list[Tensor] = []
    for i, sigma, following in steps(sigmas):
        denoised = denoise(x, sigma)
        slopes = [slope(x, sigma, denoised), *slopes[:2]]
        if following == 0:
            x = denoised
        elif i == 0:
            x = x + (following - sigma) * slopes[0]
        else:
            for weight, direction in zip(weights[i], slopes):
                x = x + weight * direction
        on_step(i, x, denoised)
    return x


def deis_weights(sigmas: Tensor, order: int, points: int = 10000) -> list[list[Tensor]]:
    """The weights of the slopes in each step, by summation over the step."""
    times, beta_0, beta_1 = _vp_times(sigmas)
    found: list[list[Tensor]] = []
    for i in range(len(times) - 1):
        used = min(i + 1, order)
        tau = torch.linspace(float(times[i]), float(times[i + 1]), points)
        width = (times[i + 1] - times[i]) / points
        with torch.enable_grad():  # the rounding of the closed form differs
            tau.requires_grad_(True)
            alpha = torch.exp(-0.5 * tau**2 * (beta_1 - beta_0) - tau * beta_0)
            (log_slope,) = torch.autograd.grad(alpha.log().sum(), tau)
        tau, alpha = tau.detach(), alpha.detach()
        integrand = -0.5 * log_slope / torch.sqrt(alpha * (1 - alpha))
        nodes = [times[i - k] for k in range(used)]
        row = []
        for j in range(used):
            polynomial = torch.ones_like(tau)
            for k in range(used):
                if k != j:
                    polynomial = polynomial * ((tau - nodes[k]) / (nodes[j] - nodes[k]))
            row.append(torch.sum(integrand * polynomial) * width)
        found.append(row)
    return found


def _vp_times(sigmas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Times of a linear VP process that has sigma 0.002 at time 0.001 and 80 at 1.

    The small sigma in single precision and the large one in double, whose rounding shows in the
    recorded values.
    """
    low = torch.log(torch.tensor(0.002) ** 2 + 1)
    high = torch.log(torch.tensor(80.0, dtype=torch.float64) ** 2 + 1)
    first = 1e-3
    growth = 2 * (low / first - high) / (first - 1)
    start = high - 0.5 * growth
    times = ((start**2 + 2 * growth * (sigmas.cpu() ** 2 + 1).log()).sqrt() - start) / growth
    return times, start, growth + start


def sample_res_multistep(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Exponential multistep of order two.

    Source: Zhang et al. 2023 (RES, arXiv 2308.02157), table 2.
    """
    return _res_multistep(denoise, x, sigmas, noise, on_step, eta=0.0, is_cfg_pp=False)


def sample_res_multistep_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """The same with ancestral noise. Source: Zhang et al. 2023 (RES, arXiv 2308.02157)."""
    return _res_multistep(denoise, x, sigmas, noise, on_step, eta=1.0, is_cfg_pp=False)


def sample_res_multistep_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """The same with CFG++. Source: arXiv 2308.02157 and arXiv 2406.08070."""
    return _res_multistep(denoise, x, sigmas, noise, on_step, eta=0.0, is_cfg_pp=True)


def sample_res_multistep_ancestral_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """The same with ancestral noise and CFG++. Source: arXiv 2308.02157 and arXiv 2406.08070."""
    return _res_multistep(denoise, x, sigmas, noise, on_step, eta=1.0, is_cfg_pp=True)


def _res_multistep(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    on_step: StepCallback,
    *,
    eta: float,
    is_cfg_pp: bool,
) -> Tensor:
    previous: Tensor | None = None
    previous_down = sigmas[0]
    for i, sigma, following in steps(sigmas):
        if is_cfg_pp:
            denoised, kept = denoise.with_uncond(x, sigma)
        else:
            denoised = kept = denoise(x, sigma)
        down, up = ancestral_step(sigma, following, eta)
        if down == 0 or previous is None:
            direction = slope(x, sigma, kept)
            x = denoised + direction * down if is_cfg_pp else x + direction * (down - sigma)
        else:
            t, t_old, t_next = -sigma.log(), -previous_down.log(), -down.log()
            h = t_next - t
            c2 = (-sigmas[i - 1].log() - t_old) / h
            first, second = _phi1(-h), _phi2(-h)
            b1 = torch.nan_to_num(first - second / c2, nan=0.0)
            b2 = torch.nan_to_num(second / c2, nan=0.0)
            if is_cfg_pp:
                x = x + (denoised - kept)
            x = (-h).exp() * x + h * (b1 * kept + b2 * previous)
        if following > 0 and eta > 0:
            x = x + noise.normal() * up
        previous, previous_down = kept, down
        on_step(i, x, denoised)
    return x


def _phi1(t: Tensor) -> Tensor:
    return torch.expm1(t) / t


def _phi2(t: Tensor) -> Tensor:
    return (_phi1(t) - 1.0) / t
