"""Weight files: their headers checked, their tensors mapped from disk, nothing executed."""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.api.errors import CorruptFile
from engine.diffusion.gguf_file import MAGIC, read_header, unpacked

WRAPPERS = ("state_dict", "params_ema", "params", "model")  # around the table of some pickles
MAX_HEADER_BYTES = 100_000_000
SAFETENSORS_SUFFIXES = (".safetensors", ".sft")

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """What a header says of one tensor; `start` is its first byte in the file.

    `packed` names the kind of blocks that a GGUF file holds; `dtype` is then what they unpack to.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int = 0
    packed: str | None = None
    packed_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        count = self.dtype.itemsize
        for n in self.shape:
            count *= n
        return count


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """A weight file by its header; `tensor` maps one tensor from disk without copying it.

    A view (see `view`) has the tensors of other files under names of its own.
    """

    path: Path
    infos: Mapping[str, TensorInfo]
    metadata: Mapping[str, str] = field(default_factory=dict)
    pickled: Mapping[str, Tensor] | None = None
    places: Mapping[str, "Place"] | None = None  # of a view

    def __contains__(self, key: str) -> bool:
        return key in self.infos

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor, or () where there is none of that name."""
        info = self.infos.get(key)
        return info.shape if info else ()

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The names that start with `prefix`, in the order of the file."""
        return (k for k in self.infos if k.startswith(prefix))

    def tensor(self, key: str) -> Tensor:
        """One tensor; on disk until it is read (it must not be written)."""
        if self.places is not None:
            file, name = self.places[key]
            return file.tensor(name)
        if self.pickled is not None:
            return self.pickled[key]
        info = self.infos[key]
        if info.size_bytes == 0:
            return torch.empty(info.shape, dtype=info.dtype)
        if info.packed is not None:
            blocks = self._bytes[info.start : info.start + info.packed_bytes]
            return unpacked(blocks, info.packed).view(info.shape)
        raw = self._bytes[info.start : info.start + info.size_bytes]
        if info.start % info.dtype.itemsize:
            raw = raw.clone()  # a view needs aligned bytes
        return raw.view(info.dtype).view(info.shape)

    @cached_property
    def _bytes(self) -> Tensor:
        size = self.path.stat().st_size
        return torch.from_file(str(self.path), shared=False, size=size, dtype=torch.uint8)


Place = tuple[WeightFile, str]  # a file, and the name of one of its tensors


def view(places: Mapping[str, Place], path: Path, metadata: Mapping[str, str]) -> WeightFile:
    """Tensors of one or several files under other names, as if they were one file."""
    return WeightFile(
        path=path,
        infos={key: file.infos[name] for key, (file, name) in places.items()},
        metadata=metadata,
        places=places,
    )


def open_weights(path: Path) -> WeightFile:
    """The header of a weight file, fully checked; no tensor is read.

    Raises: CorruptFile, for a file that is cut off, damaged, or could execute code.
    """
    try:
        if _starts_with(path, MAGIC):
            infos, metadata = read_header(path)
            return WeightFile(path=path, infos=infos, metadata=metadata)
        if path.suffix.lower() in SAFETENSORS_SUFFIXES or not _is_pickle(path):
            return _open_safetensors(path)
        return _open_pickle(path)
    except OSError as error:
        raise CorruptFile(f"{path.name} cannot be read: {error.strerror}.") from error


def _starts_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start


# safetensors --------------------------------------------------------------------------------------


def _open_safetensors(path: Path) -> WeightFile:
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length < 2:
            raise _corrupt(path, "it has no safetensors header")
        if length > MAX_HEADER_BYTES:
            raise _corrupt(path, f"its header claims {length} bytes (at most {MAX_HEADER_BYTES})")
        if 8 + length > size:
            raise _corrupt(
                path, f"it ends inside its header: {size} of {8 + length} bytes are there"
            )
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, f"its header is no valid JSON ({error})") from error
    if not isinstance(header, dict):
        raise _corrupt(path, "its header is no table of tensors")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise _corrupt(path, "its metadata is no table of texts")
    infos = {name: _info(path, name, entry, 8 + length) for name, entry in header.items()}
    _check_layout(path, infos, 8 + length, size)
    return WeightFile(
        path=path, infos=infos, metadata={str(k): str(v) for k, v in metadata.items()}
    )


def _info(path: Path, name: str, entry: Any, base: int) -> TensorInfo:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(path, f"the entry of tensor {name[:200]} is incomplete") from error
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _corrupt(path, f"tensor {name[:200]} has the unknown type {str(dtype)[:40]}")
    numbers = [*shape, begin, end] if isinstance(shape, list) else [None]
    if any(type(n) is not int or not 0 <= n < 2**48 for n in numbers) or len(shape) > 8:
        raise _corrupt(path, f"tensor {name[:200]} has an impossible shape or place")
    info = TensorInfo(dtype=DTYPES[dtype], shape=tuple(shape), start=base + begin)
    if info.size_bytes != end - begin:
        raise _corrupt(
            path,
            f"tensor {name[:200]} of shape {shape} needs {info.size_bytes} bytes, "
            f"but its place holds {end - begin}",
        )
    return info


def _check_layout(path: Path, infos: Mapping[str, TensorInfo], base: int, size: int) -> None:
    """Tensors must lie one after the other, without gap or overlap, up to the end of the file."""
    position = base
    for name, info in sorted(infos.items(), key=lambda item: (item[1].start, item[1].size_bytes)):
        if info.start != position:
            what = "overlaps the one before it" if info.start < position else "leaves a gap"
            raise _corrupt(path, f"tensor {name[:200]} {what}")
        position += info.size_bytes
    if position != size:
        what = "is cut off" if size < position else "has bytes that no tensor owns"
        raise _corrupt(path, f"it {what}: {size} bytes, {position} expected")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _corrupt(path: Path, reason: str) -> CorruptFile:
    return CorruptFile(
        f"{path.name} is no sound safetensors file: {reason}.",
        hint="Download or copy the file again and compare its size with the original.",
    )


# pickled checkpoints ------------------------------------------------------------------------------


def _is_pickle(path: Path) -> bool:
    """Whether a file is a torch archive or a bare pickle, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(2)
    return zipfile.is_zipfile(path) or start[:1] == b"\x80"


