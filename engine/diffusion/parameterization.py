"""What a network's output means: noise levels, times and scalings. Knows no network and no sampler.

`sigma` is the noise level as samplers see it; `t` is the network's own time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from engine.api.errors import NodeError

Kind = Literal["eps", "v", "x0", "edm", "flow", "lcm", "img_to_img"]

# "Before everything": above the noise of any schedule.
ALWAYS = 999999999.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How noise levels and network times belong together.

    `sigmas` is the rising table that discrete schedules pick from; `sigma_at` maps a share of the
    sampling process (0 = start, 1 = end) to a sigma.
    """

    sigmas: Tensor
    timestep: Callable[[Tensor], Tensor]
    sigma: Callable[[Tensor], Tensor]
    sigma_at: Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class Parameterization:
    """The meaning of a network's output at a noise level.

    Shapes: x (B, …), sigma (B,) or one number per call.
    """

    kind: Kind
    times: Times
    sigma_data: float = 1.0

    @property
    def sigmas(self) -> Tensor:
        return self.times.sigmas

    @cached_property
    def sigma_min(self) -> float:
        return float(self.times.sigmas[0])

    @cached_property
    def sigma_max(self) -> float:
        return float(self.times.sigmas[-1])

    @property
    def is_flow(self) -> bool:
        return self.kind == "flow"

    def timestep(self, sigma: Tensor) -> Tensor:
        """The network's time at a noise level."""
        return self.times.timestep(sigma)

    def scale_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        """What the network is fed for a noisy latent."""
        if self.kind in ("flow", "img_to_img"):
            return x
        sigma = _like(sigma, x)
        return x / (sigma**2 + self.sigma_data**2) ** 0.5

    def denoised(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        """The clean latent that a network output stands for.

        Source: Karras et al. 2022 (arXiv 2206.00364), table 1; Salimans and Ho 2022 for v.
        """
        s, data = _like(sigma, output), self.sigma_data
        match self.kind:
            case "eps" | "flow":
                return x - output * s
            case "v":
                total = s**2 + data**2
                return x * data**2 / total - output * s * data / total**0.5
            case "edm":
                total = s**2 + data**2
                return x * data**2 / total + output * s * data / total**0.5
            case "lcm":
                return self._lcm_denoised(x, output, sigma)
            case _:
                return output

    def _lcm_denoised(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        """Source: Luo et al. 2023 (Latent Consistency Models), boundary scalings of section 4."""
        data = 0.5
        t = _like(self.timestep(sigma), output) * 10.0
        c_skip = data**2 / (t**2 + data**2)
        c_out = t / (t**2 + data**2) ** 0.5
        return c_out * (x - output * _like(sigma, output)) + c_skip * x

    def noised(self, latent: Tensor, noise: Tensor, sigma: Tensor, *, is_start: bool) -> Tensor:
        """The latent at a noise level. `is_start`: sigma is the model's largest."""
        s = _like(sigma, noise)
        if self.is_flow:
            return s * noise + (1.0 - s) * latent
        scale = torch.sqrt(1.0 + s**2.0) if is_start else s
        return noise * scale + latent

    def finished(self, x: Tensor, sigma: Tensor) -> Tensor:
        """A latent as it leaves a sampler that stopped at `sigma`."""
        return x / (1.0 - _like(sigma, x)) if self.is_flow else x

    def is_largest(self, sigma: float) -> bool:
        """Whether a schedule that starts here starts from pure noise."""
        return math.isclose(self.sigma_max, sigma, rel_tol=1e-5) or sigma > self.sigma_max

    def half_log_snr(self, sigma: Tensor) -> Tensor:
        """log(alpha / sigma) of the process: the time in which exponential integrators step."""
        return sigma.logit().neg() if self.is_flow else sigma.log().neg()

    def sigma_of_half_log_snr(self, value: Tensor) -> Tensor:
        """The inverse of `half_log_snr`."""
        return value.neg().sigmoid() if self.is_flow else value.neg().exp()


def _like(sigma: Tensor, x: Tensor) -> Tensor:
    """Sigma shaped to multiply x."""
    return sigma if sigma.ndim == 0 else sigma.reshape(sigma.shape + (1,) * (x.ndim - sigma.ndim))


# Times --------------------------------------------------------------------------------------------


def discrete_times(sigmas: Tensor) -> Times:
    """Times 0 … n-1 of a table of sigmas; between them log sigma is linear.

    The table comes in double precision, so that its logarithm is rounded once only.
    """
    log_sigmas = sigmas.log().float()
    sigmas = sigmas.float()

    def timestep(sigma: Tensor) -> Tensor:
        table = log_sigmas.to(sigma.device)
        distances = sigma.log() - table[:, None]
        return distances.abs().argmin(dim=0).view(sigma.shape)

    def sigma(t: Tensor) -> Tensor:
        return _interpolated(log_sigmas, t).exp()

    def sigma_at(percent: float) -> float:
        if percent <= 0.0:
            return ALWAYS
        if percent >= 1.0:
            return 0.0
        return float(sigma(torch.tensor((1.0 - percent) * (len(sigmas) - 1))))

    return Times(sigmas=sigmas, timestep=timestep, sigma=sigma, sigma_at=sigma_at)


def _interpolated(table: Tensor, t: Tensor) -> Tensor:
    t = t.float().cpu().clamp(0, len(table) - 1)
    low, high, weight = t.floor().long(), t.ceil().long(), t.frac()
    return (1 - weight) * table[low] + weight * table[high]


def distilled_times(sigmas: Tensor, kept: int = 50) -> Times:
    """The times of a model that was distilled to `kept` of the table's times (LCM)."""
    skip = len(sigmas) // kept
    inner = discrete_times(sigmas.flip(0)[::skip][:kept].flip(0))
    log_sigmas = inner.sigmas.log()

    def timestep(sigma: Tensor) -> Tensor:
        return inner.timestep(sigma) * skip + (skip - 1)

    def sigma(t: Tensor) -> Tensor:
        return _interpolated(log_sigmas, (t.float() - (skip - 1)) / skip).exp()

    def sigma_at(percent: float) -> float:
        if percent <= 0.0:
            return ALWAYS
        if percent >= 1.0:
            return 0.0
        return float(sigma(torch.tensor((1.0 - percent) * (len(sigmas) - 1))))

    return Times(sigmas=inner.sigmas, timestep=timestep, sigma=sigma, sigma_at=sigma_at)


def shifted_flow_times(shift: float, *, multiplier: float = 1000.0, count: int = 1000) -> Times:
    """Flow times with a shift towards noise.

    Source: Esser et al. 2024 (Stable Diffusion 3, arXiv 2403.03206), equation 23.
    """

    def shifted(t: Tensor) -> Tensor:
        return t if shift == 1.0 else shift * t / (1 + (shift - 1) * t)

    def sigma(t: Tensor) -> Tensor:
        return shifted(t / multiplier)

    return Times(
        sigmas=sigma(torch.arange(1, count + 1, 1) / count * multiplier),
        timestep=lambda s: s * multiplier,
        sigma=sigma,
        sigma_at=_flow_share(shifted),
    )


def flux_times(shift: float, count: int = 10000) -> Times:
    """Flow times with Flux's exponential shift.

    Source: Black Forest Labs `flux/sampling.py` (Apache-2.0), `time_shift`.
    """

    def shifted(t: Tensor) -> Tensor:
        return math.exp(shift) / (math.exp(shift) + (1 / t - 1))

    return Times(
        sigmas=shifted(torch.arange(1, count + 1, 1) / count),
        timestep=lambda s: s,
        sigma=shifted,
        sigma_at=_flow_share(shifted),
    )


def _flow_share(shifted: Callable[[Tensor], Tensor]) -> Callable[[float], float]:
    def sigma_at(percent: float) -> float:
        if percent <= 0.0:
            return 1.0
        if percent >= 1.0:
            return 0.0
        return float(shifted(torch.tensor(1.0 - percent)))

    return sigma_at


def cascade_times(shift: float, count: int = 10000) -> Times:
    """The cosine process of Stable Cascade, with a shift towards noise; times from 0 to 1.

    Source: Pernias et al. 2023 (Wuerstchen, arXiv 2306.00637), section 3; its published code
    (MIT), `CosineSchedule` and `CosineTNoiseCond`.
    """
    offset = 0.008
    most = math.cos(offset / (1 + offset) * math.pi / 2) ** 2

    def sigma(t: Tensor) -> Tensor:
        kept = torch.cos((t + offset) / (1 + offset) * (math.pi / 2)) ** 2 / most
        if shift != 1.0:
            kept = torch.sigmoid(kept.logit() + 2 * math.log(1 / shift))
        kept = kept.clamp(0.0001, 0.9999)
        return ((1 - kept) / kept) ** 0.5

    def timestep(s: Tensor) -> Tensor:
        kept = 1 / (s * s + 1)
        return (kept * most).sqrt().acos() / (math.pi / 2) * (1 + offset) - offset

    def sigma_at(percent: float) -> float:
        if percent <= 0.0:
            return ALWAYS
        return 0.0 if percent >= 1.0 else float(sigma(torch.tensor(1.0 - percent)))

    table = sigma(torch.arange(1, count + 1, dtype=torch.float32) / count)
    return Times(sigmas=table, timestep=timestep, sigma=sigma, sigma_at=sigma_at)


def continuous_times(
    sigma_min: float,
    sigma_max: float,
    timestep: Callable[[Tensor], Tensor],
    sigma: Callable[[Tensor], Tensor],
) -> Times:
    """Times of a model that was trained on all sigmas between two bounds."""
    if not 0 < sigma_min < sigma_max:
        raise NodeError(
            f"sigma_min is {sigma_min} and sigma_max {sigma_max}.",
            hint="sigma_min must be above 0 and below sigma_max.",
        )
    low, high = math.log(sigma_min), math.log(sigma_max)

    def sigma_at(percent: float) -> float:
        if percent <= 0.0:
            return ALWAYS
        if percent >= 1.0:
            return 0.0
        return math.exp((high - low) * (1.0 - percent) + low)

    return Times(
        sigmas=torch.linspace(low, high, 1000).exp(),
        timestep=timestep,
        sigma=sigma,
        sigma_at=sigma_at,
    )


# What a model and its recipe ask for --------------------------------------------------------------


def sigmas_of(alphas_cumprod: Tensor) -> Tensor:
    """The table of sigmas of a variance-preserving process, in double precision."""
    alphas = alphas_cumprod.double()
    return ((1 - alphas) / alphas) ** 0.5


def zero_terminal_snr(sigmas: Tensor) -> Tensor:
    """The table with its last entry all noise.

    Source: Lin et al. 2023 (arXiv 2305.08891), algorithm 1.
    """
    root = (1 / (sigmas * sigmas + 1)).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    alphas = ((root - last) * (first / (first - last))) ** 2
    alphas[-1] = 4.8973451890853435e-08  # zero has no sigma; the smallest share still usable
    return ((1 - alphas) / alphas) ** 0.5


def parameterization(
    trained: str, alphas_cumprod: Tensor, sampling: tuple[object, ...] | None = None
) -> Parameterization:
    """What a model means that was trained as `trained` ("eps" or "v").

    `sampling` is the recipe's option of that name, as the ModelSampling nodes set it:
    ("discrete", kind, zsnr), ("flow", shift, multiplier), ("flux", shift), ("cascade", shift) or
    ("continuous", kind, sigma_min, sigma_max).
    """
    match sampling:
        case None:
            return Parameterization(
                kind="v" if trained.startswith("v") else "eps",
                times=discrete_times(sigmas_of(alphas_cumprod)),
            )
        case ("discrete", str(kind), bool(zsnr)):
            sigmas = sigmas_of(alphas_cumprod)
            sigmas = zero_terminal_snr(sigmas) if zsnr else sigmas
            times = distilled_times(sigmas) if kind == "lcm" else discrete_times(sigmas)
            return Parameterization(kind=_KINDS[kind], times=times)
        case ("flow", float(shift), float(multiplier)):
            times = shifted_flow_times(shift, multiplier=multiplier)
            return Parameterization(kind="flow", times=times)
        case ("flux", float(shift)):
            return Parameterization(kind="flow", times=flux_times(shift))
        case ("cascade", float(shift)):
            return Parameterization(kind="eps", times=cascade_times(shift))
        case ("continuous", str(kind), float(low), float(high)):
            return _continuous(kind, low, high)
        case _:
            raise NodeError(f"The sampling option {sampling!r} is not known.")


_KINDS: dict[str, Kind] = {
    "eps": "eps",
    "v_prediction": "v",
    "lcm": "lcm",
    "x0": "x0",
    "img_to_img": "img_to_img",
    "edm": "edm",
}


def _continuous(kind: str, low: float, high: float) -> Parameterization:
    if kind == "v_angle":
        times = continuous_times(
            low, high, lambda s: s.atan() / math.pi * 2, lambda t: (t * math.pi / 2).tan()
        )
        return Parameterization(kind="v", times=times)
    times = continuous_times(low, high, lambda s: 0.25 * s.log(), lambda t: (t / 0.25).exp())
    data = 0.5 if kind == "edm" else 1.0
    return replace(Parameterization(kind=_KINDS[kind], times=times), sigma_data=data)


def flux_shift(max_shift: float, base_shift: float, width_px: int, height_px: int) -> float:
    """Flux's shift for a picture size: linear in the number of tokens, 256 to 4096.

    Source: Black Forest Labs `flux/sampling.py` (Apache-2.0), `get_lin_function`.
    """
    slope = (max_shift - base_shift) / (4096 - 256)
    return (width_px * height_px / (8 * 8 * 2 * 2)) * slope + base_shift - slope * 256
