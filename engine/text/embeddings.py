"""Textual-inversion embeddings by name: which files they may be, and how many tokens each takes."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from engine.api.errors import MissingModel

ENDINGS = ("", ".safetensors", ".pt", ".bin")
_MAX_HEADER_BYTES = 1 << 20


def find_embedding(resolve: Callable[[str, str], Path], name: str) -> Path | None:
    """The file of an embedding's name, with or without its ending; None if there is none.

    `resolve` gives the file of a folder and a name, or raises MissingModel.
    """
    for ending in ENDINGS:
        try:
            return resolve("embeddings", name + ending)
        except MissingModel:
            continue
    return None


def vector_count(path: Path) -> int | None:
    """How many tokens an embedding takes, by its file's header alone; None if that is not told.

    Nothing that a file holds is executed.
    """
    try:
        if zipfile.is_zipfile(path):
            sizes = _pickled_sizes(path)
        else:
            sizes = _safetensors_sizes(path)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, pickle.UnpicklingError):
        return None
    except (EOFError, IndexError, RecursionError, zipfile.BadZipFile):
        return None
    rows = [size[0] if len(size) > 1 else 1 for size in sizes]
    return rows[0] if rows else None


def _safetensors_sizes(path: Path) -> list[list[int]]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= _MAX_HEADER_BYTES:
            return []
        header = cast("dict[str, Any]", json.loads(file.read(length)))
    infos = {k: v for k, v in header.items() if k != "__metadata__"}
    names = [n for n in ("emb_params", "clip_l", "clip_g") if n in infos] or list(infos)
    return [infos[name]["shape"] for name in names]


def _pickled_sizes(path: Path) -> list[list[int]]:
    """The sizes of the tensors that a file of torch names, in their order."""
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        with archive.open(name) as file:
            reader = _SizeReader(file)
            reader.load()
    return reader.sizes


class _SizeReader(pickle.Unpickler):
    """Reads the structure of a pickle; every class and function in it is only an empty name."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.sizes: list[list[int]] = []

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        return self._tensor if name == "_rebuild_tensor_v2" else _Nothing

    def persistent_load(self, pid: Any) -> None:
        return None

    def _tensor(self, _storage: object, _offset: object, size: Any, *_more: object) -> None:
        self.sizes.append([int(n) for n in size])


class _Nothing:
    """Stands for anything else that a pickle names."""

    def __init__(self, *_arguments: object) -> None: ...
