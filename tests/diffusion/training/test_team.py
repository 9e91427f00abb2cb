"""Several processes train as one: on the CPU here, one for each GPU where there are some."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.api.errors import Cancelled, EngineError, NodeError
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.finetune import FineTune
from engine.diffusion.training.job import Places, train
from engine.diffusion.training.loop import step_seed
from engine.diffusion.training.optimizers import make_optimizer
from engine.diffusion.training.report import Telling
from engine.diffusion.training.run import loop_config
from tests.diffusion.training.tiny_runs import JOBS, places_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def job_of(folder: Path, num_processes: int = 2) -> Any:
    job = JOBS["lora"](folder)
    return replace(job, settings=replace(job.settings, average=0.0, num_processes=num_processes))


def by_hand(job: FineTune, places: Places) -> dict[str, Tensor]:
    """The same steps in one process, from the mean gradient of the two losses."""
    pool = ModelPool()
    first, second = (replace(job, seed=job.seed + n).prepare(pool, places) for n in range(2))
    config = loop_config(job, first)
    optimizer = make_optimizer(first.net, config.optimizer)
    own = torch.Generator().manual_seed(job.seed)
    nets = [[p for p in each.net.parameters() if p.requires_grad] for each in (first, second)]
    for step in range(job.steps):
        progress = step / job.steps
        other = torch.Generator().manual_seed(step_seed(job.seed + 1, step))
        with torch.no_grad():
            for mine, theirs in zip(*nets, strict=True):
                theirs.copy_(mine)
        for each, generator in ((first, own), (second, other)):
            each.net.zero_grad()
            with torch.enable_grad():
                each.loss(progress, generator).backward()
        for mine, theirs in zip(*nets, strict=True):
            assert mine.grad is not None and theirs.grad is not None
            mine.grad = (mine.grad + theirs.grad) / 2
        torch.nn.utils.clip_grad_norm_(nets[0], config.clip_norm)
        optimizer.step()
    tensors = dict(first.tensors())
    first.release()
    second.release()
    return tensors


def test_two_processes_take_the_mean_step_and_resume_bit_for_bit(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    losses: list[float] = []
    whole = train(job, ModelPool(), places_of(tmp_path), lambda t: losses.append(t.loss))
    result = load_file(whole)
    assert len(losses) == job.steps
    for key, value in by_hand(job, places_of(tmp_path)).items():
        torch.testing.assert_close(result[key], value, rtol=2e-3, atol=1e-5)

    def stop(telling: Telling) -> None:
        if telling.step == 2:
            raise Cancelled

    again = places_of(tmp_path / "again")
    with pytest.raises(Cancelled):
        train(job, ModelPool(), again, stop)
    assert not psutil.Process().children()
    resumed = load_file(train(job, ModelPool(), again))
    assert all(torch.equal(resumed[key], value) for key, value in result.items())


def test_a_process_that_dies_ends_the_training_and_is_named(tmp_path: Path) -> None:
    def kill(telling: Telling) -> None:
        if telling.step == 1:
            for child in psutil.Process().children():
                child.kill()
                child.wait()

    job, places = job_of(tmp_path), places_of(tmp_path)
    with pytest.raises(EngineError, match="Process 2 of 2 of this training ended"):
        train(job, ModelPool(), places, kill)
    assert (places.runs / job.run / "state.pt").is_file()


def test_more_processes_than_cores(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="5000 processes was asked for, but this machine has"):
        train(job_of(tmp_path, 5000), ModelPool(), places_of(tmp_path))
