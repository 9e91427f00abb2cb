"""Encoded pictures and captions on disk, by content: made once, for every training that follows."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from engine.api.errors import StorageError
from engine.api.whole_file import write_whole

Tensors = Mapping[str, Tensor]
_SHARE_KEPT = 0.8  # of the budget after a clean-up, so that not every write cleans up


class ContentStore:
    """Files by content in one folder, at most `budget_bytes` of them: the longest unused go first.

    A reader sees a whole file or none; several processes may share the folder.
    """

    def __init__(self, folder: Path, budget_bytes: int, ending: str = "") -> None:
        self.folder = folder
        self._budget_bytes = budget_bytes
        self._ending = ending
        self._size_bytes: int | None = None

    def path(self, name: str) -> Path:
        """Where the file of a name (hex) is or would be."""
        return self.folder / name[:2] / f"{name}{self._ending}"

    def get(self, name: str) -> bytes | None:
        """The bytes of that name, or None."""
        path = self.path(name)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        with suppress(OSError):
            os.utime(path)
        return data

    def put(self, name: str, data: bytes) -> Path:
        """Keep bytes under a name. Raises: StorageError (disk full …)."""
        path = self.path(name)
        try:
            if self._size_bytes is None:
                self._size_bytes = sum(size for _, size, _ in self._files())
            if self._size_bytes + len(data) > self._budget_bytes:
                self._clean(len(data))
            write_whole(path, lambda file: file.write(data), is_durable=False)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be written: {error.strerror or error}.",
                hint="Free some space on that disk; everything in that folder may be deleted.",
            ) from error
        self._size_bytes += len(data)
        return path

    def _files(self) -> list[tuple[float, int, Path]]:
        found: list[tuple[float, int, Path]] = []
        for path in self.folder.glob("??/*"):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return sorted(found)

    def _clean(self, room_bytes: int) -> None:
        files = self._files()
        size = sum(item[1] for item in files)
        wanted = int(self._budget_bytes * _SHARE_KEPT) - room_bytes
        for _, size_bytes, path in files:
            if size <= wanted:
                break
            with suppress(OSError):
                path.unlink()
                size -= size_bytes
        self._size_bytes = size


class TensorCache:
    """Named tensors by key; `recipe` names all that made them beside the key."""

    def __init__(self, folder: Path, recipe: str, budget_bytes: int = 20 << 30) -> None:
        self._store = ContentStore(folder, budget_bytes, ".safetensors")
        self._recipe = recipe

    def get(self, key: str) -> dict[str, Tensor] | None:
        """What was kept under a key; a damaged file counts as absent."""
        data = self._store.get(self._name(key))
        if data is None:
            return None
        try:
            return load(data)
        except SafetensorError:
            return None

    def put(self, key: str, tensors: Tensors) -> None:
        """Keep tensors, without loss. Raises: StorageError."""
        plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        self._store.put(self._name(key), save(plain))

    def get_all(
        self, keys: Sequence[str], make: Callable[[Sequence[int]], Tensors]
    ) -> dict[str, Tensor]:
        """The tensors of several keys, stacked; `make` gives those of the missing positions.

        Shapes: each tensor (len(keys), …); of `make`, (len(positions), …).
        """
        found = [self.get(key) for key in keys]
        missing = [i for i, tensors in enumerate(found) if tensors is None]
        if missing:
            made = make(missing)
            for row, i in enumerate(missing):
                found[i] = {name: t[row].detach().cpu().contiguous() for name, t in made.items()}
                self.put(keys[i], found[i] or {})
        whole = [tensors for tensors in found if tensors is not None]
        return {name: torch.stack([tensors[name] for tensors in whole]) for name in whole[0]}

    def _name(self, key: str) -> str:
        return hashlib.sha256(f"{self._recipe}\n{key}".encode("utf-8", "surrogatepass")).hexdigest()


class LatentCache(TensorCache):
    """Encoded pictures by `Batch.keys`; `recipe` is the identity of the VAE and its precision."""


class TextCache(TensorCache):
    """Encoded captions by their text; `recipe` is the identity of the text encoders."""
