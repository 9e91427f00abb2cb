"""Schedules: what all of them must do, and closed forms."""

import math
from collections.abc import Callable

import pytest
import torch

from engine.api.errors import NodeError
from engine.diffusion.network import sd_alphas_cumprod
from engine.diffusion.parameterization import parameterization
from engine.diffusion.schedules import (
    SCHEDULE_NAMES,
    beta_quantile,
    beta_share,
    exponential,
    flipped,
    karras,
    polyexponential,
    schedule,
    split_denoise,
)

MODELS = {
    "eps": None,
    "v": ("discrete", "v_prediction", True),
    "flow": ("flow", 3.0, 1000.0),
    "flux": ("flux", 1.15),
    "edm": ("continuous", "edm", 0.002, 80.0),
    "angle": ("continuous", "v_angle", 0.03, 500.0),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", SCHEDULE_NAMES)
def test_falls_from_the_largest_noise_to_zero(name: str, kind: str) -> None:
    model = parameterization("eps", sd_alphas_cumprod(), MODELS[kind])
    for steps in (2, 5, 20):
        sigmas = schedule(model, name, steps)
        assert (sigmas.diff() < 0).all()
        assert float(sigmas[-1]) == 0.0
        assert float(sigmas[0]) <= model.sigma_max * (1 + 1e-5)


@pytest.mark.parametrize("name", SCHEDULE_NAMES)
def test_denoise_takes_the_end_of_a_longer_schedule(name: str) -> None:
    model = parameterization("eps", sd_alphas_cumprod())
    part, whole = schedule(model, name, 6, 0.5), schedule(model, name, 12)
    assert torch.equal(part, whole[-7:])
    assert len(schedule(model, name, 6, 0.0)) == 0


# A flow model's shift lies in its schedule alone: its time is sigma itself.
@pytest.mark.parametrize("kind", ["eps", "v", "edm", "angle"])
def test_times_and_sigmas_are_inverse(kind: str) -> None:
    model = parameterization("eps", sd_alphas_cumprod(), MODELS[kind])
    for sigma in model.sigmas[[100, 500, 900]]:
        time = model.timestep(sigma[None])[0]
        torch.testing.assert_close(model.times.sigma(time), sigma, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["eps", "v", "flow", "edm"])
def test_denoised_undoes_what_a_perfect_network_says(kind: str) -> None:
    model = parameterization("eps", sd_alphas_cumprod(), MODELS[kind])
    clean, noise = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    sigma = torch.tensor([0.7, 0.7])
    x = model.noised(clean, noise, sigma, is_start=False)
    s, d = 0.7, model.sigma_data
    root = math.sqrt(s**2 + d**2)
    output = {
        "eps": noise,
        "v": (d**2 * x / root**2 - clean) * root / (s * d),
        "flow": noise - clean,
        "edm": (clean - d**2 * x / root**2) * root / (s * d),
    }[kind]
    torch.testing.assert_close(model.denoised(x, output, sigma), clean, rtol=1e-4, atol=1e-4)


def test_closed_form_beta_distribution() -> None:
    # Beta(1/2, 1/2) is the arcsine distribution; Beta(2, 1) has the share x².
    for x in (0.01, 0.3, 0.5, 0.9):
        assert beta_share(x, 0.5, 0.5) == pytest.approx(2 / math.pi * math.asin(math.sqrt(x)))
        assert beta_share(x, 2, 1) == pytest.approx(x * x)
        assert beta_quantile(x * x, 2, 1) == pytest.approx(x)


def test_cutting_and_turning() -> None:
    sigmas = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
    high, low = split_denoise(sigmas, 0.5)
    assert high.tolist() == [4.0, 3.0, 2.0] and low.tolist() == [2.0, 1.0, 0.0]
    assert flipped(sigmas)[0] > 0 and flipped(torch.zeros(0)).tolist() == []
    assert sigmas.tolist() == [4.0, 3.0, 2.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: exponential(3, 0.0, 1.0),
        lambda: polyexponential(3, 0.1, 0.0),
        lambda: karras(3, 0.1, 1.0, 0.0),
        lambda: parameterization("eps", sd_alphas_cumprod(), ("continuous", "edm", 0.0, 80.0)),
    ],
)
def test_bounds_without_a_schedule_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(NodeError, match=r"is 0\.0|sigma_max 0|sigma_min is 0"):
        make()
