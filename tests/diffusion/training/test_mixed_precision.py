"""Mixed precision: the network computes in it, weights do not, and a run resumes bit for bit."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.api.errors import Cancelled
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.finetune import FineTune
from engine.diffusion.training.job import train
from engine.diffusion.training.report import Telling
from engine.diffusion.training.run import Run
from tests.diffusion.training.tiny_runs import METHODS, SETTINGS, job_of, places_of

pytestmark = pytest.mark.slow

POOL = ModelPool()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny nets are much faster so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def job_in(folder: Path, precision: str, method: str = "lora") -> FineTune:
    settings = replace(SETTINGS, precision=precision)
    return job_of(folder, METHODS[method], settings=settings)


def losses_of(folder: Path, precision: str) -> tuple[list[float], set[torch.dtype], nn.Module]:
    """A whole training: its losses, what its layers gave, the net that was trained."""
    job, places = job_in(folder, precision, "full"), places_of(folder / precision)
    prepared = job.prepare(POOL, places)
    given: set[torch.dtype] = set()

    def note(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        if torch.is_grad_enabled():  # not what is only measured
            given.add(output.dtype)

    for module in prepared.net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(note)
    told: list[float] = []
    run = Run(
        job=job,
        prepared=prepared,
        places=places,
        path=places.result,
        watch=lambda telling: told.append(telling.loss),
    )
    run.train()
    return told, given, prepared.net


def test_bf16_is_what_the_network_computes_in(tmp_path: Path) -> None:
    """The oracle is the same training in fp32: bf16 keeps eight bits of it."""
    expected, whole, _ = losses_of(tmp_path, "fp32")
    losses, halves, net = losses_of(tmp_path, "bf16")
    assert (whole, halves) == ({torch.float32}, {torch.bfloat16})
    assert all(p.dtype is torch.float32 for p in net.parameters())
    assert losses != expected
    assert losses == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_in_mixed_precision_goes_on_bit_for_bit(tmp_path: Path, precision: str) -> None:
    """fp16 has a loss scale, which is a part of the state."""
    job = job_in(tmp_path, precision)
    whole = load_file(train(job, POOL, places_of(tmp_path / "whole")))

    def stop(telling: Telling) -> None:
        if telling.step == 2:
            raise Cancelled

    parts = places_of(tmp_path / "parts")
    with pytest.raises(Cancelled):
        train(job, POOL, parts, stop)
    steps: list[int] = []
    resumed = load_file(train(job, POOL, parts, lambda t: steps.append(t.step)))
    assert steps == [3]
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())
    assert all(bool(value.isfinite().all()) for value in whole.values())
    ups = [value for key, value in whole.items() if "lora_up" in key]
    assert any(float(up.abs().max()) > 0 for up in ups)
