"""Pictures on their way in and out: previews, single channels, masks; all of it blocking code."""

import io
from pathlib import Path
from typing import Any, cast

from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from engine.server.bodies import BadRequest

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_MAX_DECODED_PX = 50_000_000
_PREVIEW_FORMATS = {"webp": "image/webp", "jpeg": "image/jpeg", "png": "image/png"}
_FAULTS = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    OSError,
    SyntaxError,  # what Pillow's PNG reader raises for broken chunks
    ValueError,
    EOFError,
)


class NoPicture(BadRequest):
    """A file that is no picture, or a damaged one."""

    code = "invalid_image"


def check_picture(path: Path) -> None:
    """Pass if the file is a whole picture of a known format. Raises: NoPicture."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height <= _MAX_DECODED_PX:
                picture.load()
            else:
                picture.verify()  # its structure only, for the sake of memory
    except _FAULTS as error:
        raise NoPicture(
            f"The file is no picture that can be read: {error}.".replace(str(path), "it"),
            hint=f"Known are {', '.join(FORMATS)}.",
        ) from error


def parse_preview(text: str) -> tuple[str, int]:
    """`webp;90` as (format, quality). Raises: BadRequest."""
    kind, _, quality = text.partition(";")
    kind = {"jpg": "jpeg"}.get(kind.lower(), kind.lower())
    if kind not in _PREVIEW_FORMATS or (quality and not quality.isdecimal()):
        raise BadRequest(f"The preview '{text[:40]}' is none.", hint="Use webp;90, jpeg;80 or png.")
    return kind, min(100, max(1, int(quality[:3] or 90)))


def variant(path: Path, preview: str | None, channel: str) -> tuple[bytes, str]:
    """A picture as a preview, or only its `rgb` or `a` channels, with its media type.

    Raises: NoPicture, BadRequest.
    """
    kind, quality = parse_preview(preview) if preview else ("png", 90)
    try:
        with Image.open(path, formats=FORMATS) as opened:
            picture = _channel(opened, channel)
            if kind == "jpeg" and picture.mode != "RGB":
                picture = picture.convert("RGB")
            out = io.BytesIO()
            picture.save(out, format=kind.upper(), quality=quality, compress_level=4)
    except _FAULTS as error:
        raise NoPicture(f"'{path.name}' is no picture that can be read.") from error
    return out.getvalue(), _PREVIEW_FORMATS[kind]


def _channel(picture: Image.Image, channel: str) -> Image.Image:
    match channel:
        case "rgb":
            return picture.convert("RGB")
        case "a":
            alpha = picture.convert("RGBA").getchannel("A")
            only = Image.new("RGBA", picture.size)
            only.putalpha(alpha)
            return only
        case _:
            return picture.convert("RGBA" if "transparency" in picture.info else _mode(picture))


def _mode(picture: Image.Image) -> str:
    return picture.mode if picture.mode in ("RGB", "RGBA", "L", "LA") else "RGB"


def thumbnail(path: Path | bytes, side_px: int) -> bytes:
    """A picture (its file or its bytes) as WebP with sides of at most `side_px`, upright.

    Deep grey is spread over its own range.

    Raises: NoPicture.
    """
    try:
        source = io.BytesIO(path) if isinstance(path, bytes) else path
        with Image.open(source, formats=FORMATS) as opened:
            opened.draft("RGB", (side_px, side_px))
            picture = ImageOps.exif_transpose(opened)
            if picture.mode in ("F", "I") or picture.mode.startswith("I;16"):
                picture = picture.convert("F")
                low, high = cast(tuple[float, float], picture.getextrema())
                scale = 255 / (high - low) if high > low else 0.0
                picture = picture.point(lambda v: v * scale - low * scale).convert("L")
            picture.thumbnail((side_px, side_px))
            out = io.BytesIO()
            shown = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
            shown.save(out, format="WEBP", quality=80)
    except _FAULTS as error:
        name = "The preview" if isinstance(path, bytes) else f"'{path.name}'"
        raise NoPicture(f"{name} is no picture that can be read.") from error
    return out.getvalue()


def put_mask(original: Path, mask: Path, out: Path) -> None:
    """Write `original` with the alpha channel of `mask` as PNG, its metadata kept.

    Raises: NoPicture, BadRequest when the sizes differ.
    """
    try:
        with (
            Image.open(original, formats=FORMATS) as base,
            Image.open(mask, formats=FORMATS) as top,
        ):
            if base.size != top.size:
                raise BadRequest(
                    f"The mask is {top.width}×{top.height}, the picture {base.width}×{base.height}."
                )
            info = _text_chunks(base.info)
            picture = base.convert("RGBA")
            picture.putalpha(top.convert("RGBA").getchannel("A"))
            picture.save(out, format="PNG", compress_level=4, pnginfo=info)
    except _FAULTS as error:
        raise NoPicture("The mask or its picture cannot be read.") from error


def _text_chunks(info: dict[Any, Any]) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for name, value in info.items():
        if isinstance(name, str) and isinstance(value, str):
            chunks.add_text(name, value)
    return chunks
