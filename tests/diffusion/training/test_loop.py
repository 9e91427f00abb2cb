"""The loop resumes bit for bit, follows its learning rate and keeps averages."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.api.errors import CorruptFile, EngineError
from engine.diffusion.training.loop import (
    LoopConfig,
    Loss,
    averaged_weights,
    fit,
    progress_of,
)
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.rates import RateSettings, rate_factor

FAST = OptimizerSettings(lr=1e-2)


def tiny_net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 1))


def random_batches(net: nn.Module) -> Loss:
    def loss(progress: float, generator: torch.Generator) -> Tensor:
        x = torch.randn(16, 4, generator=generator)
        return (net(x)[:, 0] - x.sin().sum(1)).pow(2).mean() * (1 + progress)

    return loss


class Interrupted(Exception):
    pass


def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    config = LoopConfig(
        optimizer=FAST,
        steps=40,
        rate=RateSettings(kind="cosine", warmup_steps=5),
        average=0.99,
        checkpoint_every_s=0.0,
    )
    whole = tiny_net()
    expected = fit(whole, random_batches(whole), config, seed=1)

    first, path = tiny_net(), tmp_path / "state.pt"

    batches = random_batches(first)

    def until_step_17(progress: float, generator: torch.Generator) -> Tensor:
        if progress >= 17 / 40:
            raise Interrupted
        return batches(progress, generator)

    with pytest.raises(Interrupted):
        fit(first, until_step_17, config, seed=1, path=path)
    second = tiny_net()
    resumed = fit(second, random_batches(second), config, seed=99, path=path)

    assert resumed.step == expected.step == 40
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    for name, value in expected.average.items():
        assert torch.equal(value, resumed.average[name])


def test_state_of_another_network_is_refused(tmp_path: Path) -> None:
    config, path = LoopConfig(optimizer=FAST, steps=2), tmp_path / "state.pt"
    net = tiny_net()
    fit(net, random_batches(net), config, seed=1, path=path)
    other = nn.Linear(3, 3)
    with pytest.raises(CorruptFile):
        fit(other, random_batches(other), config, seed=1, path=path)


def test_torn_state_file_is_refused(tmp_path: Path) -> None:
    config, path = LoopConfig(optimizer=FAST, steps=2), tmp_path / "state.pt"
    net = tiny_net()
    fit(net, random_batches(net), config, seed=1, path=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CorruptFile):
        fit(net, random_batches(net), config, seed=1, path=path)


def test_learning_rate_warms_up_holds_and_falls() -> None:
    rate = RateSettings(kind="cosine", warmup_steps=10, hold=0.5, final=0.1)
    assert rate_factor(rate, 0, 0.0) == pytest.approx(0.1)
    assert rate_factor(rate, 50, 0.5) == pytest.approx(1.0)
    assert rate_factor(rate, 75, 0.75) == pytest.approx(0.55)
    assert rate_factor(rate, 99, 1.0) == pytest.approx(0.1)


def test_minutes_bound_the_run_by_the_clock() -> None:
    ticks = iter(float(second) for second in range(1000))
    net = tiny_net()
    config = LoopConfig(minutes=0.5)
    state = fit(net, random_batches(net), config, seed=1, clock=lambda: next(ticks))
    assert progress_of(config, state) == 1.0
    assert state.elapsed_s == pytest.approx(30, abs=1)


def test_average_is_lent_and_taken_back() -> None:
    net = tiny_net()
    state = fit(net, random_batches(net), LoopConfig(optimizer=FAST, steps=20, average=0.9), seed=1)
    present = {name: value.clone() for name, value in net.state_dict().items()}
    with averaged_weights(net, state):
        assert any(not torch.equal(v, present[k]) for k, v in net.state_dict().items())
        assert all(torch.equal(v, net.state_dict()[k]) for k, v in state.average.items())
    assert all(torch.equal(v, present[k]) for k, v in net.state_dict().items())


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    net = tiny_net()

    def broken(progress: float, generator: torch.Generator) -> Tensor:
        return net(torch.ones(1, 4)).sum() * math.nan

    with pytest.raises(EngineError, match="diverged"):
        fit(net, broken, LoopConfig(optimizer=FAST, steps=5), seed=1)


def test_it_trains_where_gradients_are_off_as_they_are_for_nodes() -> None:
    net = torch.nn.Linear(2, 1)
    before = net.weight.detach().clone()
    with torch.no_grad():
        fit(net, lambda *_: net(torch.ones(1, 2)).pow(2).mean(), LoopConfig(steps=2), seed=0)
    assert not torch.equal(net.weight, before)
