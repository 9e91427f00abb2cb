"""One training from start to file, whatever is trained: what every kind of job shares."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from engine.api.errors import NodeError
from engine.diffusion.training.advice import Signs
from engine.diffusion.training.board import require_board
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.held_back import HeldBack, require_apart
from engine.diffusion.training.loop import Loss
from engine.diffusion.training.report import Watch
from engine.diffusion.training.result_files import find_target
from engine.diffusion.training.run import Run
from engine.diffusion.training.settings import TrainingSettings
from engine.diffusion.training.state import Stateful
from engine.diffusion.training.team import team_of

if TYPE_CHECKING:
    from engine.diffusion.residency import ModelPool

VERSION = 2  # part of a run's identity: raise it when the same settings give other numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The file to make, the folder of unfinished runs, those of encoded pictures and event files.

    Where the file is another run's, the next free name beside it is taken.
    """

    result: Path
    runs: Path
    latents: Path | None = None
    boards: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Trainable:
    """A job that is ready: the net whose weights learn, its loss, and what is saved of it.

    `tensors` gives the file's content and `pictures` shows what the net can do, both with the
    present weights. `data` is what feeds the loss, where that has a position to resume;
    `held_back` measures given pictures, `signs` adds to the signs of advice what the newest samples
    show. `factors` are shares of the learning rate by the start of
    a weight's name. `release` undoes hooks. Shapes: pictures (N, H, W, 3) 0..1.
    """

    net: nn.Module
    loss: Loss
    held_back: Callable[[Dataset], HeldBack]
    tensors: Callable[[], Mapping[str, Tensor]]
    pictures: Callable[[], Tensor | None] = lambda: None
    signs: Callable[[Signs, Tensor | None], Signs] = lambda signs, _: signs
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

    def notes(self) -> list[str]:
        """What can be advised before the first step."""
        return []

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
        if self.settings.validation.dataset is not None:
            require_apart(self.dataset, self.settings.validation.dataset)
        if self.settings.records.has_board:
            require_board()

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
    team = team_of(job, places, pool.precision, pool.device)
    prepared = job.prepare(pool, places)
    run = Run(job=job, prepared=prepared, places=places, path=target.path, watch=watch, team=team)
    try:
        run.train()
    finally:
        team.end()
        prepared.release()
    return target.path
