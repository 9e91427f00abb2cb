"""Datasets from pictures of a workflow, and back."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
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


def with_conditions(dataset: Dataset, images: Sequence[Tensor], store: ContentStore) -> Dataset:
    """The dataset with a condition picture for each picture, in its order.

    Shapes: images of any batches (B, H, W, C) 0..1, with the pictures' proportions.
    Raises: NodeError when there are more or fewer, or when one has other proportions, StorageError.
    """
    singles = [image for batch in images for image in batch]
    if len(singles) != len(dataset):
        raise NodeError(
            f"There are {len(singles)} condition pictures for {len(dataset)} pictures.",
            hint="Make one of each picture that 'Dataset to Images' gives.",
        )
    examples: list[Example] = []
    for example, image in zip(dataset.examples, singles, strict=True):
        height, width = image.shape[:2]
        if abs(width * example.height_px - height * example.width_px) > max(width, height):
            raise NodeError(
                f"The condition picture of {example.path.name} is {width} × {height}, the picture "
                f"{example.width_px} × {example.height_px}: the proportions differ.",
                hint="Make it of the picture itself, without cropping.",
            )
        path, digest = stored_picture(to_pil(image[..., :3]), store)
        examples.append(replace(example, condition_path=path, condition_digest=digest))
    return replace(dataset, examples=tuple(examples))


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
