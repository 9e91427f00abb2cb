"""Every optimizer learns, resumes bit for bit, takes its rates by name; rates as in diffusers."""

from pathlib import Path

import pytest
import torch
from diffusers.optimization import get_scheduler
from torch import Tensor, nn

from engine.api.errors import EngineError
from engine.diffusion.training.loop import LoopConfig, Loss, fit
from engine.diffusion.training.optimizers import (
    OPTIMIZER_KINDS,
    OptimizerKind,
    OptimizerSettings,
    make_optimizer,
)
from engine.diffusion.training.rates import RateKind, RateSettings, rate_factor

KINDS = [kind for kind in OPTIMIZER_KINDS if kind != "adamw_8bit"]
RATES = {"prodigy": 1.0, "lion": 3e-3, "adamw": 1e-2, "adafactor": 1e-2}


def net_of() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 1))


def regression(net: nn.Module) -> Loss:
    def loss(progress: float, generator: torch.Generator) -> Tensor:
        x = torch.randn(32, 4, generator=generator)
        return (net(x)[:, 0] - x.sin().sum(1)).pow(2).mean()

    return loss


class Stopped(Exception):
    pass


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_resumes_bit_for_bit(kind: OptimizerKind, tmp_path: Path) -> None:
    settings = OptimizerSettings(kind=kind, lr=RATES[kind])
    config = LoopConfig(steps=150, optimizer=settings, accumulation=2, clip_norm=10.0)
    losses: list[float] = []
    whole = net_of()
    fit(whole, regression(whole), config, seed=1, on_step=lambda s: losses.append(s.loss))
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])

    def stop(step: object) -> None:
        raise Stopped

    path = tmp_path / "state.pt"
    net = net_of()
    for _ in range(3):  # stopped after each of the first steps
        net = net_of()
        with pytest.raises(Stopped):
            fit(net, regression(net), config, seed=1, path=path, on_step=stop)
    fit(net, regression(net), config, seed=1, path=path)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, net.state_dict()[name])


def test_rates_are_shared_out_by_name() -> None:
    net = net_of()
    factors = (("0.weight", 0.5), ("0.", 0.1))
    optimizer = make_optimizer(net, OptimizerSettings(lr=2.0, factors=factors))
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    named = {name: rates[id(p)] for name, p in net.named_parameters()}
    assert named == {"0.weight": 1.0, "0.bias": 0.2, "2.weight": 2.0, "2.bias": 2.0}


def test_what_cannot_run_says_what_to_choose() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(EngineError, match=r"CUDA device.*Choose adamw"):
        make_optimizer(net_of(), OptimizerSettings(kind="adamw_8bit"))
    with pytest.raises(EngineError, match="nothing to train"):
        make_optimizer(net_of().requires_grad_(False), OptimizerSettings())


@pytest.mark.parametrize("kind", ["linear", "cosine", "polynomial", "constant"])
def test_courses_after_the_warm_up_equal_diffusers(kind: RateKind) -> None:
    names = {"constant": "constant_with_warmup"}
    optimizer = torch.optim.SGD(net_of().parameters(), lr=1.0)
    theirs = get_scheduler(
        names.get(kind, kind), optimizer, num_warmup_steps=10, num_training_steps=100, power=2.0
    )
    rate = RateSettings(kind=kind, warmup_steps=10, power=2.0, final=0.0)
    for step in range(100):
        if step >= 10:
            expected = theirs.get_last_lr()[0]
            assert rate_factor(rate, step, step / 100) == pytest.approx(expected, abs=1e-6), step
        optimizer.step()
        theirs.step()


def test_bf16_trains_and_keeps_fp32_weights() -> None:
    net = net_of()
    losses: list[float] = []
    config = LoopConfig(steps=60, optimizer=OptimizerSettings(lr=1e-2), precision="bf16")
    fit(net, regression(net), config, seed=1, on_step=lambda s: losses.append(s.loss))
    assert sum(losses[-20:]) < sum(losses[:20])
    assert all(p.dtype is torch.float32 for p in net.parameters())
