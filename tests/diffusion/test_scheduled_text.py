"""Scheduled prompts as conditioning: every step of every sampler's schedule gets its own text."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.parameterization import Parameterization, discrete_times
from engine.diffusion.residency import ModelPool
from engine.diffusion.sample import model_parameterization
from engine.diffusion.scheduled_text import encode_scheduled, even_shares, step_shares
from engine.diffusion.schedules import SCHEDULE_NAMES, schedule
from engine.diffusion.text import encode
from tests.nodes.context import context
from tests.tiny_checkpoint import write_tiny_checkpoint

STEPS = 12


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("text") / "tiny.safetensors")


@pytest.fixture(scope="module")
def parameterization(checkpoint: Path):
    model = open_checkpoint(checkpoint, "tiny", "tiny").model
    assert model is not None
    return model_parameterization(context(checkpoint.parent), model)


def steps_of(
    shares: Sequence[float], sigmas: torch.Tensor, sigma_at: Callable[[float], float]
) -> list[list[int]]:
    """The stretches that cover each step's sigma."""
    edges = [sigma_at(share) for share in shares]
    return [
        [i for i in range(len(shares) - 1) if edges[i] >= float(s) >= edges[i + 1]]
        for s in sigmas[:-1]
    ]


@pytest.mark.parametrize("name", SCHEDULE_NAMES)
@pytest.mark.parametrize("denoise", [1.0, 0.5])
def test_each_step_lies_in_its_own_range(
    parameterization: Parameterization, name: str, denoise: float
):
    sigmas = schedule(parameterization, name, STEPS, denoise)
    shares = step_shares(sigmas, parameterization.times.sigma_at)
    found = steps_of(shares, sigmas, parameterization.times.sigma_at)
    assert found == [[step] for step in range(STEPS)]


@pytest.mark.parametrize("name", ["normal", "simple"])
@pytest.mark.parametrize("denoise", [1.0, 0.5])
def test_even_steps_need_no_model(parameterization: Parameterization, name: str, denoise: float):
    sigmas = schedule(parameterization, name, STEPS, denoise)
    found = steps_of(even_shares(STEPS, denoise), sigmas, parameterization.times.sigma_at)
    assert found == [[step] for step in range(STEPS)]


def test_a_range_begins_just_before_its_step():
    sigma_at = discrete_times(torch.linspace(0.1, 10, 1000)).sigma_at
    shares = step_shares(torch.tensor([10.0, 5.0, 1.0, 0.0]), sigma_at)
    assert 5.0 < sigma_at(shares[1]) < 5.5
    assert 1.0 < sigma_at(shares[2]) < 1.2


def test_entries_carry_text_range_and_strength(checkpoint: Path):
    clip = open_checkpoint(checkpoint, "tiny", "tiny").clip
    assert clip is not None
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    with ModelPool().use(clip) as loaded:
        entries = encode_scheduled(loaded, "a [red:blue:1] boat AND [cow|horse] :0.5", shares)
        red, cow = encode(loaded, "a red boat"), encode(loaded, "cow")
    ranges = [(o.get("start_percent"), o.get("end_percent")) for _, o in entries]
    assert ranges == [(0.0, 0.25), (0.25, 1.0), (0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)]
    assert [o.get("strength") for _, o in entries] == [None, None, 0.5, 0.5, 0.5, 0.5]
    assert torch.equal(entries[0][0], red.embeds)
    assert torch.equal(entries[4][0], cow.embeds)
    assert entries[4][0] is entries[2][0]


def test_a_plain_text_is_one_plain_entry(checkpoint: Path):
    clip = open_checkpoint(checkpoint, "tiny", "tiny").clip
    assert clip is not None
    with ModelPool().use(clip) as loaded:
        ((embeds, options),) = encode_scheduled(loaded, "a (red:1.2) boat", even_shares(8))
        wanted = encode(loaded, "a (red:1.2) boat")
    assert torch.equal(embeds, wanted.embeds)
    assert set(options) == {"pooled_output"}
