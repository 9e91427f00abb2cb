"""A small real RunContext over a folder, to call nodes without the engine."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from engine.api.context import Saving
from engine.api.errors import Cancelled, GaveWay, MissingModel
from engine.diffusion.residency import ModelPool
from engine.run.folders import make_folders


@dataclass(kw_only=True)
class FolderFiles:
    """Model folders under `base/models`, the others beside it."""

    base: Path

    def resolve(self, folder: str, name: str) -> Path:
        root = self.base / folder
        path = (
            root if folder in ("input", "output", "temp", "user") else self.base / "models" / folder
        ) / name
        if not (path.is_dir() if folder in ("datasets", "diffusers") else path.is_file()):
            raise MissingModel(f"{folder} has no file {name}.")
        return path

    def below(self, folder: str, name: str) -> dict[str, Path]:
        root = self.base / folder / name
        return {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}

    def place(self, folder: str, name: str) -> Path:
        return make_folders(base=self.base, models=self.base / "models").join(folder, name)

    def digest(self, path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def work_folder(self, name: str) -> Path:
        return self.base / "user" / "weft" / name

    def save(
        self,
        write: Callable[[BinaryIO], None],
        *,
        prefix: str,
        extension: str,
        folder: str = "output",
        index: int = 0,
        size_px: tuple[int, int] | None = None,
    ) -> dict[str, str]:
        root = self.base / folder
        root.mkdir(exist_ok=True)
        name = f"{prefix}_{len(list(root.iterdir())) + 1:05}_.{extension}"
        with (root / name).open("wb") as file:
            write(file)
        return {"filename": name, "subfolder": "", "type": folder}


@dataclass(kw_only=True)
class Context:
    """Keeps what nodes report; `cancel_after` progress reports the job counts as cancelled,
    after `overtaken_after` of them as overtaken."""

    files: FolderFiles
    models: Any = field(default_factory=ModelPool)
    prompt: Mapping[str, Any] = field(default_factory=dict)
    extra_pnginfo: Mapping[str, Any] = field(default_factory=dict)
    saving: Saving = field(default_factory=Saving)
    job_id: str = "job"
    node_id: str = "1"
    wants_previews: bool = False
    cancel_after: int | None = None
    overtaken_after: int | None = None
    shown: list[Mapping[str, Any]] = field(default_factory=list)
    reports: list[tuple[float, float]] = field(default_factory=list)
    previews: list[Any] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def progress(self, value: float, maximum: float, preview: Any = None) -> None:
        self.reports.append((value, maximum))
        if preview is not None:
            self.previews.append(preview)
        self.check_cancelled()

    def text(self, message: str) -> None:
        self.lines.append(message)

    def show(self, ui: Mapping[str, Any]) -> None:
        self.shown.append(ui)

    @property
    def is_overtaken(self) -> bool:
        return self.overtaken_after is not None and len(self.reports) >= self.overtaken_after

    def give_way(self) -> NoReturn:
        raise GaveWay

    def check_cancelled(self) -> None:
        if self.cancel_after is not None and len(self.reports) >= self.cancel_after:
            raise Cancelled

    def log(self, message: str) -> None:
        self.lines.append(message)


def context(base: Path, **fields: Any) -> Context:
    return Context(files=FolderFiles(base=base), **fields)
