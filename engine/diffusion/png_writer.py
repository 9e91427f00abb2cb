"""PNG files with 16 bits a channel, which Pillow cannot write in colour.

Source: W3C, Portable Network Graphics (PNG) Specification, third edition, sections 5, 9 and 11.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> grey, grey alpha, RGB, RGBA
_SUB, _UP = 1, 2


def write_png16(
    file: BinaryIO, pixels: np.ndarray, texts: Mapping[str, str], compress_level: int = 6
) -> None:
    """Write pixels (H, W, C) uint16, C from 1 to 4, with texts by keyword."""
    height, width, channels = pixels.shape
    file.write(_SIGNATURE)
    head = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    file.write(_chunk(b"IHDR", head))
    for keyword, text in texts.items():
        file.write(_text_chunk(keyword, text))
    file.write(_chunk(b"IDAT", zlib.compress(_filtered(pixels).tobytes(), compress_level)))
    file.write(_chunk(b"IEND", b""))


def _filtered(pixels: np.ndarray) -> np.ndarray:
    """Rows as differences to the pixel on the left or above, whichever are smaller; first byte
    the filter. Shapes: (H, W, C) uint16 -> (H, 1 + W C 2) uint8."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, width * channels * 2)
    step = channels * 2  # bytes of a pixel
    left = np.zeros_like(rows)
    left[:, step:] = rows[:, :-step]
    above = np.zeros_like(rows)
    above[1:] = rows[:-1]
    sub, up = rows - left, rows - above  # modulo 256, as the format says
    is_sub = _cost(sub) <= _cost(up)
    best = np.where(is_sub[:, None], sub, up)
    kinds = np.where(is_sub, _SUB, _UP).astype(np.uint8)
    return np.concatenate([kinds[:, None], best], axis=1)


def _cost(rows: np.ndarray) -> np.ndarray:
    """The sum of the differences' sizes in each row (specification, 12.7)."""
    return np.abs(rows.view(np.int8).astype(np.int32)).sum(axis=1)


def _text_chunk(keyword: str, text: str) -> bytes:
    """A tEXt chunk, or iTXt when the text is not plain ASCII, and for XMP (its own rule)."""
    name = keyword.encode("latin-1")
    if text.isascii() and not keyword.startswith("XML:"):
        return _chunk(b"tEXt", name + b"\0" + text.encode())
    return _chunk(b"iTXt", name + b"\0\0\0\0\0" + text.encode("utf-8", "replace"))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
