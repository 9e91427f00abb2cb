"""How the learning rate runs: warm-up, then constant, linear, cosine or polynomial to an end."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

RateKind = Literal["constant", "linear", "cosine", "polynomial"]
RATE_KINDS: tuple[RateKind, ...] = get_args(RateKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSettings:
    """The course of the learning rate, as a factor 0..1 of the optimizer's own rate.

    `hold` is the share of the run at the full rate before it falls; None: it falls from the end of
    the warm-up on. `final` is the factor at the end; `power` belongs to `polynomial`.
    """

    kind: RateKind = "constant"
    warmup_steps: int = 0
    hold: float | None = None
    final: float = 0.0
    power: float = 1.0


def rate_factor(rate: RateSettings, step: int, progress: float) -> float:
    """The factor for the step of that number (from 0) at that share of the run.

    Source: Loshchilov & Hutter 2017 (arXiv:1608.03983) eq. 5, without restarts, for the cosine;
    the polynomial of Chen et al. 2017 (arXiv:1606.00915) section 4.1.2.
    """
    warm = min(1.0, (step + 1) / max(1, rate.warmup_steps))
    if rate.kind == "constant":
        return warm
    left = 1 - _fall(rate, step, progress)
    match rate.kind:
        case "cosine":
            left = 0.5 * (1 - math.cos(math.pi * left))
        case "polynomial":
            left = left**rate.power
        case "linear":
            pass
    return warm * (rate.final + (1 - rate.final) * left)


def _fall(rate: RateSettings, step: int, progress: float) -> float:
    """How much of the falling part is over, 0..1."""
    start = rate.hold
    if start is None:
        total = step / progress if progress > 0 else math.inf
        start = min(1.0, rate.warmup_steps / total)
    return min(1.0, max(0.0, (progress - start) / max(1e-9, 1 - start)))
