"""Folders of models that a person added: `user/model_folders.json`, written by `main.py models`.

They are used in place and read only. A folder that is not there now (a disk that is not plugged in)
is passed over until it is back.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from engine.api.errors import EngineError, LaunchError, StorageError
from engine.run.folders import ALIASES, Folders
from engine.run.loose_files import LooseFiles
from engine.run.model_layouts import Source, plain_source, recognise

FILE_NAME = "model_folders.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedFolder:
    """One added folder; `kind` only for a folder of no known layout, all of one kind."""

    path: Path
    kind: str | None = None

    def source(self) -> Source | None:
        """What it is now; None when it is not there."""
        if not self.path.is_dir():
            return None
        known = None if self.kind else recognise(self.path)
        return known or plain_source(self.path, self.kind)


def read_added(user: Path) -> tuple[AddedFolder, ...]:
    """The folders that were added. Raises: LaunchError when the file is damaged."""
    file = user / FILE_NAME
    try:
        rows = cast(list[dict[str, Any]], json.loads(file.read_text(encoding="utf-8"))["folders"])
        return tuple(AddedFolder(path=Path(r["path"]), kind=r.get("kind")) for r in rows)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LaunchError(
            f"The list of model folders {file} cannot be read: {error or type(error).__name__}.",
            hint="Delete it and add your folders again: main.py models add DIR",
        ) from error


def write_added(user: Path, added: Sequence[AddedFolder]) -> None:
    """Keep the list; it is there as a whole or as it was. Raises: StorageError."""
    file = user / FILE_NAME
    rows = [{"path": str(a.path), **({"kind": a.kind} if a.kind else {})} for a in added]
    beside = file.with_name(f".{FILE_NAME}.{os.getpid()}.tmp")
    try:
        user.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps({"folders": rows}, indent=2) + "\n", encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        raise StorageError(
            f"The list of model folders {file} cannot be written: {error.strerror}."
        ) from error


def with_added(folders: Folders) -> Folders:
    """The folders with all that was added, after our own. Raises: LaunchError."""
    models = {kind: list(paths) for kind, paths in folders.models.items()}
    loose = list(folders.loose)
    sources = list(folders.sources)
    for added in read_added(folders.user):
        source = added.source()
        if source is None:
            continue
        for kind, paths in source.folders.items():
            known = models.setdefault(ALIASES.get(kind, kind), [])
            known += [path for path in paths if path not in known]
        if source.list_loose is not None:
            loose.append(LooseFiles(root=source.root, lister=source.list_loose))
        sources.append((source.root, source.title))
    return replace(
        folders,
        models={kind: tuple(paths) for kind, paths in models.items()},
        loose=tuple(loose),
        sources=tuple(sources),
    )


def count_models(source: Source) -> dict[str, int]:
    """How many files of each kind a source has, without opening ours. Raises: EngineError."""
    if not source.root.is_dir():
        raise EngineError(f"There is no folder {source.root}.")
    folders = Folders(
        base=source.root, input=source.root, output=source.root, temp=source.root,
        user=source.root, models=source.folders,
        loose=(LooseFiles(root=source.root, lister=source.list_loose),)
        if source.list_loose else (),
    )  # fmt: skip
    kinds = {*source.folders, *_KINDS_OF_LOOSE} if source.list_loose else set(source.folders)
    counts = {kind: len(folders.list_files(kind)) for kind in sorted(kinds)}
    return {kind: count for kind, count in counts.items() if count}


_KINDS_OF_LOOSE = (
    "checkpoints", "clip_vision", "controlnet", "diffusion_models", "embeddings", "gligen",
    "loras", "text_encoders", "upscale_models", "vae",
)  # fmt: skip
