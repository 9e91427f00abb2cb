"""Datasets from pictures of a workflow, and back."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.image_ops import to_pil
from engine.diffusion.training.data.cache import ContentStore
from engine.diffusion.training.data.dataset import Dataset, Example
from engine.diffusion.training.data.pictures import inspect, read_rgb, to_pixels


def from_images(
    images: Tensor, caption: str, store: ContentStore, *, masks: Tensor | None, is_class: bool
) -> Dataset:
    """A dataset of pictures in memory; they go to the store as PNG files, by content.

    Shapes: images (B, H, W, C) 0..1; masks (B, H, W) or (1, H, W) for all, or None.
    Raises: NodeError when the masks do not fit, StorageError.
    """
    if masks is not None and len(masks) not in (1, len(images)):
        raise NodeError(
            f"There are {len(masks)} masks for {len(images)} pictures.",
            hint="Give one mask, or one for each picture.",
        )
    examples: list[Example] = []
    for index, image in enumerate(images):
        path, digest = stored_picture(to_pil(image[..., :3]), store)
        mask_path = mask_digest = None
        if masks is not None:
            mask = masks[index if len(masks) > 1 else 0]
            mask_path, mask_digest = stored_picture(to_pil(mask[..., None]), store)
        examples.append(
            Example(
                path=path,
                digest=digest,
                text=caption.strip(),
                width_px=image.shape[1],
                height_px=image.shape[0],
                mask_path=mask_path,
                mask_digest=mask_digest,
                is_class=is_class,
                look=inspect(path).look,
            )
        )
    return Dataset(examples=tuple(examples), name="class images" if is_class else "images")


def stored_picture(picture: Image.Image, store: ContentStore) -> tuple[Path, str]:
    """A picture as a PNG file by content, and its digest. Raises: StorageError."""
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    data = out.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    path = store.path(digest)
    return (path if path.is_file() else store.put(digest, data)), digest


def to_images(dataset: Dataset, progress: Callable[[int, int], None]) -> list[Tensor]:
    """Every picture by itself. Shapes: (1, H, W, 3) float32 0..1. Raises: CorruptFile."""
    found: list[Tensor] = []
    for number, example in enumerate(dataset.examples, 1):
        pixels = to_pixels(read_rgb(example.path, example.grey_range))
        found.append(pixels.permute(1, 2, 0).contiguous()[None])
        progress(number, len(dataset))
    return found
