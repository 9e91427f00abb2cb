"""Cascade times, divided steps, SA-Solver's closed forms and LCM that grows a latent."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm_wuerstchen import DDPMWuerstchenScheduler

from engine.api.errors import NodeError
from engine.diffusion.guidance import Guidance
from engine.diffusion.noise import RandomNoise
from engine.diffusion.parameterization import cascade_times
from engine.diffusion.sample import sample
from engine.diffusion.samplers import SamplerChoice
from engine.diffusion.samplers.sa_solver import (
    adams_weights,
    simple_corrector,
    simple_predictor,
)
from engine.diffusion.schedules import extended
from nodes.custom_sampling import sampler_lcm_upscale, sampler_sa_solver
from nodes.sigmas import extend_intermediate_sigmas
from tests.diffusion.test_sample import SIGMAS, conditioning, run
from tests.nodes.context import context
from tests.nodes.recorded import MODEL, ToyPool, toy_model


def test_cascade_levels_are_those_of_diffusers() -> None:
    scheduler = DDPMWuerstchenScheduler(scaler=1.0)
    times, t = cascade_times(1.0), torch.linspace(0.05, 0.95, 7)
    kept: Any = scheduler._alpha_cumprod(t, torch.device("cpu"))  # pyright: ignore[reportPrivateUsage]
    torch.testing.assert_close(times.sigma(t), ((1 - kept) / kept).sqrt(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(times.timestep(times.sigma(t)), t, atol=1e-4, rtol=1e-4)


def test_cascade_shift_halves_the_signal_to_noise_ratio_s_root() -> None:
    """By its definition a shift divides the root of SNR, which is 1 / sigma."""
    t = torch.linspace(0.2, 0.8, 5)
    torch.testing.assert_close(cascade_times(2.0).sigma(t), 2 * cascade_times(1.0).sigma(t))


@pytest.mark.parametrize(
    ("spacing", "middle"), [("linear", 0.5), ("cosine", 0.5**0.5), ("sine", 1 - 0.5**0.5)]
)
def test_only_steps_in_range_are_divided(spacing: str, middle: float) -> None:
    sigmas = torch.tensor([14.0, 8.0, 4.0, 0.0])
    found = extend_intermediate_sigmas(sigmas, 2, 10.0, 4.0, spacing)
    wanted = [14.0, 8.0, 8.0 - 4 * middle, 4.0, 4.0 - 4 * middle, 0.0]
    torch.testing.assert_close(found, torch.tensor(wanted))
    assert len(extended(sigmas, 3, -1.0, 0.0, spacing)) == 10
    assert torch.equal(extended(sigmas, 1, -1.0, 0.0, spacing), sigmas)


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_simple_weights_sum_up_to_the_exact_ones_and_agree_for_short_steps(tau: float) -> None:
    def both(h: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        start, end = torch.tensor(1.0).double(), torch.tensor(1.0 + h).double()
        before, sigma = start - h, end.neg().exp()
        exact = adams_weights(sigma, torch.stack([before, start]), start, end, tau)
        closing = adams_weights(sigma, torch.stack([start, end]), start, end, tau)
        simple = simple_predictor(sigma, before, start, end, tau)
        return exact, simple, closing, simple_corrector(sigma, start, end, tau)

    exact, simple, closing, corrected = both(0.1)
    torch.testing.assert_close(simple.sum(), exact.sum())
    torch.testing.assert_close(corrected.sum(), closing.sum())
    # The difference is of second order in the step.
    errors: list[list[float]] = []
    for a, b, c, d in map(both, (0.1, 0.05)):
        errors.append([float((a - b).abs().max()), float((c - d).abs().max())])
    for large, small in zip(*errors, strict=True):
        assert 3.0 < large / small < 5.0


def test_the_sa_solver_s_node_sets_its_knobs(tmp_path: Path) -> None:
    ctx = context(tmp_path, models=ToyPool())
    knobs: Any = {"use_pece": False, "simple_order_2": False}
    choice = sampler_sa_solver(MODEL, 1.0, 0.2, 0.8, 1.0, 3, 4, **knobs)
    plain = run(ctx, sampler="sa_solver").samples

    def sampled(choice: SamplerChoice) -> torch.Tensor:
        guidance = Guidance(
            model=toy_model(MODEL), groups=(conditioning(), conditioning()), cfg=3.0
        )
        latent: Any = {"samples": torch.zeros(1, 4, 8, 8)}
        return sample(ctx, guidance, choice, SIGMAS, latent, RandomNoise(1)).samples

    assert torch.equal(sampled(choice), plain)
    simple = sampler_sa_solver(MODEL, 0.0, 0.2, 0.8, 1.0, 2, 2, False, True)
    exact = sampler_sa_solver(MODEL, 0.0, 0.2, 0.8, 1.0, 2, 2, False, False)
    assert not torch.equal(sampled(simple), sampled(exact))
    torch.testing.assert_close(sampled(simple), sampled(exact), atol=1.0, rtol=0.5)


def test_lcm_grows_the_latent_and_says_what_cannot_grow(tmp_path: Path) -> None:
    ctx = context(tmp_path, models=ToyPool())

    def sampled(choice: SamplerChoice, **options: Any) -> torch.Tensor:
        guidance = Guidance(
            model=toy_model(MODEL), groups=(conditioning(**options), conditioning()), cfg=3.0
        )
        latent: Any = {"samples": torch.zeros(1, 4, 8, 8)}
        return sample(ctx, guidance, choice, SIGMAS, latent, RandomNoise(1)).samples

    grown = sampled(sampler_lcm_upscale(1.5, -1, "bislerp"))
    assert grown.shape == (1, 4, 12, 12)
    assert grown.isfinite().all()
    same = sampled(sampler_lcm_upscale(1.0, -1, "bislerp"))
    assert torch.equal(same, sampled(SamplerChoice(name="lcm")))
    with pytest.raises(NodeError, match="changes the latent's size, but an area"):
        sampled(sampler_lcm_upscale(1.5, -1, "bislerp"), area=(4, 4, 0, 0))
