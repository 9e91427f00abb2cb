"""A training inside a graph: its files in their folders, what it shows while it runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image
from torch import Tensor

from engine.api.errors import NodeError
from engine.api.recipe import FileRef
from engine.diffusion.image_ops import to_pil
from engine.diffusion.training.job import Job, Places, train
from engine.diffusion.training.records import sheet_of
from engine.diffusion.training.report import Telling, thinned

if TYPE_CHECKING:
    from engine.api.context import RunContext

SHOW_EVERY_S = 1.0
KEPT_SAMPLES = 8


def train_in_node(ctx: "RunContext", job: Job, name: str) -> tuple[FileRef, dict[str, Any]]:
    """Trains, or goes on, or finds the result; gives the file and what the node shows at the end.

    Raises: Cancelled or GaveWay with the run's state saved; UnsafePath; what `train` raises.
    """
    wish = wish_of(ctx, job.folder, name)
    places = Places(
        result=wish.path,
        runs=ctx.files.work_folder("training_runs"),
        latents=ctx.files.work_folder("training_latents"),
        boards=ctx.files.work_folder("tensorboard"),
    )
    show = NodeShow(ctx)
    path = train(job, ctx.models, places, show)
    file = wish.granted(ctx, path)
    return file, {**show.ui(), **show.sheet(path), "text": [file.name]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Where a result is wished: a model folder, the folders below it, and the path."""

    folder: str
    depth: int
    path: Path

    def granted(self, ctx: "RunContext", path: Path) -> FileRef:
        """The file that was made there, or beside it, by its name in the model folder."""
        name = path.relative_to(path.parents[self.depth]).as_posix()
        ctx.log(f"The result is {name} in models/{self.folder}.")
        return FileRef(path=str(path), digest=ctx.files.digest(path), name=name)


def wish_of(ctx: "RunContext", folder: str, name: str) -> Wish:
    """The wish of a typed name. Raises: NodeError for an empty one; UnsafePath."""
    stem = name.strip().removesuffix(".safetensors").replace("\\", "/").strip("/")
    if not stem:
        raise NodeError("The name of the result is empty.", hint="Give it a name, such as my-lora.")
    path = ctx.files.place(folder, f"{stem}.safetensors")
    return Wish(folder=folder, depth=stem.count("/"), path=path)


@dataclass(slots=True)
class NodeShow:
    """Tells a node's context of each step: progress, curve, numbers, sample pictures.

    It is also where a training stops: cancelled, or for jobs that were put before it.
    """

    ctx: "RunContext"
    clock: Callable[[], float] = time.monotonic
    _telling: Telling | None = None
    _samples: list[dict[str, Any]] = field(default_factory=list)
    _shown_s: float = float("-inf")

    def __call__(self, telling: Telling) -> None:
        ctx = self.ctx
        if telling.pictures is not None:
            images = [self._saved(p, telling.step, n) for n, p in enumerate(telling.pictures)]
            self._samples.append({"step": telling.step, "images": images})
        for note in telling.notes:
            if self._telling is None or note not in self._telling.notes:
                ctx.log(note)
        self._telling = replace(telling, pictures=None)
        now = self.clock()
        if now - self._shown_s >= SHOW_EVERY_S or telling.pictures is not None:
            self._shown_s = now
            ctx.show(self.ui())
        ctx.progress(telling.step, telling.steps)
        if ctx.is_overtaken and telling.step < telling.steps:
            ctx.give_way()

    def ui(self) -> dict[str, Any]:
        """The numbers, the curve and the newest sample pictures, as JSON."""
        told = self._telling
        if told is None:  # the result was there already
            return {}
        numbers = {
            "step": told.step,
            "steps": told.steps,
            "loss": told.smoothed,
            "lr": told.lr,
            "seconds_left": told.seconds_left,
            "points": [list(point) for point in told.curve.points],
            "validation": [list(point) for point in thinned(told.curve.validation)],
            "samples": self._samples[-KEPT_SAMPLES:],
            "notes": list(told.notes),
        }
        return {"training": [numbers]}

    def sheet(self, result: Path) -> dict[str, Any]:
        """The sheet of a result's samples as a picture under the node, where there is one."""
        path = sheet_of(result)
        if not path.exists():
            return {}
        with Image.open(path) as sheet:
            saved = self.ctx.files.save(
                partial(_write_png, sheet), prefix="training", extension="png", folder="temp"
            )
        return {"images": [saved]}

    def _saved(self, picture: Tensor, step: int, number: int) -> dict[str, str]:
        image = to_pil(picture)
        return self.ctx.files.save(
            partial(_write_png, image),
            prefix="training",
            extension="png",
            folder="temp",
            index=step * 100 + number,
        )


def _write_png(image: Image.Image, file: BinaryIO) -> None:
    image.save(file, "PNG", compress_level=1)
