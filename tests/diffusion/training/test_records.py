"""What a training measures and leaves beside its result: validation, snapshots, a sheet, events."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboardX.proto import event_pb2
from torch import Tensor

from engine.api.errors import Cancelled, EngineError, NodeError
from engine.diffusion.residency import ModelPool
from engine.diffusion.training import board
from engine.diffusion.training.data.dataset import Dataset, subset
from engine.diffusion.training.held_back import HeldBack
from engine.diffusion.training.job import Job, train
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.records import sheet_of
from engine.diffusion.training.report import Telling
from engine.diffusion.training.settings import (
    RecordSettings,
    SampleSettings,
    ValidationSettings,
)
from tests.diffusion.training.tiny_runs import (
    METHODS,
    SETTINGS,
    dataset_of,
    job_of,
    pixels_of,
    places_of,
    upscaler_of,
    vae_of,
    vq_of,
)

POOL = ModelPool()


def split(folder: Path) -> tuple[Dataset, Dataset]:
    whole = dataset_of(folder, count=5)
    first = subset(whole, 3)
    return first, replace(whole, examples=whole.examples[3:])


def recorded(folder: Path, *, lr: float = 1e-3, patience: int = 0, steps: int = 6) -> Job:
    training, validation = split(folder / "pictures")
    settings = replace(
        SETTINGS,
        optimizer=OptimizerSettings(lr=lr),
        average=0.0,
        samples=SampleSettings(prompts=("a dog", "a cat"), every=3, steps=1, cfg=1.0),
        validation=ValidationSettings(dataset=validation, every=2, patience=patience),
        records=RecordSettings(every=2, kept=2, has_board=True),
    )
    return job_of(folder, METHODS["lora"], dataset=training, settings=settings, steps=steps)


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(value, right[key]) for key, value in left.items())


@pytest.mark.slow
def test_records_lie_beside_the_result_and_change_nothing_of_it(tmp_path: Path) -> None:
    job = recorded(tmp_path)
    places = replace(places_of(tmp_path), boards=tmp_path / "boards")
    told: list[Telling] = []

    def stopping(telling: Telling) -> None:
        told.append(telling)
        if telling.step == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(job, POOL, places, stopping)
    path = train(job, POOL, places, told.append)
    plain = train(
        replace(job, settings=replace(SETTINGS, average=0.0)), POOL, places_of(tmp_path / "plain")
    )
    assert_equal(load_file(plain), load_file(path))

    curve = told[-1].curve
    assert [step for step, _ in curve.validation] == [0, 2, 4, 6]
    assert len({loss for _, loss in curve.validation}) == 4
    rows = list(csv.DictReader(path.with_suffix(".csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4", "5", "6"]
    assert [row["step"] for row in rows if row["validation_loss"]] == ["0", "2", "4", "6"]
    assert float(rows[4]["loss"]) == pytest.approx(told[3].loss)
    assert "| validation loss | " in path.with_suffix(".md").read_text()

    names = sorted(p.name for p in path.parent.glob("*-step*"))
    assert names == ["result-step000004.safetensors", "result-step000006.safetensors"]
    assert_equal(load_file(path.parent / names[1]), load_file(path))
    assert sheet_of(path).is_file()
    assert events_of(tmp_path / "boards") == {"training": 6, "validation": 3}


def events_of(folder: Path) -> dict[str, int]:
    """How many different steps the event files hold of the two losses."""
    found: dict[str, set[int]] = {}
    for path in folder.rglob("events.*"):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            event = event_pb2.Event.FromString(  # pyright: ignore[reportAttributeAccessIssue]
                data[at + 12 : at + 12 + length]
            )
            for value in event.summary.value:
                found.setdefault(value.tag, set()).add(event.step)
            at += 16 + length  # length and its checksum, the event and its checksum
    return {name: len(found[f"loss/{name}"]) for name in ("training", "validation")}


@pytest.mark.slow
def test_a_training_ends_when_its_validation_does_not_improve(tmp_path: Path) -> None:
    job = recorded(tmp_path, lr=1.0, patience=2, steps=30)
    job = replace(job, settings=replace(job.settings, records=RecordSettings(every=2, kept=9)))
    told: list[Telling] = []
    path = train(job, POOL, places_of(tmp_path), told.append)
    best, _ = told[-1].curve.best or (0, 0.0)
    assert told[-1].curve.waited == 2
    assert told[-1].step < 30
    snapshot = path.with_name(f"result-step{best:06}.safetensors")
    start = {k: v * 0 if "lora_up" in k else v for k, v in load_file(path).items()}
    assert_equal(load_file(path), load_file(snapshot) if best else start)

    other = replace(job.settings, validation=replace(job.settings.validation, patience=0))
    assert replace(job, settings=other).run != job.run


@pytest.mark.parametrize("make", [vae_of, vq_of, pixels_of, upscaler_of])
def test_all_kinds_measure_pictures_held_back(tmp_path: Path, make: Callable[..., Job]) -> None:
    training, validation = split(tmp_path / "own")
    job = make(tmp_path, dataset=training)
    prepared = job.prepare(POOL, places_of(tmp_path))
    held: HeldBack = prepared.held_back(validation)
    first = held()
    assert first == held() > 0
    with torch.no_grad():
        for parameter in prepared.net.parameters():
            parameter.mul_(1.1)
    assert held() != first


def test_pictures_in_both_sets_and_a_missing_package_are_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = recorded(tmp_path)
    same = replace(job.settings.validation, dataset=job.dataset)
    with pytest.raises(NodeError, match=r"3 of the 3 pictures .* trained on too, such as 0\.png"):
        train(
            replace(job, settings=replace(job.settings, validation=same)), POOL, places_of(tmp_path)
        )
    monkeypatch.setattr(board, "PACKAGE", "no_such_package")
    with pytest.raises(EngineError, match="pip install no_such_package"):
        train(job, POOL, places_of(tmp_path))
