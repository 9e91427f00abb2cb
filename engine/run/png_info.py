"""Text chunks of PNG files: the prompt and workflow that a result picture carries.

Reads nothing but chunk headers and texts, within limits, so that any file may be looked at.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from engine.api.errors import CorruptFile

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_TEXT = 64 << 20
_MAX_CHUNKS = 100_000


def read_texts(path: Path) -> dict[str, str]:
    """The texts of a PNG file by keyword (`prompt`, `workflow`, `parameters` …).

    Raises: CorruptFile when it is no PNG file.
    """
    texts: dict[str, str] = {}
    try:
        with path.open("rb") as file:
            if file.read(8) != _SIGNATURE:
                raise CorruptFile(f"{path.name} is no PNG file.")
            for kind, data in _text_chunks(file):
                keyword, text = _decoded(kind, data)
                texts.setdefault(keyword, text)
    except (ValueError, zlib.error, struct.error) as error:
        raise CorruptFile(f"The texts in {path.name} are damaged: {error}.") from error
    return texts


def with_texts(png: bytes, texts: Mapping[str, str]) -> bytes:
    """The PNG file with these texts, before its pixels. Raises: CorruptFile."""
    if png[:8] != _SIGNATURE or len(png) < 33:
        raise CorruptFile("These bytes are no PNG file.")
    after_head = 8 + 12 + int.from_bytes(png[8:12], "big")
    chunks = [_chunk(keyword, text) for keyword, text in texts.items()]
    return png[:after_head] + b"".join(chunks) + png[after_head:]


def _chunk(keyword: str, text: str) -> bytes:
    """A tEXt chunk, or iTXt when the text is not Latin-1."""
    try:
        body = keyword.encode("latin-1") + b"\0" + text.encode("latin-1")
        kind = b"tEXt"
    except UnicodeEncodeError:
        body = keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode("utf-8", "replace")
        kind = b"iTXt"
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _text_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    total = 0
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            total += length
            if total > _MAX_TEXT:
                raise ValueError("they are too large")
            data = file.read(length)
            if len(data) < length:
                raise ValueError("the file ends within one")
            yield kind, data
            file.seek(4, 1)
        else:
            file.seek(length + 4, 1)


def _decoded(kind: bytes, data: bytes) -> tuple[str, str]:
    name, _, rest = data.partition(b"\0")
    keyword = name.decode("latin-1")
    if kind == b"tEXt":
        return keyword, rest.decode("latin-1")
    if kind == b"zTXt":
        return keyword, _inflated(rest[1:]).decode("latin-1")
    is_compressed, rest = rest[:1] == b"\1", rest[2:]
    _, _, rest = rest.partition(b"\0")  # language
    _, _, rest = rest.partition(b"\0")  # translated keyword
    return keyword, (_inflated(rest) if is_compressed else rest).decode("utf-8", "replace")


def _inflated(data: bytes) -> bytes:
    unpack = zlib.decompressobj()
    text = unpack.decompress(data, _MAX_TEXT)
    if unpack.unconsumed_tail:
        raise ValueError("one is too large")
    return text
