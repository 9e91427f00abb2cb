"""One fine-tuning from start to file: a method on a base model and a dataset, through the loop."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine.api.errors import NodeError
from engine.api.recipe import Recipe
from engine.diffusion.training.base import Base, open_base
from engine.diffusion.training.data.batches import Batches, BatchOptions
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.denoising import DenoisingLoss, Latents
from engine.diffusion.training.loop import LoopConfig, Step, averaged_weights, fit
from engine.diffusion.training.methods import Method, Prepared
from engine.diffusion.training.report import Curve, Telling, Watch
from engine.diffusion.training.result_files import (
    Target,
    check_room,
    find_target,
    training_metadata,
    write_card,
    write_result,
)
from engine.diffusion.training.samples import sample_pictures
from engine.diffusion.training.settings import TrainingSettings

if TYPE_CHECKING:
    from engine.diffusion.residency import ModelPool

VERSION = 1  # part of a run's identity: raise it when the same settings give other numbers


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """All that decides a training."""

    method: Method
    model: Recipe
    clip: Recipe | None
    vae: Recipe | None
    dataset: Dataset
    steps: int
    seed: int
    settings: TrainingSettings = field(default_factory=TrainingSettings)

    def identity(self) -> dict[str, Any]:
        """What decides the numbers of the result, as JSON."""
        parts = (self.model, self.clip, self.vae)
        return {
            "version": VERSION,
            "method": {"title": self.method.title, **asdict(self.method)},  # pyright: ignore[reportArgumentType] - methods are dataclasses
            "base": [repr((p.weights_identity, p.options)) for p in parts if p is not None],
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The file to make, the folder of unfinished runs, and that of encoded pictures.

    Where the file is another run's, the next free name beside it is taken.
    """

    result: Path
    runs: Path
    latents: Path | None = None


def finetune(
    job: FineTune, pool: "ModelPool", places: Places, watch: Watch = lambda _: None
) -> Path:
    """Trains, or goes on with a training that stopped, or finds its result; gives the file.

    What `watch` raises ends the run with its state saved.
    Raises: NodeError, ModelError, CorruptFile, StorageError, OutOfMemory, EngineError.
    """
    _check(job)
    target = find_target(places.result, job.run)
    if target.is_finished:
        return target.path
    base = open_base(pool, job.model, job.clip, job.vae)
    data = Batches(job.dataset, _batch_options(job, base))
    prepared = job.method.prepare(base, torch.Generator().manual_seed(job.seed))
    try:
        run = _Run(job=job, base=base, data=data, prepared=prepared, places=places, watch=watch)
        run.train(target)
    finally:
        prepared.release()
    return target.path


def _check(job: FineTune) -> None:
    job.dataset.require()
    job.method.check([e.text for e in job.dataset.examples if not e.is_class])
    if job.steps < 1:
        raise NodeError(f"A training of {job.steps} steps trains nothing.", hint="Set steps.")
    optimizer = job.settings.optimizer
    if optimizer.kind == "prodigy" and optimizer.lr < 0.1:
        raise NodeError(
            f"Prodigy finds the learning rate by itself; {optimizer.lr:g} would slow it down.",
            hint="Set the learning rate to 1, or choose another optimizer.",
        )


def _batch_options(job: FineTune, base: Base) -> BatchOptions:
    options = job.settings.batches
    return replace(options, size_px=options.size_px or base.denoiser.native_size, seed=job.seed)


@dataclass(frozen=True, kw_only=True)
class _Run:
    job: FineTune
    base: Base
    data: Batches
    prepared: Prepared
    places: Places
    watch: Watch
    curve: Curve = field(default_factory=Curve)

    def train(self, target: Target) -> None:
        job, prepared = self.job, self.prepared
        folder = self.places.runs / job.run
        trained = sum(p.numel() * 4 for p in prepared.net.parameters() if p.requires_grad)
        check_room(folder, 7 * trained)  # two states (weights, two moments) and the result
        if job.settings.gradient_checkpointing:
            self.base.unet.train()
            self.base.unet.enable_gradient_checkpointing()  # pyright: ignore[reportCallIssue]
        loss = DenoisingLoss(
            base=self.base,
            data=self.data,
            latents=Latents(self.base, self.data, self.places.latents),
            settings=job.settings.objective,
            encode=prepared.encode,
        )
        state = fit(
            prepared.net,
            loss,
            self._config(),
            seed=job.seed,
            path=folder / "state.pt",
            data=self,
            on_step=self._on_step,
        )
        with averaged_weights(prepared.net, state):
            self._write(target.path, state.step, state.elapsed_s)
        shutil.rmtree(folder, ignore_errors=True)  # the result holds all that is needed

    def _config(self) -> LoopConfig:
        settings, base = self.job.settings, self.base
        wanted = settings.precision
        if wanted == "auto":
            wanted = "bf16" if base.device.type == "cuda" else "fp32"
        return LoopConfig(
            steps=self.job.steps,
            optimizer=replace(settings.optimizer, factors=self.job.method.factors),
            rate=settings.rate,
            accumulation=settings.accumulation,
            average=settings.average,
            clip_norm=settings.clip_norm,
            precision=wanted,
            checkpoint_every_s=settings.checkpoint_every_s,
        )

    def state(self) -> Any:
        """What resumes beside the weights: the order of the data, the curve."""
        return {"data": self.data.state(), "curve": self.curve.state()}

    def load_state(self, state: Any) -> None:
        self.data.load_state(state["data"])
        self.curve.load_state(state["curve"])

    def _on_step(self, step: Step) -> None:
        self.curve.add(step)
        samples = self.job.settings.samples
        is_due = samples.every and step.number % samples.every == 0
        pictures = None
        if is_due and samples.prompts:
            pictures = sample_pictures(self.base, self.prepared.encode, samples)
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
            "method": job.method.title,
            "base": job.model.files[0].name or Path(job.model.files[0].path).name,
            "base digest": job.model.files[0].digest,
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