_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
)


def _open_pickle(path: Path) -> WeightFile:
    try:
        with _inert_classes(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old pickle protocols are read all the same
            data = torch.load(path, map_location="cpu", weights_only=True, mmap=_can_map(path))
    except _UNREADABLE as error:
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise _executes(path, named.group(1)) from error
        raise CorruptFile(
            f"{path.name} is no sound checkpoint: it is cut off, damaged or of another kind.",
            hint="Download or copy the file again, or convert it to safetensors.",
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(data, dict) and isinstance(data.get(wrapper), dict):
            data = data[wrapper]
    if isinstance(data, Tensor):
        data = {"": data}
    if not isinstance(data, dict):
        raise CorruptFile(f"{path.name} holds no table of tensors.")
    flat = {str(k): v for k, v in _flat(data)}
    tensors = {k: v for k, v in flat.items() if isinstance(v, Tensor)}
    infos = {k: TensorInfo(dtype=v.dtype, shape=tuple(v.shape)) for k, v in tensors.items()}
    metadata = {k: json.dumps(v) for k, v in flat.items() if _is_plain(v)}
    return WeightFile(path=path, infos=infos, pickled=tensors, metadata=metadata)


def _flat(data: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Nested tables as dotted names (`string_to_param.*`), also those in lists (`768.0.weight`)."""
    for key, value in data.items():
        if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            value = {f"{n}.{inner}": v for n, item in enumerate(value) for inner, v in item.items()}
        if isinstance(value, Mapping | torch.nn.ParameterDict):
            yield from ((f"{key}.{inner}", v) for inner, v in value.items())
        else:
            yield key, value


def _is_plain(value: object) -> bool:
    """Whether a value is a short text or number, or a short list of numbers."""
    if isinstance(value, list):
        return len(value) < 100 and all(isinstance(v, int | float) for v in value)
    return isinstance(value, int | float) or (isinstance(value, str) and len(value) < 1000)


def _can_map(path: Path) -> bool:
    return zipfile.is_zipfile(path)


class _Inert:
    """Stands in for a training library's bookkeeping class: takes anything, does nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


@contextmanager
def _inert_classes(path: Path) -> Iterator[None]:
    """Binds the harmless names of old training runs to an inert class while a file is read.

    Raises: CorruptFile, naming what the file wants to execute.
    """
    names = (
        torch.serialization.get_unsafe_globals_in_checkpoint(str(path)) if _can_map(path) else []
    )
    refused = [n for n in names if not _is_harmless(n)]
    if refused:
        raise _executes(path, ", ".join(sorted(refused)[:5]))
    with torch.serialization.safe_globals([(_Inert, name) for name in names]):
        yield


def _executes(path: Path, names: str) -> CorruptFile:
    return CorruptFile(
        f"{path.name} is refused: reading it would execute {names}.",
        hint="Use a safetensors version of this model.",
    )


def _is_harmless(name: str) -> bool:
    numpy_scalars = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")
    return name.startswith(("pytorch_lightning.", "lightning.")) or name in numpy_scalars
