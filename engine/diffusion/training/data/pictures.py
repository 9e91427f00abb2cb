"""Picture files as training sees them: upright, RGB, deep grey scaled, placed at a size."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from engine.diffusion.image_reading import is_deep_grey, opened
from engine.diffusion.training.data.buckets import Placing, Size
from engine.diffusion.training.data.dataset import GreyRange

_LOOK_SIDE = 8
_THUMBNAIL_PX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one whole reading of a picture file tells. Units: pixels of the upright picture."""

    size: Size
    look: int
    is_deep: bool


def inspect(path: Path, grey_range: GreyRange = "automatic") -> Facts:
    """Decode a file to its end, and look at it.

    Raises: CorruptFile for one that is no picture or is cut off.
    """
    with opened(path) as picture:
        is_deep = is_deep_grey(picture)
        width, height = picture.size
        if picture.getexif().get(0x0112, 1) >= 5:  # lies on its side
            width, height = height, width
        picture.draft("RGB", (_THUMBNAIL_PX, _THUMBNAIL_PX))  # JPEG: still read to its end
        upright = _rgb(ImageOps.exif_transpose(picture), grey_range)
    return Facts(size=(width, height), look=_look(upright), is_deep=is_deep)


def _look(picture: Image.Image) -> int:
    """Which of the neighbouring cells of a 9 x 8 grey thumbnail is lighter, as 64 bits.

    Source: N. Krawetz 2013, "Kind of Like That" (difference hash).
    """
    small = picture.convert("L").resize((_LOOK_SIDE + 1, _LOOK_SIDE), Image.Resampling.BOX)
    cells = np.asarray(small, dtype=np.int16)
    bits = (cells[:, 1:] > cells[:, :-1]).flatten()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def read_rgb(path: Path, grey_range: GreyRange = "automatic") -> Image.Image:
    """The picture, upright, in RGB; what is transparent becomes white. Raises: CorruptFile."""
    with opened(path) as picture:
        return _rgb(ImageOps.exif_transpose(picture), grey_range)


def read_mask(path: Path) -> Image.Image:
    """A mask beside a picture: white counts, black does not. Raises: CorruptFile."""
    with opened(path) as picture:
        upright = ImageOps.exif_transpose(picture)
        if is_deep_grey(upright):
            return _scaled_grey(upright, "full")
        return upright.convert("L")


def _rgb(picture: Image.Image, grey_range: GreyRange) -> Image.Image:
    if is_deep_grey(picture):
        return _scaled_grey(picture, grey_range).convert("RGB")
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert(
            "RGB"
        )
    return picture.convert("RGB")


def _scaled_grey(picture: Image.Image, grey_range: GreyRange) -> Image.Image:
    """Grey of more than 8 bit as 8 bit.

    `full` takes 0..65535 (0..1 for floats), `12-bit` 0..4095 as scanners give it, `automatic` the
    picture's own range without its darkest and lightest half percent.
    """
    values = np.asarray(picture, dtype=np.float32)
    if grey_range == "automatic":
        low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
        if high <= low:
            low, high = float(values.min()), float(values.max())
    else:
        low = 0.0
        high = 1.0 if picture.mode == "F" else 4095.0 if grey_range == "12-bit" else 65535.0
    scaled = (values - low) * (255.0 / max(high - low, 1e-6))
    return Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8))


def placed(picture: Image.Image, placing: Placing) -> Image.Image:
    """The picture flipped, scaled and cut as a placing says."""
    if placing.is_flipped:
        picture = ImageOps.mirror(picture)
    if picture.size != placing.scaled:
        picture = picture.resize(placing.scaled, Image.Resampling.LANCZOS)
    width, height = placing.target
    return picture.crop((placing.left, placing.top, placing.left + width, placing.top + height))


def to_pixels(picture: Image.Image) -> Tensor:
    """Shapes: (3, H, W) or (1, H, W) for grey, float32 0..1."""
    values = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1).contiguous()


def focus(picture: Image.Image, mask: Image.Image | None = None) -> tuple[float, float]:
    """Where a picture's subject lies, 0..1 from the left and from the top.

    The centre of a mask's white, else of the fine detail (grey differences to the neighbours).
    """
    source = (mask or picture).convert("L").copy()
    source.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX)
    values = np.asarray(source, dtype=np.float64)
    if mask is None:
        across = np.abs(np.diff(values, axis=1, append=values[:, -1:]))
        values = across + np.abs(np.diff(values, axis=0, append=values[-1:]))
    total = values.sum()
    if total <= 0:
        return 0.5, 0.5
    rows, columns = values.shape
    x = (values.sum(0) * (np.arange(columns) + 0.5)).sum() / total / columns
    y = (values.sum(1) * (np.arange(rows) + 0.5)).sum() / total / rows
    return float(x), float(y)
