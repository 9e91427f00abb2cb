"""What samplers are written against: a denoiser, a noise source, a step callback."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from engine.diffusion.noise import NoiseSource
from engine.diffusion.parameterization import Parameterization

# on_step(index of the finished step, x, denoised)
StepCallback = Callable[[int, Tensor, Tensor], None]


class Denoise(Protocol):
    """The clean latent that a model sees in a noisy one: `denoise(x, sigma) -> x0`."""

    @property
    def model(self) -> Parameterization: ...

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor: ...

    def with_uncond(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The guided prediction and the one without the positive prompt (for CFG++)."""
        ...


class SampleFunction(Protocol):
    """A sampler: goes from `sigmas[0]` to `sigmas[-1]` and gives the latent there."""

    def __call__(
        self,
        denoise: Denoise,
        x: Tensor,
        sigmas: Tensor,
        *,
        noise: NoiseSource,
        on_step: StepCallback,
    ) -> Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSpec:
    """One entry of the table of samplers.

    `order` is the order of convergence on smooth problems. `drops_second_last`: the schedule gets
    one step more, whose second-last level is left out. `has_random_inpaint`: kept parts of a masked
    latent are noised with noise of their own. `resizes`: the latent may change its size on the way.
    """

    name: str
    sample: SampleFunction
    order: int = 1
    is_stochastic: bool = False
    drops_second_last: bool = False
    has_random_inpaint: bool = False
    resizes: bool = False


def steps(sigmas: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Index, sigma and next sigma of each step."""
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        yield i, sigma, following


def slope(x: Tensor, sigma: Tensor, denoised: Tensor) -> Tensor:
    """dx/dsigma of the probability flow. Source: Karras et al. 2022, equation 3."""
    return (x - denoised) / sigma


def ancestral_step(sigma: Tensor, following: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """How far to go down without noise, and how much noise to add, to land at `following`.

    Source: k-diffusion (MIT), `get_ancestral_step`.
    """
    if not eta:
        return following, torch.zeros_like(following)
    up = eta * (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5
    # Not `minimum`: from an infinite sigma (flow models) `up` is NaN, and all is noise.
    up = torch.where(up < following, up, following)
    return (following**2 - up**2) ** 0.5, up


def flow_ancestral_step(
    sigma: Tensor, following: Tensor, eta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for flow models: sigma to go down to, scale and noise to come back up with."""
    down = following * (1 + (following / sigma - 1) * eta)
    scale, kept = 1 - following, 1 - down
    noise = (following**2 - down**2 * scale**2 / kept**2) ** 0.5
    return down, scale / kept, noise


def usable_log_snr(model: Parameterization, sigmas: Tensor) -> Tensor:
    """The schedule with a first level whose log SNR is finite (flow models start at 1)."""
    if model.is_flow and len(sigmas) > 1 and float(sigmas[0]) >= 1:
        sigmas = sigmas.clone()
        sigmas[0] = model.times.sigma_at(1e-4)
    return sigmas
