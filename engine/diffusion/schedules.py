"""Sigma schedules: falling lists of noise levels that end in 0. Knows no sampler and no network."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.parameterization import Parameterization

Schedule = Callable[[Parameterization, int], Tensor]


def with_zero(sigmas: Tensor) -> Tensor:
    """The list with a 0 at its end."""
    return torch.cat([sigmas, sigmas.new_zeros([1])])


def _check_positive(**values: float) -> None:
    """Raises: NodeError, naming the first value that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise NodeError(f"{name} is {value}, but this schedule needs more than 0.")


# Schedules of bounds alone ------------------------------------------------------------------------


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Evenly spaced in sigma^(1/rho).

    Source: Karras et al. 2022 (arXiv 2206.00364), equation 5.
    """
    _check_positive(rho=rho)
    ramp = torch.linspace(0, 1, steps)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return with_zero((high + ramp * (low - high)) ** rho)


def exponential(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Evenly spaced in log sigma. Source: k-diffusion (MIT), `get_sigmas_exponential`."""
    _check_positive(sigma_min=sigma_min, sigma_max=sigma_max)
    return with_zero(torch.linspace(math.log(sigma_max), math.log(sigma_min), steps).exp())


def polyexponential(steps: int, sigma_min: float, sigma_max: float, rho: float = 1.0) -> Tensor:
    """A power of a ramp in log sigma. Source: k-diffusion (MIT), `get_sigmas_polyexponential`."""
    _check_positive(sigma_min=sigma_min, sigma_max=sigma_max)
    ramp = torch.linspace(1, 0, steps) ** rho
    low, high = math.log(sigma_min), math.log(sigma_max)
    return with_zero(torch.exp(ramp * (high - low) + low))


def laplace(
    steps: int, sigma_min: float, sigma_max: float, mu: float = 0.0, beta: float = 0.5
) -> Tensor:
    """Log sigma at the quantiles of a Laplace distribution; ends at the smallest noise, not at 0.

    Source: Hang et al. 2024 (arXiv 2407.03297), section 3.2.
    """
    x = torch.linspace(0, 1, steps)
    spread = 1 - 2 * torch.abs(0.5 - x) + 1e-5
    lmb = mu - beta * torch.sign(0.5 - x) * torch.log(spread)
    return torch.clamp(torch.exp(lmb), min=sigma_min, max=sigma_max)


def variance_preserving(
    steps: int, beta_d: float = 19.9, beta_min: float = 0.1, eps_s: float = 1e-3
) -> Tensor:
    """The continuous VP process at even times. Source: Song et al. 2021 (arXiv 2011.13456)."""
    t = torch.linspace(1, eps_s, steps)
    return with_zero(torch.sqrt(torch.special.expm1(beta_d * t**2 / 2 + beta_min * t)))


