"""Texts in PNG files, against pillow, and damaged or hostile files."""

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.api.errors import CorruptFile
from engine.run.png_info import read_texts, with_texts


def picture(**texts: str) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def test_reads_what_pillow_writes(tmp_path: Path):
    file = tmp_path / "x.png"
    info = PngInfo()
    info.add_text("prompt", '{"1": {}}')
    info.add_text("long", "x" * 5000, zip=True)
    info.add_itxt("words", "größe 円", zip=True)
    info.add_itxt("plain", "円")
    Image.new("RGB", (4, 4)).save(file, pnginfo=info)
    assert read_texts(file) == {
        "prompt": '{"1": {}}', "long": "x" * 5000, "words": "größe 円", "plain": "円"
    }  # fmt: skip


def test_pillow_reads_what_is_added(tmp_path: Path):
    file = tmp_path / "x.png"
    file.write_bytes(with_texts(picture(), {"prompt": "{}", "workflow": "円"}))
    with Image.open(file) as opened:
        opened.load()
        assert opened.info["prompt"] == "{}"  # type: ignore[index]
        assert opened.info["workflow"] == "円"  # type: ignore[index]
    assert read_texts(file) == {"prompt": "{}", "workflow": "円"}


def chunk(kind: bytes, data: bytes, length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return struct.pack(">I", size) + kind + data + b"\0\0\0\0"


BOMB = zlib.compress(bytes(80 << 20))


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a",
        b"",
        picture()[:8] + chunk(b"tEXt", b"k\0x", 1 << 31),
        picture()[:8] + chunk(b"tEXt", b"k\0x", 5000),
        picture()[:8] + chunk(b"zTXt", b"k\0\0" + BOMB),
        picture()[:8] + chunk(b"zTXt", b"k\0\0garbage"),
    ],
    ids=["gif", "empty", "huge", "short", "bomb", "garbage"],
)
def test_bad_files_are_refused(tmp_path: Path, data: bytes):
    file = tmp_path / "x.png"
    file.write_bytes(data)
    with pytest.raises(CorruptFile):
        read_texts(file)


def test_truncated_pictures_give_what_is_there(tmp_path: Path):
    whole = picture(prompt="{}")
    file = tmp_path / "x.png"
    for end in range(8, len(whole), 7):
        file.write_bytes(whole[:end])
        with suppress(CorruptFile):
            assert read_texts(file) in ({}, {"prompt": "{}"})


def test_texts_need_a_png():
    with pytest.raises(CorruptFile):
        with_texts(b"no picture", {"a": "b"})
