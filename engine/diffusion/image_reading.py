"""Picture files as tensors: every mode PIL reads, turned upright, with their transparency."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence
from torch import Tensor

from engine.api.errors import CorruptFile, NodeError

MAX_PIXELS = 178_956_970  # all frames together; where PIL refuses a single picture too
EMPTY_MASK = (64, 64)  # what a picture without transparency gives
_CHANNELS = {"red": "R", "green": "G", "blue": "B", "alpha": "A"}
# What PIL's decoders raise on damaged data.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An open picture file. Raises: CorruptFile, NodeError (too many pixels)."""
    try:
        with Image.open(path) as picture:
            yield picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except _DAMAGE as error:
        raise CorruptFile(
            f"{path.name} cannot be read as a picture: {error or type(error).__name__}.",
            hint="The file may be cut off or of another kind; save or upload it again.",
        ) from error


def _too_large(path: Path) -> NodeError:
    return NodeError(
        f"{path.name} has more than {MAX_PIXELS // 1_000_000} million pixels.",
        hint="Scale it down, or take fewer frames.",
    )


def read_pictures(path: Path) -> tuple[Tensor, Tensor]:
    """The frames of a picture file, and a mask that is 1 where they are transparent.

    Frames of another size than the first are left out. A file without transparency gives an empty
    mask of 64x64. Shapes: (B, H, W, 3), (B, H, W). Raises: CorruptFile, NodeError.
    """
    with opened(path) as picture:
        # A stereo photo (MPO) holds views, not frames.
        frames = [picture] if picture.format == "MPO" else ImageSequence.Iterator(picture)
        images: list[Tensor] = []
        masks: list[Tensor] = []
        pixels = 0
        for frame in frames:
            pixels += frame.width * frame.height
            if pixels > MAX_PIXELS:
                raise _too_large(path)
            upright = ImageOps.exif_transpose(frame)
            image = _rgb(upright)
            if images and image.shape != images[0].shape:
                continue
            images.append(image)
            masks.append(_transparency(upright))
    return torch.stack(images), torch.stack(masks)


def _rgb(picture: Image.Image) -> Tensor:
    """Shapes: (H, W, 3)."""
    deep = _deep_grey(picture)
    if deep is not None:
        return torch.from_numpy(deep)[..., None].expand(-1, -1, 3).contiguous()
    array = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(array)


def _deep_grey(picture: Image.Image) -> np.ndarray | None:
    """Grey pictures of more than 8 bit, which PIL would cut off at 255."""
    if not is_deep_grey(picture):
        return None
    values = np.asarray(picture, dtype=np.float32)
    return (values if picture.mode == "F" else values / 65535.0).clip(0, 1)


def is_deep_grey(picture: Image.Image) -> bool:
    """Whether it is a grey picture of more than 8 bit."""
    return picture.mode in ("F", "I") or picture.mode.startswith("I;16")


def _transparency(picture: Image.Image) -> Tensor:
    if picture.has_transparency_data:
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"), dtype=np.float32) / 255.0
        return 1.0 - torch.from_numpy(alpha)
    return torch.zeros(EMPTY_MASK)


def read_channel(path: Path, channel: str) -> Tensor:
    """One channel of a picture file as a mask; alpha is turned round: 1 where it is transparent.

    Shapes: (1, H, W). Raises: CorruptFile, NodeError.
    """
    with opened(path) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise _too_large(path)
        upright = ImageOps.exif_transpose(picture)
        if channel == "alpha":
            return _transparency(upright)[None]
        return _rgb(upright)[..., "RGB".index(_CHANNELS[channel])].clone()[None]
