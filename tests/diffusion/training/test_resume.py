"""Every kind of training resumes bit for bit, also after a kill."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.api.errors import Cancelled
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.job import train
from engine.diffusion.training.report import Telling, Watch
from tests.diffusion.training.tiny_runs import JOBS, places_of

Uninterrupted = Callable[[str], dict[str, Tensor]]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
every_kind = pytest.mark.parametrize("name", JOBS)


@pytest.fixture(scope="module")
def pool() -> ModelPool:
    return ModelPool()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in the killed runs; and tiny nets are much faster so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, pool: ModelPool) -> Uninterrupted:
    """The result of a kind that was trained in one go."""
    folder = tmp_path_factory.mktemp("whole")

    @cache
    def whole(name: str) -> dict[str, Tensor]:
        return load_file(train(JOBS[name](folder), pool, places_of(folder / name)))

    return whole


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every kind was killed at its second step."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.diffusion.training.tiny_runs", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, timeout=500, env=environment)
    return folder


def stopping(number: int, error: Exception) -> Watch:
    def watch(telling: Telling) -> None:
        if telling.step == number:
            raise error

    return watch


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert torch.equal(value, right[key]), key


@pytest.mark.parametrize("name", ["lora_text", "vae"])
def test_an_interrupted_run_goes_on_bit_for_bit(
    tmp_path: Path, pool: ModelPool, name: str, uninterrupted: Uninterrupted
) -> None:
    """One kind whose data has a position and one with a critic; the way of saving is the loop's."""
    job, places = JOBS[name](tmp_path), places_of(tmp_path)
    with pytest.raises(Cancelled):
        train(job, pool, places, stopping(2, Cancelled()))
    assert not places.result.exists()
    steps: list[int] = []
    path = train(job, pool, places, lambda t: steps.append(t.step))
    assert steps == [3]
    assert_equal(load_file(path), uninterrupted(name))
    assert not (places.runs / job.run).exists()


@every_kind
def test_a_killed_run_goes_on_bit_for_bit(
    killed: Path, pool: ModelPool, name: str, uninterrupted: Uninterrupted
) -> None:
    steps: list[int] = []
    job = JOBS[name](killed)
    path = train(job, pool, places_of(killed / name), lambda t: steps.append(t.step))
    assert steps == [2, 3]  # the step in which it was killed is done again
    assert_equal(load_file(path), uninterrupted(name))


@every_kind
def test_training_changes_weights(name: str, uninterrupted: Uninterrupted) -> None:
    tensors = uninterrupted(name)
    assert all(bool(t.isfinite().all()) for t in tensors.values() if t.is_floating_point())
    ups = [v for k, v in tensors.items() if "lora_up" in k]
    assert bool(ups) == name.startswith(("lora", "locon"))
    assert all(float(up.abs().max()) > 0 for up in ups)
