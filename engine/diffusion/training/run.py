"""A job on its way from its first step to its files: what it measures, shows and keeps."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from torch import Tensor

from engine.api.errors import OutOfMemory
from engine.diffusion.training.advice import MIN_STEPS, Signs, advise
from engine.diffusion.training.board import Board
from engine.diffusion.training.held_back import HeldBack
from engine.diffusion.training.loop import LoopConfig, Step, averaged_weights, fit, mixed
from engine.diffusion.training.records import Records
from engine.diffusion.training.report import Curve, Telling, Watch
from engine.diffusion.training.result_files import (
    check_room,
    training_metadata,
    write_card,
    write_result,
)
from engine.diffusion.training.team import Team

if TYPE_CHECKING:
    from engine.diffusion.training.job import Job, Places, Trainable

_BEST = "best.safetensors"
_PROBED = 8  # pictures whose loss says how much is learned


@dataclass(kw_only=True)
class Run:
    """One sitting of a job; `path` is its result, `notes` the advice of the moment."""

    job: "Job"
    prepared: "Trainable"
    places: "Places"
    path: Path
    watch: Watch
    team: Team = field(default_factory=Team)
    curve: Curve = field(default_factory=Curve)
    notes: Sequence[str] = ()
    _first_styles: float | None = None
    _signs: Signs = field(default_factory=lambda: Signs(progress=0.0))

    def train(self) -> None:
        """Goes on to the end, and writes the result.

        Raises: what `watch` raises, with the state saved; EngineError, StorageError, OutOfMemory.
        """
        net, held = self.prepared.net, self.job.settings.validation
        trained = sum(p.numel() * 4 for p in net.parameters() if p.requires_grad)
        # two states (weights, two moments), the result, and the best state where one is kept
        check_room(self._folder, (7 + held.stops) * trained)
        path = state_path(self.job, self.places)
        if not path.exists():
            self._look(0)
        try:
            state = fit(
                net,
                self.prepared.loss,
                self._config,
                seed=self.job.seed,
                path=path,
                data=self,
                on_step=self._on_step,
                is_over=lambda: held.stops and self.curve.waited >= held.patience,
                team=self.team,
            )
        except OutOfMemory as error:
            raise OutOfMemory(error.message, hint=self.job.settings.what_to_lower()) from error
        finally:
            if self._board is not None:
                self._board.close()
        with averaged_weights(net, state):
            self._write(state.step, state.elapsed_s)
        shutil.rmtree(self._folder, ignore_errors=True)  # the result holds all that is needed

    def state(self) -> Any:
        """What resumes beside the weights: the order of the data, the curve."""
        data = self.prepared.data
        return {
            "data": data.state() if data else None,
            "curve": self.curve.state(),
            "styles": self._first_styles,
        }

    def load_state(self, state: Any) -> None:
        if self.prepared.data is not None:
            self.prepared.data.load_state(state["data"])
        self.curve.load_state(state["curve"])
        self._first_styles = state["styles"]

    # Parts that are made when they are first wanted

    @cached_property
    def _folder(self) -> Path:
        return self.places.runs / self.job.run

    @cached_property
    def _records(self) -> Records:
        return Records(result=self.path, folder=self._folder, run=self.job.run)

    @cached_property
    def _board(self) -> Board | None:
        boards = self.places.boards
        if boards is None or not self.job.settings.records.has_board:
            return None
        return Board(boards / self.path.stem)

    @cached_property
    def _held_back(self) -> HeldBack | None:
        dataset = self.job.settings.validation.dataset
        return None if dataset is None else self.prepared.held_back(dataset)

    @cached_property
    def _learned(self) -> HeldBack:
        """Some of the pictures that are trained on, always the same."""
        own = [e for e in self.job.dataset.examples if not e.is_class]
        return self.prepared.held_back(replace(self.job.dataset, examples=tuple(own[:_PROBED])))

    @cached_property
    def _config(self) -> LoopConfig:
        return loop_config(self.job, self.prepared)

    # While it runs

    def _on_step(self, step: Step) -> None:
        self.curve.add(step)
        pictures: Tensor | None = None
        if self._is_due(step.number):
            with step.averaged():
                pictures = self._look(step.number)
        if self._board is not None:
            measured = self.curve.validation[-1:]
            validation = measured[0][1] if measured and measured[0][0] == step.number else None
            self._board.add(step, validation, pictures)
        self.watch(
            Telling(
                step=step.number,
                steps=self.job.steps,
                loss=step.loss,
                smoothed=self.curve.smoothed,
                lr=step.lr,
                seconds_left=step.seconds_left,
                curve=self.curve,
                notes=self.notes,
                pictures=pictures,
            )
        )

    def _is_due(self, number: int) -> bool:
        settings = self.job.settings
        validates = settings.validation.every if settings.validation.dataset else 0
        periods = (settings.samples.every, settings.records.every, validates)
        return number == self.job.steps or any(n and number % n == 0 for n in periods)

    def _look(self, number: int) -> Tensor | None:
        """Measures, keeps and shows what is due after a step; gives the samples.

        Shapes: (N, H, W, 3) 0..1.
        """
        job, is_end = self.job, number in (0, self.job.steps)
        samples, records = job.settings.samples, job.settings.records
        pictures: Tensor | None = None
        if self._held_back and (is_end or number % job.settings.validation.every == 0):
            self._measure(self._held_back, number)
        if number and samples.every and number % samples.every == 0:
            pictures = self.prepared.pictures()
            if pictures is not None:
                self._records.keep_pictures(number, pictures)
        if number and records.every and number % records.every == 0:
            tensors = self.prepared.tensors()
            self._records.keep(number, records.kept, tensors, self.prepared.metadata)
        if job.steps >= MIN_STEPS:
            if is_end or pictures is not None:
                self._probe(number, pictures)
            signs = replace(self._signs, validation=tuple(self.curve.validation))
            self.notes = (*job.notes(), *advise(signs))
        return pictures

    def _probe(self, number: int, pictures: Tensor | None) -> None:
        """Takes the signs of advice anew."""
        self.curve.own.append((number, self._loss_of(self._learned)))
        signs = Signs(progress=number / self.job.steps, own=tuple(self.curve.own))
        signs = self.prepared.signs(signs, pictures)
        if number == 0:
            self._first_styles = signs.styles
        if signs.styles is not None and self._first_styles:
            signs = replace(signs, styles=signs.styles / self._first_styles)
        self._signs = signs

    def _loss_of(self, pictures: HeldBack) -> float:
        with mixed(next(self.prepared.net.parameters()).device, self._config.precision):
            return pictures()

    def _measure(self, held: HeldBack, number: int) -> None:
        """The loss of the pictures held back; a best state is kept where it may be the result."""
        self.curve.validation.append((number, self._loss_of(held)))
        if self.job.settings.validation.stops and self.curve.waited == 0:
            write_result(self._folder / _BEST, self.prepared.tensors(), {})

    # At its end

    def _write(self, steps: int, seconds: float) -> None:
        job, best = self.job, self.curve.best
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
        if best is not None:
            rows["validation loss"] = f"{best[1]:.5f} at step {best[0]}"
        if self.notes:
            rows["advice"] = " ".join(self.notes)
        metadata = training_metadata(job.run, job.identity(), rows)
        write_result(self.path, self._tensors(), {**self.prepared.metadata, **metadata})
        write_card(self.path, self.path.stem, {**rows, "settings": _flat(job.identity())})
        self._records.write_curve(self.curve)
        self._records.write_sheet(job.settings.samples.prompts)

    def _tensors(self) -> Mapping[str, Tensor]:
        """The result's content: the best state where validation decides, else the present one."""
        if self.job.settings.validation.stops:
            return load_file(self._folder / _BEST)
        return self.prepared.tensors()


def state_path(job: "Job", places: "Places") -> Path:
    """Where an unfinished run keeps all that it goes on with."""
    return places.runs / job.run / "state.pt"


def loop_config(job: "Job", prepared: "Trainable") -> LoopConfig:
    """How a prepared job is trained on the device where it lies."""
    settings, device = job.settings, next(prepared.net.parameters()).device
    wanted = settings.precision
    if wanted == "auto":
        wanted = "bf16" if device.type == "cuda" else "fp32"
    return LoopConfig(
        steps=job.steps,
        optimizer=replace(settings.optimizer, factors=prepared.factors),
        rate=settings.rate,
        accumulation=settings.accumulation,
        average=settings.average,
        clip_norm=settings.clip_norm,
        precision=wanted,
        checkpoint_every_s=settings.checkpoint_every_s,
    )


def _flat(identity: Mapping[str, Any]) -> str:
    return "`" + json.dumps(identity, sort_keys=True, default=str).replace("|", "/") + "`"
