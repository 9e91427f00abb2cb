"""GGUF weight files: their headers as those of other weight files, their blocks unpacked on use."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.api.errors import CorruptFile, ModelError

if TYPE_CHECKING:
    from engine.diffusion.weightfile import TensorInfo

MAGIC = b"GGUF"
PLAIN = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."  # where a converter flattened a tensor


def _library(name: str) -> Any:
    """The package gguf. Raises: ModelError, where it is not installed."""
    try:
        import gguf
    except ImportError as error:
        raise ModelError(
            f"{name} is a GGUF file, and the package gguf, which reads them, is not installed.",
            hint="Install it with `pip install gguf` and start Weft again.",
        ) from error
    return gguf


def read_header(path: Path) -> "tuple[dict[str, TensorInfo], dict[str, str]]":
    """The tensors and the metadata of a file. Raises: CorruptFile, ModelError."""
    from engine.diffusion.weightfile import TensorInfo

    gguf = _library(path.name)
    try:
        reader = gguf.GGUFReader(path)
        texts = {
            name: str(field.contents())
            for name, field in reader.fields.items()
            if field.types and field.types[0] == gguf.GGUFValueType.STRING
        }
        infos: dict[str, TensorInfo] = {}
        for tensor in reader.tensors:
            shape = tuple(int(n) for n in reversed(tensor.shape))
            original = reader.fields.get(_ORIGINAL_SHAPE + tensor.name)
            if original is not None:
                shape = tuple(int(n) for n in original.contents())
            kind = tensor.tensor_type.name
            infos[tensor.name] = TensorInfo(
                dtype=PLAIN.get(kind, torch.float32),
                shape=shape,
                start=int(tensor.data_offset),
                packed=None if kind in PLAIN else kind,
                packed_bytes=int(tensor.n_bytes),
            )
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise CorruptFile(
            f"{path.name} is no sound GGUF file: {error}.",
            hint="Download or copy the file again and compare its size with the original.",
        ) from error
    for kind in {info.packed for info in infos.values()} - {None}:
        _check_kind(gguf, path, kind)
    return infos, texts


def _check_kind(gguf: Any, path: Path, kind: str | None) -> None:
    """Raises: CorruptFile, for a kind of blocks that the package cannot unpack."""
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    try:
        unpacked(torch.zeros(size, dtype=torch.uint8), str(kind))
    except NotImplementedError as error:
        raise CorruptFile(
            f"{path.name} holds weights of the kind {kind}, which the package gguf cannot unpack.",
            hint="Choose another quantization of this model, such as Q8_0 or Q4_K.",
        ) from error


def unpacked(blocks: Tensor, kind: str) -> Tensor:
    """The values of blocks of bytes, in fp32 and one row."""
    gguf = _library("The file")
    wanted = gguf.GGMLQuantizationType[kind]
    _, size = gguf.GGML_QUANT_SIZES[wanted]
    values = gguf.quants.dequantize(blocks.numpy().reshape(-1, size), wanted)
    return torch.from_numpy(values).flatten()
