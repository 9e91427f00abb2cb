"""The files that trainings make: their names, their metadata, their cards; written as a whole."""

import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from safetensors.torch import save
from torch import Tensor

from engine.api.errors import CorruptFile, StorageError
from engine.api.whole_file import write_whole
from engine.diffusion.weightfile import open_weights

RUN_KEY = "weft.training.run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a run's result belongs, and whether it lies there already."""

    path: Path
    is_finished: bool


def find_target(wished: Path, run: str) -> Target:
    """The wished file, or the next free `name-2 …` where other files have that name."""
    for path in _candidates(wished):
        if not path.exists():
            return Target(path=path, is_finished=False)
        if run_of(path) == run:
            return Target(path=path, is_finished=True)
    raise AssertionError("there is always a next number")


def _candidates(wished: Path) -> Iterator[Path]:
    yield wished
    for number in itertools.count(2):
        yield wished.with_name(f"{wished.stem}-{number}{wished.suffix}")


def run_of(path: Path) -> str | None:
    """The run that made a file, where it says so."""
    try:
        return open_weights(path).metadata.get(RUN_KEY)
    except CorruptFile:
        return None


def write_result(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file, there as a whole or not at all. Raises: StorageError."""
    data = save(dict(tensors), {"format": "pt", **metadata})
    write_bytes(path, lambda file: file.write(data))


def write_card(path: Path, title: str, rows: Mapping[str, str]) -> None:
    """The card beside a result: what it is and what it was made from. Raises: StorageError."""
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    text = f"# {title}\n\n| | |\n|---|---|\n{table}\n"
    write_bytes(path.with_suffix(".md"), lambda file: file.write(text.encode()))


def training_metadata(run: str, settings: object, rows: Mapping[str, str]) -> dict[str, str]:
    """What the file itself says of its making."""
    facts = {f"weft.training.{name.replace(' ', '_')}": value for name, value in rows.items()}
    return {
        RUN_KEY: run,
        "weft.training.settings": json.dumps(settings, sort_keys=True, default=str),
        **facts,
    }


def check_room(folder: Path, wanted_bytes: int) -> None:
    """Raises: StorageError, when a disk has no room for what a run will write."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < wanted_bytes:
        raise StorageError(
            f"Training needs {wanted_bytes / 1e9:.1f} GB in {folder} for its states and its "
            f"result, but only {free / 1e9:.1f} GB are free.",
            hint="Free some space, or train a LoRA instead of a whole checkpoint.",
        )


def write_bytes(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """A file as a whole or not at all. Raises: StorageError."""
    try:
        write_whole(path, write)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}.",
            hint="Free some space or allow writing there, then run it again: nothing is trained "
            "twice.",
        ) from error
