"""Pictures as files: each format with its depth, its quality and its places for texts.

PNG keeps texts in chunks. JPEG, WebP and AVIF keep them in EXIF: `key:text` from the entry Model
downwards, where readers of the ecosystem look, and the parameters text as the user comment. What
EXIF cannot hold in a JPEG (64 KB) goes into comment segments.
"""

import io
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.image_ops import to_pil
from engine.diffusion.png_writer import write_png16

PARAMETERS = "parameters"  # the key of the text that other programs write and read
XMP_KEYWORD = "XML:com.adobe.xmp"

_MODEL = 0x0110  # EXIF: in this entry and those below it readers look for a workflow
_EXIF_DIRECTORY = 0x8769
_USER_COMMENT = 0x9286
_SEGMENT_BYTES = 65533  # what one JPEG segment holds
_EXIF_BYTES = _SEGMENT_BYTES - 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFormat:
    """A file format: its ending, Pillow's name and options, and whether it has transparency."""

    extension: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    has_alpha: bool = True
    bits: int = 8


def _formats() -> dict[str, PictureFormat]:
    known = {
        "PNG": PictureFormat(extension="png", name="PNG"),
        "PNG 16 bit": PictureFormat(extension="png", name="PNG", bits=16),
        "JPEG": PictureFormat(
            extension="jpg", name="JPEG", has_alpha=False, options={"optimize": True}
        ),
        "WebP": PictureFormat(extension="webp", name="WEBP", options={"method": 4}),
        "WebP lossless": PictureFormat(
            extension="webp", name="WEBP", options={"method": 4, "lossless": True, "exact": True}
        ),
    }
    if features.check("avif"):
        known["AVIF"] = PictureFormat(extension="avif", name="AVIF")
    return known


FORMATS: Mapping[str, PictureFormat] = _formats()


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureTexts:
    """What a file says about its picture: texts by key, and an XMP packet."""

    texts: Mapping[str, str] = field(default_factory=dict)
    xmp: bytes | None = None

    def png_info(self) -> PngInfo:
        """The texts as PNG chunks."""
        info = PngInfo()
        for key, text in self.texts.items():
            info.add_text(key, text)
        if self.xmp is not None:
            info.add_itxt(XMP_KEYWORD, self.xmp.decode())
        return info

    def exif(self) -> Image.Exif:
        """The texts as EXIF entries."""
        return _exif(self.texts)


def graph_texts(prompt: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, str]:
    """A prompt, and what the client wants kept beside it, as texts by key."""
    return {key: json.dumps(value) for key, value in {"prompt": prompt, **extra}.items()}


def picture_writer(
    image: Tensor, file_format: PictureFormat, quality: int, told: PictureTexts
) -> Callable[[BinaryIO], None]:
    """What writes one picture (H, W, C) 0..1 into a file. `quality` is 1..100 where it has one.

    Raises: NodeError when the format has no transparency and the picture does.
    """
    if image.shape[-1] == 4 and not file_format.has_alpha:
        raise NodeError(
            f"{file_format.name} has no transparency, and this picture has 4 channels.",
            hint="Choose PNG, WebP or AVIF, or take the transparency off with SplitImageWithAlpha.",
        )
    if file_format.bits == 16:
        return lambda file: write_png16(file, _deep(image), _png_texts(told))
    picture = to_pil(image)
    if file_format.name == "PNG":
        return lambda file: picture.save(file, format="PNG", pnginfo=told.png_info())
    options = {**file_format.options, "quality": quality}
    if told.xmp is not None:
        options["xmp"] = told.xmp
    if file_format.name == "JPEG":
        return lambda file: _write_jpeg(file, picture, options, told.texts)
    if told.texts:
        # As bytes: Pillow takes an Exif with nothing but a comment for an empty one.
        options["exif"] = told.exif().tobytes()
    return lambda file: picture.save(file, format=file_format.name, **options)


def _deep(image: Tensor) -> np.ndarray:
    """Shapes: (H, W, C) 0..1 -> (H, W, C) uint16."""
    return np.rint(65535.0 * image.detach().cpu().double().numpy().clip(0, 1)).astype(np.uint16)


def _png_texts(told: PictureTexts) -> dict[str, str]:
    xmp = {} if told.xmp is None else {XMP_KEYWORD: told.xmp.decode()}
    return {**told.texts, **xmp}


def _exif(texts: Mapping[str, str]) -> Image.Exif:
    exif = Image.Exif()
    place = _MODEL
    for key, text in texts.items():
        if key == PARAMETERS:
            comment = b"UNICODE\0" + text.encode("utf-16-be", "replace")
            exif.get_ifd(_EXIF_DIRECTORY)[_USER_COMMENT] = comment
        else:
            exif[place] = f"{key}:{text}"
            place -= 1
    return exif


# JPEG ---------------------------------------------------------------------------------------------


def _write_jpeg(
    file: BinaryIO, picture: Image.Image, options: Mapping[str, Any], texts: Mapping[str, str]
) -> None:
    """Write a JPEG file; texts that do not fit into its EXIF become comments, longest first."""
    held, left = dict(texts), dict[str, str]()
    while held and len(_exif(held).tobytes()) > _EXIF_BYTES:
        longest = max(held, key=lambda key: len(held[key]))
        left[longest] = held.pop(longest)
    exif = {"exif": _exif(held)} if held else {}
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", **options, **exif)
    data = buffer.getvalue()
    comments = b"".join(_comment(key, text) for key, text in left.items())
    start = 4 + int.from_bytes(data[4:6], "big")  # after the JFIF segment, which comes first
    file.write(data[:start] + comments + data[start:])


def _comment(key: str, text: str) -> bytes:
    """Comment segments of one text; all but the last are full, so that a reader can join them."""
    body = (text if key == PARAMETERS else f"{key}:{text}").encode("utf-8", "replace")
    parts = [body[i : i + _SEGMENT_BYTES] for i in range(0, len(body), _SEGMENT_BYTES)]
    if len(parts[-1]) == _SEGMENT_BYTES:
        parts.append(b"")
    return b"".join(b"\xff\xfe" + struct.pack(">H", len(part) + 2) + part for part in parts)
