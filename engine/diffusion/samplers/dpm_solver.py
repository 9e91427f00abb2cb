"""DPM-Solver with a budget of evaluations (fast) or an error bound (adaptive)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.diffusion.noise import NoiseSource
from engine.diffusion.samplers.base import Denoise, StepCallback, ancestral_step


@dataclass(slots=True)
class _Solver:
    """Steps of order 1 to 3 in t = -log sigma, with the noise predictions of one place kept."""

    denoise: Denoise
    last: Tensor | None = None

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise that the model sees."""
        sigma = (-t).exp()
        self.last = self.denoise(x, sigma)
        return (x - self.last) / sigma

    def first(self, x: Tensor, t: Tensor, t_next: Tensor, eps: Tensor) -> Tensor:
        return x - (-t_next).exp() * (t_next - t).expm1() * eps

    def second(
        self, x: Tensor, t: Tensor, t_next: Tensor, eps: Tensor, r1: float = 0.5
    ) -> tuple[Tensor, Tensor]:
        """The step, and the inner noise prediction, which a step of order 3 uses again."""
        h = t_next - t
        s1 = t + r1 * h
        eps_r1 = self.eps(x - (-s1).exp() * (r1 * h).expm1() * eps, s1)
        x = x - (-t_next).exp() * h.expm1() * eps
        return x - (-t_next).exp() / (2 * r1) * h.expm1() * (eps_r1 - eps), eps_r1

    def third(
        self,
        x: Tensor,
        t: Tensor,
        t_next: Tensor,
        eps: Tensor,
        eps_r1: Tensor | None = None,
        r1: float = 1 / 3,
        r2: float = 2 / 3,
    ) -> Tensor:
        h = t_next - t
        if eps_r1 is None:
            s1 = t + r1 * h
            eps_r1 = self.eps(x - (-s1).exp() * (r1 * h).expm1() * eps, s1)
        s2 = t + r2 * h
        inner = x - (-s2).exp() * (r2 * h).expm1() * eps
        growth = (r2 * h).expm1() / (r2 * h) - 1
        eps_r2 = self.eps(inner - (-s2).exp() * (r2 / r1) * growth * (eps_r1 - eps), s2)
        x = x - (-t_next).exp() * h.expm1() * eps
        return x - (-t_next).exp() / r2 * (h.expm1() / h - 1) * (eps_r2 - eps)


def sample_dpm_fast(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: StepCallback
) -> Tensor:
    """Steps of order three, two and one that spend exactly as many evaluations as steps asked for.

    Uses only the ends of the schedule.
    Source: Lu et al. 2022 (DPM-Solver, arXiv 2206.00927), section 3.4, "DPM-Solver-fast".
    """
    if len(sigmas) <= 1:
        return x
    sigma_min, budget = _lowest(sigmas), len(sigmas) - 1
    t_start, t_end = -sigmas[0].log(), -sigma_min.log()
    count = budget // 3 + 1
    times = torch.linspace(float(t_start), float(t_end), count + 1, device=x.device)
    orders = [3] * (count - 2) + [2, 1] if budget % 3 == 0 else [3] * (count - 1) + [budget % 3]
    solver = _Solver(denoise)
    for i, order in enumerate(orders):
        t, t_next = times[i], times[i + 1]
        eps = solver.eps(x, t)
        denoised = x - (-t).exp() * eps
        if order == 1:
            x = solver.first(x, t, t_next, eps)
        elif order == 2:
            x, _ = solver.second(x, t, t_next, eps)
        else:
            x = solver.third(x, t, t_next, eps)
        on_step(min(i * 3 + order, budget) - 1, x, denoised)
    return x


def sample_dpm_adaptive(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: StepCallback,
    order: int = 3,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_init: float = 0.05,
    pcoeff: float = 0.0,
    icoeff: float = 1.0,
    dcoeff: float = 0.0,
    accept_safety: float = 0.81,
    eta: float = 0.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Steps as long as the error between two orders allows; uses only the schedule's ends.

    Source: Lu et al. 2022 (DPM-Solver, arXiv 2206.00927), appendix C; k-diffusion (MIT).
    """
    if len(sigmas) <= 1:
        return x
    t_end = -_lowest(sigmas).log()
    s, total = -sigmas[0].log(), len(sigmas) - 1
    t_start = s
    strong_order = 1.5 if eta else order  # noise lowers it
    control = _StepControl(h_init, pcoeff, icoeff, dcoeff, strong_order, accept_safety)
    solver = _Solver(denoise)
    previous = x
    while s < t_end - 1e-5:
        t = torch.minimum(t_end, s + control.h)
        target, up = t, torch.zeros_like(t)
        if eta:
            down, up = ancestral_step((-s).exp(), (-t).exp(), eta)
            target = torch.minimum(t_end, -down.log())
            up = ((-t).exp() ** 2 - (-target).exp() ** 2) ** 0.5
        eps = solver.eps(x, s)
        denoised = x - (-s).exp() * eps
        if order == 2:
            low = solver.first(x, s, target, eps)
            high, _ = solver.second(x, s, target, eps)
        else:
            low, eps_r1 = solver.second(x, s, target, eps, r1=1 / 3)
            high = solver.third(x, s, target, eps, eps_r1)
        bound = torch.clamp(rtol * torch.maximum(low.abs(), previous.abs()), min=atol)
        error = float(torch.linalg.norm((low - high) / bound) / x.numel() ** 0.5)
        if control.accepts(error):
            previous = low
            x = high + up * s_noise * noise.normal() if eta else high
            s = t
            share = float((s - t_start) / (t_end - t_start))
            on_step(min(total, max(1, round(share * total))) - 1, x, denoised)
    return x


def _lowest(sigmas: Tensor) -> Tensor:
    """The last level that is not 0."""
    return sigmas[-2] if sigmas[-1] == 0 else sigmas[-1]


class _StepControl:
    """Step lengths by a PID rule on the error. Source: Söderlind 2003; k-diffusion (MIT)."""

    def __init__(
        self,
        h: float,
        pcoeff: float,
        icoeff: float,
        dcoeff: float,
        order: float,
        accept_safety: float,
    ) -> None:
        self.h = h
        self._powers = (
            (pcoeff + icoeff + dcoeff) / order,
            -(pcoeff + 2 * dcoeff) / order,
            dcoeff / order,
        )
        self._accept_safety = accept_safety
        self._accepted: list[float] = []  # inverse errors of the last two accepted steps

    def accepts(self, error: float) -> bool:
        """Whether the step holds; sets the length of the next one."""
        inverse = 1 / (error + 1e-8)
        if not self._accepted:
            self._accepted = [inverse, inverse]
        factor = 1.0
        for value, power in zip([inverse, *self._accepted], self._powers):
            factor *= value**power
        factor = 1 + math.atan(factor - 1)
        is_accepted = factor >= self._accept_safety
        if is_accepted:
            self._accepted = [inverse, self._accepted[0]]
        self.h *= factor
        return is_accepted
