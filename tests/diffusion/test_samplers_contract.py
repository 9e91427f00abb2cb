"""What every sampler in the table must do; a new entry is tested by being registered.

Oracle: for data of a normal distribution the denoiser is exact, `x / (1 + sigma²)`, and the
probability flow has the closed form `x(sigma) ∝ sqrt(1 + sigma²)`.
"""

import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from engine.api.errors import Cancelled
from engine.diffusion.network import sd_alphas_cumprod
from engine.diffusion.noise import NoiseSource
from engine.diffusion.parameterization import Parameterization, parameterization
from engine.diffusion.samplers import SAMPLERS
from engine.diffusion.samplers.base import SamplerSpec
from engine.diffusion.samplers.dpm_solver import sample_dpm_adaptive
from engine.diffusion.schedules import SCHEDULE_NAMES, exponential, schedule

SPECS = list(SAMPLERS.values())
DETERMINISTIC = [s for s in SPECS if not s.is_stochastic and "cfg_pp" not in s.name]
MODELS = {
    "eps": None,
    "v": ("discrete", "v_prediction", False),
    "flow": ("flow", 3.0, 1000.0),
}


def model(kind: str = "eps") -> Parameterization:
    return parameterization("eps", sd_alphas_cumprod(), MODELS[kind])


@dataclass
class Exact:
    """The exact denoiser of a standard normal distribution."""

    model: Parameterization = field(default_factory=model)
    calls: int = 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.calls += 1
        if self.model.is_flow:
            alpha = 1 - sigma
            return x * alpha / (alpha**2 + sigma**2)
        return x / (1 + sigma**2)

    def with_uncond(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        denoised = self(x, sigma)
        return denoised, denoised


@dataclass
class Steps:
    stop_after: int | None = None
    seen: list[int] = field(default_factory=list)

    def __call__(self, index: int, x: Tensor, denoised: Tensor) -> None:
        self.seen.append(index)
        assert x.shape == denoised.shape
        if len(self.seen) == self.stop_after:
            raise Cancelled


def start(sigma: float, batch: int = 1, seed: int = 3) -> Tensor:
    noise = torch.randn(batch, 4, 3, 2, generator=torch.Generator().manual_seed(seed))
    return noise * math.sqrt(1 + sigma**2)


def run(
    spec: SamplerSpec, x: Tensor, sigmas: Tensor, denoise: Exact | None = None, seed: int = 5
) -> Tensor:
    return spec.sample(denoise or Exact(), x, sigmas, noise=NoiseSource(x, seed), on_step=Steps())


def each(specs: list[SamplerSpec]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("spec", specs, ids=[s.name for s in specs])


@each(SPECS)
def test_same_seed_gives_the_same_latent(spec: SamplerSpec) -> None:
    sigmas, x = exponential(6, 0.1, 10.0), start(10.0)
    first, second = run(spec, x, sigmas), run(spec, x, sigmas)
    assert torch.equal(first, second)
    assert torch.isfinite(first).all()
    assert torch.equal(first, run(spec, x, sigmas, seed=6)) is not spec.is_stochastic


@each([s for s in SPECS if not s.is_stochastic and s.name != "dpm_adaptive"])
def test_a_batch_of_two_is_two_singles(spec: SamplerSpec) -> None:
    sigmas, x = exponential(6, 0.1, 10.0), start(10.0, batch=2)
    both = run(spec, x, sigmas)
    for i in (0, 1):
        torch.testing.assert_close(both[i : i + 1], run(spec, x[i : i + 1], sigmas))


@each(SPECS)
def test_every_schedule_gives_the_same_finite_latent_again(spec: SamplerSpec) -> None:
    for name in SCHEDULE_NAMES:
        sigmas = schedule(model(), name, 4)
        x = start(float(sigmas[0]))
        found = run(spec, x, sigmas)
        assert torch.isfinite(found).all(), name
        assert torch.equal(found, run(spec, x, sigmas)), name


@each(SPECS)
def test_one_sigma_gives_the_latent_back(spec: SamplerSpec) -> None:
    x = start(2.0)
    assert torch.equal(run(spec, x, torch.tensor([2.0])), x)


@each(SPECS)
def test_input_and_schedule_are_left_alone(spec: SamplerSpec) -> None:
    sigmas, x = exponential(5, 0.1, 10.0), start(10.0)
    kept = sigmas.clone(), x.clone()
    run(spec, x, sigmas)
    assert torch.equal(sigmas, kept[0]) and torch.equal(x, kept[1])


@each(SPECS)
def test_every_step_is_reported_in_order(spec: SamplerSpec) -> None:
    sigmas, x, steps = exponential(7, 0.1, 10.0), start(10.0), Steps()
    spec.sample(Exact(), x, sigmas, noise=NoiseSource(x, 1), on_step=steps)
    assert steps.seen == sorted(steps.seen)
    assert steps.seen[-1] == 6
    if not spec.name.startswith(("dpm_fast", "dpm_adaptive")):
        assert steps.seen == list(range(7))


@each(SPECS)
def test_cancel_stops_at_the_next_step(spec: SamplerSpec) -> None:
    sigmas, x, denoise = exponential(30, 0.1, 10.0), start(10.0), Exact()
    with pytest.raises(Cancelled):
        spec.sample(denoise, x, sigmas, noise=NoiseSource(x, 1), on_step=Steps(stop_after=2))
    assert denoise.calls <= 8


@pytest.mark.parametrize("kind", MODELS)
@each(SPECS)
def test_all_parameterizations_work(spec: SamplerSpec, kind: str) -> None:
    denoise = Exact(model=model(kind))
    high = 1.0 if kind == "flow" else 14.0
    sigmas = exponential(12, 0.02, high)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    result = run(spec, x if kind == "flow" else x * math.sqrt(1 + high**2), sigmas, denoise)
    # The data is standard normal, so a sample must be so too, roughly.
    assert 0.5 < float(result.std()) < 2.0


@each(DETERMINISTIC)
def test_closed_form_order_is_at_least_the_declared_one(spec: SamplerSpec) -> None:
    if spec.name == "dpm_adaptive":
        pytest.skip("its steps follow an error bound, not the schedule")
    denoise, high, low = Exact(), 4.0, 0.5
    x = start(high).double()
    exact = x * math.sqrt((1 + low**2) / (1 + high**2))

    def error(count: int) -> float:
        sigmas = torch.linspace(math.log(high), math.log(low), count + 1, dtype=torch.double)
        return float((run(spec, x, sigmas.exp(), denoise) - exact).abs().max())

    assert math.log2(error(24) / error(48)) > spec.order - 0.35


@pytest.mark.parametrize(("eta", "order"), [(0.0, 3.0), (1.0, 1.5)])
def test_k_diffusion_adaptive_steps_lengthen_by_the_order_that_noise_leaves(
    eta: float, order: float
) -> None:
    """Both orders agree on an empty picture up to rounding, so the error is nearly nothing."""
    sigmas: list[Tensor] = []

    class Empty(Exact):
        def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
            sigmas.append(sigma)
            return torch.zeros_like(x)

    x, levels = start(10.0), torch.tensor([10.0, 0.1])
    sample_dpm_adaptive(Empty(), x, levels, noise=NoiseSource(x, 5), on_step=Steps(), eta=eta)
    first, second, third = (-sigmas[i].log() for i in (0, 3, 6))  # three calls a step
    longest = {n: 1 + math.atan(1e8 ** (1 / n) - 1) for n in (1.5, 3.0)}
    growth = float((third - second) / (second - first))
    assert min(longest, key=lambda n: abs(longest[n] - growth)) == order


def test_closed_form_adaptive_meets_its_bound() -> None:
    x = start(10.0)
    result = run(SAMPLERS["dpm_adaptive"], x, torch.tensor([10.0, 1.0]))
    exact = x * math.sqrt(2 / 101)
    torch.testing.assert_close(result, exact, rtol=0.01, atol=0.005)
