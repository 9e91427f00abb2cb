"""PNDM against diffusers' PNDMScheduler, step by step with the same network."""

import pytest
import torch
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.network import sd_alphas_cumprod
from engine.diffusion.parameterization import parameterization
from engine.diffusion.samplers.pndm import sample_pndm
from engine.diffusion.schedules import leading, schedule

MODEL = parameterization("eps", sd_alphas_cumprod(), None)
CURVED = torch.linspace(-1, 1, 48).view(1, 3, 4, 4)


def predicted(x: Tensor, timestep: float) -> Tensor:
    """A made-up network: noise that depends on place and time, and on both together."""
    return torch.tanh(x * (0.4 + timestep / 1500) + CURVED) + 0.1 * CURVED * timestep / 1000


class Network:
    model = MODEL

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.calls += 1
        scaled = x / (1 + sigma**2) ** 0.5
        return x - sigma * predicted(scaled, float(MODEL.timestep(sigma)))


def by_diffusers(x: Tensor, steps: int, *, skip_prk: bool, to_one: bool) -> tuple[Tensor, int]:
    """The result of diffusers, which works on variance-preserving latents."""
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=skip_prk,
        set_alpha_to_one=to_one,
        steps_offset=1,
    )
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps is not None
    timesteps: list[int] = scheduler.timesteps.tolist()
    for timestep in timesteps:
        x = scheduler.step(predicted(x, timestep), timestep, x, return_dict=False)[0]
    return x, len(timesteps)


@pytest.mark.parametrize("steps", [5, 20, 50])
@pytest.mark.parametrize("skip_prk", [True, False])
@pytest.mark.parametrize("to_one", [True, False])
def test_equals_diffusers(steps: int, skip_prk: bool, to_one: bool):
    sigmas = leading(MODEL, steps, 1, ends_in_zero=to_one)
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    network = Network()
    start = x * (1 + sigmas[0] ** 2) ** 0.5
    found = sample_pndm(
        network,  # pyright: ignore[reportArgumentType] - no guidance here
        start,
        sigmas,
        noise=lambda *_: torch.zeros(1),  # pyright: ignore[reportArgumentType]
        on_step=lambda *_: None,
        skip_prk=skip_prk,
    )
    expected, calls = by_diffusers(x, steps, skip_prk=skip_prk, to_one=to_one)
    found = found / (1 + sigmas[-1] ** 2) ** 0.5
    assert network.calls == calls
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max()


def test_the_leading_schedule_is_ddim_uniform_where_steps_divide():
    whole = leading(MODEL, 20, 1, ends_in_zero=True)
    assert torch.equal(whole, schedule(MODEL, "ddim_uniform", 20))
    assert float(leading(MODEL, 20, 1, ends_in_zero=False)[-1]) == pytest.approx(MODEL.sigma_min)
    with pytest.raises(NodeError, match="1001 steps"):
        leading(MODEL, 1001, 1, ends_in_zero=True)
