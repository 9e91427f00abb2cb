"""What a saved picture tells of how it was made: the prompt, workflow and parameters in it.

Reads PNG chunks, the EXIF entries of JPEG, WebP and AVIF, and JPEG comments; never the pixels.
"""

from collections.abc import Iterator
from pathlib import Path

from engine.api.errors import CorruptFile
from engine.run.png_info import read_texts

PICTURES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".avif"))
KEYS = ("prompt", "workflow", "parameters")

_FIRST_ENTRY, _LAST_ENTRY = 0x0100, 0x0110  # `key:text` lies from 0x0110 downwards
_EXIF_DIRECTORY = 0x8769
_USER_COMMENT = 0x9286
_FULL_SEGMENT = 65533
_START_OF_SCAN = 0xDA


def read_picture_texts(path: Path) -> dict[str, str]:
    """The texts of a picture by key. Raises: CorruptFile when it is no picture; OSError."""
    with path.open("rb") as file:
        start = file.read(12)
    if start.startswith(b"\x89PNG"):
        return read_texts(path)
    texts = _exif_texts(path)
    if start.startswith(b"\xff\xd8"):
        for comment in _comments(path.read_bytes()):
            key, text = _keyed(comment.decode("utf-8", "replace"))
            texts.setdefault(key, text)
    return texts


def _keyed(text: str) -> tuple[str, str]:
    """`key:text` in its parts; a text without a key is the parameters."""
    key, colon, rest = text.partition(":")
    known = colon and key.lower() in KEYS[:2]
    return (key.lower(), rest) if known else ("parameters", text)


def _exif_texts(path: Path) -> dict[str, str]:
    from PIL import Image, UnidentifiedImageError

    texts: dict[str, str] = {}
    try:
        with Image.open(path) as picture:
            exif = picture.getexif()
            for place in range(_LAST_ENTRY, _FIRST_ENTRY, -1):
                value = exif.get(place)
                key, text = _keyed(value) if isinstance(value, str) else ("", "")
                if key in KEYS[:2]:
                    texts.setdefault(key, text)
            comment = exif.get_ifd(_EXIF_DIRECTORY).get(_USER_COMMENT)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise CorruptFile(f"{path} is no readable picture: {error}.") from error
    if isinstance(comment, bytes) and comment.startswith(b"UNICODE\0"):
        texts["parameters"] = comment[8:].decode("utf-16-be", "replace")
    return texts


def _comments(data: bytes) -> Iterator[bytes]:
    """The comments of a JPEG file; full segments go on in the next one."""
    at, joined = 2, b""
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _START_OF_SCAN:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if data[at + 1] == 0xFE:
            joined += body
            if len(body) < _FULL_SEGMENT:
                yield joined
                joined = b""
        at += 2 + length
