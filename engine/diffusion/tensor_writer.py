"""safetensors files written tensor by tensor, so that a large model is never in memory twice."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import torch
from torch import Tensor

from engine.diffusion.weightfile import DTYPES

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A tensor to write; it is made when its turn comes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    @property
    def size_bytes(self) -> int:
        count = self.dtype.itemsize
        for side in self.shape:
            count *= side
        return count


def write_tensors(
    file: BinaryIO,
    tensors: Mapping[str, Saved],
    metadata: Mapping[str, str],
    on_tensor: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Writes a safetensors file; `on_tensor` is told how many of all are written.

    Wide types come first, so that every tensor begins at a multiple of its size.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    start = 0
    for name, saved in ordered:
        end = start + saved.size_bytes
        shape = list(saved.shape)
        header[name] = {
            "dtype": _NAMES[saved.dtype], "shape": shape, "data_offsets": [start, end]
        }  # fmt: skip
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for number, (_, saved) in enumerate(ordered):
        tensor = saved.read().detach().to("cpu", saved.dtype).contiguous()
        assert tuple(tensor.shape) == saved.shape
        if tensor.numel():
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
        on_tensor(number + 1, len(ordered))
