"""UniPC: a predictor and a corrector of the same order that share their evaluations."""

import torch
from torch import Tensor

from engine.diffusion.noise import NoiseSource
from engine.diffusion.samplers.base import Denoise, StepCallback

LAST_SIGMA = 0.001  # stands for 0, which has no log SNR


def sample_uni_pc(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """UniPC with B1(h) = h. Source: Zhao et al. 2023 (UniPC, arXiv 2302.04867), algorithm 5."""
    return _uni_pc(denoise, x, sigmas, on_step, is_bh2=False)


def sample_uni_pc_bh2(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """UniPC with B2(h) = e^h - 1. Source: Zhao et al. 2023 (UniPC, arXiv 2302.04867)."""
    return _uni_pc(denoise, x, sigmas, on_step, is_bh2=True)


def _uni_pc(
    denoise: Denoise, x: Tensor, sigmas: Tensor, on_step: StepCallback, *, is_bh2: bool
) -> Tensor:
    """Works on the variance-preserving latent x / sqrt(1 + sigma²)."""
    if len(sigmas) <= 1:
        return x
    levels = sigmas.clone()
    if levels[-1] == 0:
        levels[-1] = LAST_SIGMA
    count = len(levels) - 1
    order = min(3, len(levels) - 2)
    x = x / torch.sqrt(1.0 + levels[0] ** 2.0)

    def predict(x: Tensor, sigma: Tensor) -> Tensor:
        # By way of the noise, as the paper's code does: the rounding is then the same.
        scaled = x * torch.sqrt(1.0 + sigma**2.0)
        eps = (scaled - denoise(scaled, sigma)) / sigma
        return (x - _spread(sigma) * eps) / _alpha(sigma)

    known_x = [predict(x, levels[0])]
    known_s = [levels[0]]
    on_step(0, x, known_x[-1])
    for i in range(1, count + 1):
        used = min(i, order, count + 1 - i) if i >= order else i
        target = levels[i]
        predicted = _step(x, known_x[-used:], known_s[-used:], target, None, is_bh2)
        if i < count:
            fresh = predict(predicted, target)
            x = _step(x, known_x[-used:], known_s[-used:], target, fresh, is_bh2)
            known_x = [*known_x[-2:], fresh]
            known_s = [*known_s[-2:], target]
            on_step(i, x, fresh)
        else:
            x = predicted
    x = x / _alpha(levels[-1])
    if denoise.model.is_flow and sigmas[-1] == 0:
        x = x / (1.0 - LAST_SIGMA)  # the reference engine scales by the level it replaced
    return x


def _alpha(sigma: Tensor) -> Tensor:
    return torch.exp(_log_alpha(sigma))


def _log_alpha(sigma: Tensor) -> Tensor:
    return 0.5 * torch.log(1 / (sigma * sigma + 1))


def _spread(sigma: Tensor) -> Tensor:
    return torch.sqrt(1.0 - torch.exp(2.0 * _log_alpha(sigma)))


def _log_snr(sigma: Tensor) -> Tensor:
    mean = _log_alpha(sigma)
    return mean - 0.5 * torch.log(1.0 - torch.exp(2.0 * mean))


def _step(
    x: Tensor,
    known_x: list[Tensor],
    known_s: list[Tensor],
    target: Tensor,
    fresh: Tensor | None,
    is_bh2: bool,
) -> Tensor:
    """The predictor (`fresh` is None), or the corrector with a prediction at the target.

    Source: Zhao et al. 2023, equations 3 and 9, data prediction form (their appendix A).
    """
    start, end = _log_snr(known_s[-1]), _log_snr(target)
    h = end - start
    x0 = known_x[-1]
    order = len(known_x)
    rks = [(_log_snr(known_s[-(k + 1)]) - start) / h for k in range(1, order)]
    differences = [(known_x[-(k + 1)] - x0) / rk for k, rk in zip(range(1, order), rks)]
    points = torch.stack([*rks, torch.ones_like(h)])
    growth = torch.expm1(-h)
    bh = growth if is_bh2 else -h
    matrix, right = _system(points, -h, growth, bh)
    base = _spread(target) / _spread(known_s[-1]) * x - _alpha(target) * growth * x0
    if fresh is None:
        if order == 1:
            return base
        # The paper's simplification for order 2: one half.
        weights = (
            points.new_tensor([0.5])
            if order == 2
            else torch.linalg.solve(matrix[:-1, :-1], right[:-1])
        )
        correction = sum(w * d for w, d in zip(weights, differences))
    else:
        weights = points.new_tensor([0.5]) if order == 1 else torch.linalg.solve(matrix, right)
        correction = sum((w * d for w, d in zip(weights, differences)), torch.zeros_like(x))
        correction = correction + weights[-1] * (fresh - x0)
    return base - _alpha(target) * bh * correction


def _system(points: Tensor, hh: Tensor, growth: Tensor, bh: Tensor) -> tuple[Tensor, Tensor]:
    """The linear system whose solution weighs the differences."""
    rows, right = [], []
    phi = growth / hh - 1
    factorial = 1
    for i in range(1, len(points) + 1):
        rows.append(points ** (i - 1))
        right.append(phi * factorial / bh)
        factorial *= i + 1
        phi = phi / hh - 1 / factorial
    return torch.stack(rows), torch.stack(right)
