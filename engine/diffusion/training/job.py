"""One training from start to file, whatever is trained: what every kind of job shares."""

import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from engine.api.errors import NodeError
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.loop import LoopConfig, Loss, Step, averaged_weights, fit
from engine.diffusion.training.report import Curve, Telling, Watch
from engine.diffusion.training.result_files import (
    Target,
    check_room,
    find_target,
    training_metadata,
    write_card,
    write_result,
)
from engine.diffusion.training.settings import TrainingSettings
from engine.diffusion.training.state import Stateful

if TYPE_CHECKING:
    from engine.diffusion.residency import ModelPool

VERSION = 2  # part of a run's identity: raise it when the same settings give other numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The file to make, the folder of unfinished runs, and that of encoded pictures.

    Where the file is another run's, the next free name beside it is taken.
    """

    result: Path
    runs: Path
    latents: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Trainable:
    """A job that is ready: the net whose weights learn, its loss, and what is saved of it.

    `tensors` gives the file's content and `pictures` shows what the net can do, both with the
    present weights. `data` is what feeds the loss, where that has a position to resume; `factors`
    are shares of the learning rate by the start of a weight's name. `release` undoes hooks.
    Shapes: pictures (N, H, W, 3) 0..1.
    """

    net: nn.Module
    loss: Loss
    tensors: Callable[[], Mapping[str, Tensor]]
    pictures: Callable[[], Tensor | None] = lambda: None
    data: Stateful | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    factors: tuple[tuple[str, float], ...] = ()
    release: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """All that decides a training; each kind adds its own."""

    dataset: Dataset
    steps: int
    seed: int
    settings: TrainingSettings = field(default_factory=TrainingSettings)

    @property
    @abstractmethod
    def title(self) -> str:
        """What is trained, in words."""

    @property
    @abstractmethod
    def folder(self) -> str:
        """The model folder of the result."""

    @abstractmethod
    def own_identity(self) -> dict[str, Any]:
        """What decides the result's numbers beside data, steps, seed and settings, as JSON."""

    @abstractmethod
    def prepare(self, pool: "ModelPool", places: Places) -> Trainable:
        """Raises: NodeError, ModelError, CorruptFile."""

    def facts(self) -> dict[str, str]:
        """What the card says beside what all cards say."""
        return {}

    def check(self) -> None:
        """Raises: NodeError for what cannot be trained; overridden with what a kind needs."""
        self.dataset.require()
        if self.steps < 1:
            raise NodeError(f"A training of {self.steps} steps trains nothing.", hint="Set steps.")
        optimizer = self.settings.optimizer
        if optimizer.kind == "prodigy" and optimizer.lr < 0.1:
            raise NodeError(
                f"Prodigy finds the learning rate by itself; {optimizer.lr:g} would slow it down.",
                hint="Set the learning rate to 1, or choose another optimizer.",
            )

    def identity(self) -> dict[str, Any]:
        """What decides the numbers of the result, as JSON."""
        return {
            "version": VERSION,
            **self.own_identity(),
            "data": self.dataset.digest,
            "steps": self.steps,
            "seed": self.seed,
            "settings": self.settings.deciding(),
        }

    @property
    def run(self) -> str:
        """The run's identity: the same work has the same one, wherever its files lie."""
        body = json.dumps(self.identity(), sort_keys=True, default=str)
        return hashlib.sha256(body.encode()).hexdigest()[:32]


def train(job: Job, pool: "ModelPool", places: Places, watch: Watch = lambda _: None) -> Path:
    """Trains, or goes on with a training that stopped, or finds its result; gives the file.

    What `watch` raises ends the run with its state saved.
    Raises: NodeError, ModelError, CorruptFile, StorageError, OutOfMemory, EngineError.
    """
    job.check()
    target = find_target(places.result, job.run)
    if target.is_finished:
        return target.path
    prepared = job.prepare(pool, places)
    try:
        _Run(job=job, prepared=prepared, places=places, watch=watch).train(target)
    finally:
        prepared.release()
    return target.path


@dataclass(frozen=True, kw_only=True)
class _Run:
    job: Job
    prepared: Trainable
    places: Places
    watch: Watch
    curve: Curve = field(default_factory=Curve)

    def train(self, target: Target) -> None:
        net = self.prepared.net
        folder = self.places.runs / self.job.run
        trained = sum(p.numel() * 4 for p in net.parameters() if p.requires_grad)
        check_room(folder, 7 * trained)  # two states (weights, two moments) and the result
        state = fit(
            net,
            self.prepared.loss,
            self._config(),
            seed=self.job.seed,
            path=folder / "state.pt",
            data=self,
            on_step=self._on_step,
        )
        with averaged_weights(net, state):
            self._write(target.path, state.step, state.elapsed_s)
        shutil.rmtree(folder, ignore_errors=True)  # the result holds all that is needed

    def _config(self) -> LoopConfig:
        settings, device = self.job.settings, next(self.prepared.net.parameters()).device
        wanted = settings.precision
        if wanted == "auto":
            wanted = "bf16" if device.type == "cuda" else "fp32"
        return LoopConfig(
            steps=self.job.steps,
            optimizer=replace(settings.optimizer, factors=self.prepared.factors),
            rate=settings.rate,
            accumulation=settings.accumulation,
            average=settings.average,
            clip_norm=settings.clip_norm,
            precision=wanted,
            checkpoint_every_s=settings.checkpoint_every_s,
        )

    def state(self) -> Any:
        """What resumes beside the weights: the order of the data, the curve."""
        data = self.prepared.data
        return {"data": data.state() if data else None, "curve": self.curve.state()}

    def load_state(self, state: Any) -> None:
        if self.prepared.data is not None:
            self.prepared.data.load_state(state["data"])
        self.curve.load_state(state["curve"])

    def _on_step(self, step: Step) -> None:
        self.curve.add(step)
        every = self.job.settings.samples.every
        pictures = self.prepared.pictures() if every and step.number % every == 0 else None
        self.watch(
            Telling(
                step=step.number,
                steps=self.job.steps,
                loss=step.loss,
                smoothed=self.curve.smoothed,
                lr=step.lr,
                seconds_left=step.seconds_left,
                curve=self.curve,
                pictures=pictures,
            )
        )

    def _write(self, path: Path, steps: int, seconds: float) -> None:
        job = self.job
        rows = {
            "method": job.title,
            **job.facts(),
            "dataset": f"{job.dataset.name} ({len(job.dataset)} pictures)",
            "data digest": job.dataset.digest,
            "steps": str(steps),
            "seed": str(job.seed),
            "loss": f"{self.curve.smoothed:.5f}",
            "seconds": f"{seconds:.0f}",
        }
        metadata = training_metadata(job.run, job.identity(), rows)
        write_result(path, self.prepared.tensors(), {**self.prepared.metadata, **metadata})
        write_card(path, path.stem, {**rows, "settings": _flat(job.identity())})


def _flat(identity: Mapping[str, Any]) -> str:
    return "`" + json.dumps(identity, sort_keys=True, default=str).replace("|", "/") + "`"
