"""The picture of a model: a file beside it, as the field names it, or one in its own metadata."""

import base64
from pathlib import Path
from typing import Any, cast

from engine.run.weight_header import SAFE, read_header
from engine.server.pictures import NoPicture, thumbnail

PREVIEW_PX = 512
ENDINGS = tuple(
    middle + end for middle in (".preview", "") for end in (".png", ".jpg", ".jpeg", ".webp")
)


def has_preview(path: Path) -> bool:
    """Whether a model file has a preview; it may turn out that it cannot be read."""
    return _beside(path) is not None or _inside(path) != ""


def preview_of(path: Path) -> bytes | None:
    """The preview as WebP; None when there is none. Raises: NoPicture when it cannot be read."""
    beside = _beside(path)
    if beside is not None:
        return thumbnail(beside, PREVIEW_PX)
    _, _, encoded = _inside(path).partition(";base64,")
    if not encoded:
        return None
    try:
        return thumbnail(base64.b64decode(encoded, validate=True), PREVIEW_PX)
    except ValueError as error:
        raise NoPicture("The preview in the model's metadata cannot be read.") from error


def _beside(path: Path) -> Path | None:
    files = (path.with_name(path.stem + end) for end in ENDINGS)
    return next((file for file in files if file.is_file()), None)


def _inside(path: Path) -> str:
    """The data URL of `modelspec.thumbnail`; empty when there is none."""
    if path.suffix not in SAFE:
        return ""
    try:
        metadata: object = read_header(path).get("__metadata__")
    except (OSError, ValueError, RecursionError):
        return ""
    told = cast(dict[str, Any], metadata) if isinstance(metadata, dict) else {}
    found = told.get("modelspec.thumbnail")
    return found if isinstance(found, str) and found.startswith("data:image/") else ""