ALIGNED = {
    "SD1": (
        *(14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092),
        *(0.9642583904, 0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582),
    ),
    "SDXL": (
        *(14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141),
        *(0.5550693289, 0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582),
    ),
    "SVD": (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


def align_your_steps(model_type: str, steps: int, denoise: float = 1.0) -> Tensor:
    """Published optimal levels for ten steps, log-linear between them.

    Source: Sabour et al. 2024 (Align Your Steps, arXiv 2404.14507), the tables of its quickstart.
    """
    kept = steps if denoise >= 1.0 else round(steps * denoise)
    if kept <= 0:
        return torch.zeros(0)
    table = torch.tensor(ALIGNED[model_type], dtype=torch.float64).log()
    if steps + 1 != len(table):
        place = torch.linspace(0, len(table) - 1, steps + 1, dtype=torch.float64)
        low = place.floor().long().clamp(max=len(table) - 2)
        table = table[low] + (place - low) * (table[low + 1] - table[low])
    return with_zero(table.exp().float()[-(kept + 1) : -1])


def split_at(sigmas: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """The schedule up to a step, and from it on."""
    return sigmas[: step + 1], sigmas[step:]


def split_denoise(sigmas: Tensor, denoise: float) -> tuple[Tensor, Tensor]:
    """The schedule before its last `denoise` share, and that share."""
    kept = round((len(sigmas) - 1) * denoise)
    return sigmas[:-kept] if kept else sigmas, sigmas[-(kept + 1) :]


EASING: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "cosine": lambda x: torch.sin(x * math.pi / 2),
    "sine": lambda x: 1 - torch.cos(x * math.pi / 2),
}


def extended(sigmas: Tensor, steps: int, start: float, end: float, spacing: str) -> Tensor:
    """The schedule with each step that begins between two sigmas divided into `steps`.

    A negative `start` means no upper bound. `spacing` is a name of EASING: "cosine" has the new
    levels nearer to the step's end, "sine" nearer to its start.
    """
    if len(sigmas) == 0:
        return sigmas
    shares = EASING[spacing](torch.linspace(0, 1, steps + 1, dtype=sigmas.dtype)[:-1])
    pieces = [
        sigma + (following - sigma) * shares
        if end <= float(sigma) and (start < 0 or float(sigma) <= start)
        else sigma[None]
        for sigma, following in pairwise(sigmas)
    ]
    return torch.cat([*pieces, sigmas[-1:]])


def flipped(sigmas: Tensor) -> Tensor:
    """The schedule from little to much noise; a leading 0 becomes 0.0001, so that it can start."""
    turned = sigmas.flip(0)
    if len(turned) and float(turned[0]) == 0.0:
        turned[0] = 0.0001
    return turned


def with_first(sigmas: Tensor, sigma: float) -> Tensor:
    """The schedule with another first level."""
    changed = sigmas.clone()
    changed[:1] = sigma
    return changed


def sigma_at(model: Parameterization, percent: float, *, is_actual: bool) -> float:
    """The sigma at a share of the process; `is_actual` keeps the ends within the model's range."""
    if is_actual and percent in (0.0, 1.0):
        return model.sigma_min if percent else model.sigma_max
    return model.times.sigma_at(percent)


# Schedules of a model -----------------------------------------------------------------------------


def simple(model: Parameterization, steps: int) -> Tensor:
    """Every n-th entry of the table, from its end."""
    stride = len(model.sigmas) / steps
    return with_zero(torch.stack([model.sigmas[-(1 + int(i * stride))] for i in range(steps)]))


def ddim_uniform(model: Parameterization, steps: int) -> Tensor:
    """Even times, counted from the table's start. Source: Song et al. 2021 (DDIM), section 5."""
    table = model.sigmas
    if math.isclose(float(table[1]), 0.0, abs_tol=1e-5):
        steps += 1
        picked: list[Tensor] = []
    else:
        picked = [table.new_zeros(())]
    stride = max(len(table) // steps, 1)
    picked += [table[i] for i in range(1, len(table), stride)]
    return torch.stack(picked[::-1])


def leading(model: Parameterization, steps: int, offset: int, *, ends_in_zero: bool) -> Tensor:
    """Every n-th timestep from `offset` on; the last level is that of timestep 0, or 0.

    Source: Song et al. 2021 (DDIM, arXiv:2010.02502) section 5; `timestep_spacing="leading"`,
    `steps_offset` and `set_alpha_to_one` of diffusers' schedulers (Apache-2.0).
    Raises: NodeError for more steps than the model has.
    """
    table = model.sigmas
    if steps > len(table):
        raise NodeError(
            f"{steps} steps are more than the model's {len(table)}.", hint="Use fewer steps."
        )
    stride = len(table) // steps
    places = torch.arange(steps).mul(stride).add(offset).clamp(max=len(table) - 1)
    end = table.new_zeros(1) if ends_in_zero else table[:1]
    return torch.cat([table[places.flip(0)], end])


def normal(model: Parameterization, steps: int) -> Tensor:
    """Even network times from the largest noise to the smallest."""
    start, end = _time_bounds(model)
    if math.isclose(float(model.times.sigma(end)), 0.0, abs_tol=1e-5):
        return _sigmas_at(model, torch.linspace(float(start), float(end), steps + 1))
    return with_zero(_sigmas_at(model, torch.linspace(float(start), float(end), steps)))


def sgm_uniform(model: Parameterization, steps: int) -> Tensor:
    """Even network times without the smallest noise. Source: generative-models (MIT)."""
    start, end = _time_bounds(model)
    times = torch.linspace(float(start), float(end), steps + 1)[:-1]
    return with_zero(_sigmas_at(model, times))


def _time_bounds(model: Parameterization) -> tuple[Tensor, Tensor]:
    return model.timestep(model.sigmas[-1:])[0], model.timestep(model.sigmas[:1])[0]


def _sigmas_at(model: Parameterization, times: Tensor) -> Tensor:
    return torch.stack([model.times.sigma(t) for t in times])


def beta(model: Parameterization, steps: int, alpha: float = 0.6, beta: float = 0.6) -> Tensor:
    """Times at the quantiles of a Beta distribution. Source: Lee et al. 2024 (arXiv 2407.12173)."""
    _check_positive(alpha=alpha, beta=beta)
    last = len(model.sigmas) - 1
    picked: list[int] = []
    for i in range(steps):
        index = round(beta_quantile(1 - i / steps, alpha, beta) * last)
        if not picked or index != picked[-1]:
            picked.append(index)
    return with_zero(model.sigmas[torch.tensor(picked, dtype=torch.long)])


def beta_quantile(p: float, a: float, b: float) -> float:
    """Where the regularised incomplete beta function is p, by bisection."""
    if p <= 0.0 or p >= 1.0:
        return min(max(p, 0.0), 1.0)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_share(middle, a, b) < p else (low, middle)
    return (low + high) / 2


def beta_share(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b).

    Source: NIST DLMF 8.17.22, its continued fraction evaluated by Lentz's method.
    """
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_share(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(log_front + a * math.log(x) + b * math.log1p(-x)) / a
    value, c, d = 1.0, 1.0, 0.0
    for i in range(300):
        m = i // 2
        if i == 0:
            step = 1.0
        elif i % 2 == 0:
            step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / _not_zero(1 + step * d)
        c = _not_zero(1 + step / c)
        value *= c * d
        if abs(1 - c * d) < 1e-13:
            break
    return front * (value - 1)


def _not_zero(x: float) -> float:
    return x if abs(x) > 1e-300 else 1e-300


def linear_quadratic(model: Parameterization, steps: int, threshold: float = 0.025) -> Tensor:
    """Linear in the first half, then quadratic.

    Source: Polyak et al. 2024 (Movie Gen, arXiv 2410.13720), section 3.4.2.
    """
    if steps == 1:
        shares = [1.0, 0.0]
    else:
        half = steps // 2
        rest = steps - half
        gap = half - threshold * steps
        square = gap / (half * rest**2)
        slope = threshold / half - 2 * gap / rest**2
        constant = square * half**2
        done = [i * threshold / half for i in range(half)]
        done += [square * i**2 + slope * i + constant for i in range(half, steps)]
        shares = [1.0 - d for d in [*done, 1.0]]
    return torch.tensor(shares) * model.sigma_max


def kl_optimal(model: Parameterization, steps: int) -> Tensor:
    """Even in the angle atan(sigma).

    Source: Sabour et al. 2024 (Align Your Steps, arXiv 2404.14507), equation 33. One step has no
    such schedule: NaN, as in the reference engine, which the sampler reports.
    """
    share = torch.arange(steps, dtype=torch.float) / torch.tensor(steps - 1.0)
    low, high = math.atan(model.sigma_min), math.atan(model.sigma_max)
    return with_zero((share * low + (1 - share) * high).tan())


def sd_turbo(model: Parameterization, steps: int, denoise: float = 1.0) -> Tensor:
    """Times 999, 899 … that SD-Turbo was distilled to. Source: Sauer et al. 2023 (ADD)."""
    first = 10 - int(10 * denoise)
    times = (torch.arange(1, 11) * 100 - 1).flip(0)[first : first + steps]
    return with_zero(model.times.sigma(times))


SCHEDULES: dict[str, Schedule] = {
    "simple": simple,
    "sgm_uniform": sgm_uniform,
    "karras": lambda model, steps: karras(steps, model.sigma_min, model.sigma_max),
    "exponential": lambda model, steps: exponential(steps, model.sigma_min, model.sigma_max),
    "ddim_uniform": ddim_uniform,
    "beta": beta,
    "normal": normal,
    "linear_quadratic": linear_quadratic,
    "kl_optimal": kl_optimal,
}
SCHEDULE_NAMES = tuple(SCHEDULES)


def schedule(model: Parameterization, name: str, steps: int, denoise: float = 1.0) -> Tensor:
    """The last `denoise` share of a schedule, in `steps` steps. Empty if nothing is left to do."""
    if denoise <= 0.0:
        return torch.zeros(0)
    total = steps if denoise > 0.9999 else int(steps / denoise)
    return SCHEDULES[name](model, total)[-(steps + 1) :]
