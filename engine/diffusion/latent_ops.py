"""Operations on latents (B, C, H, W). Never changes its inputs."""

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.scaling import scale

if TYPE_CHECKING:
    from engine.api.types import LatentDict

FACTOR = 8  # pixels per latent cell of an empty latent


def empty(width_px: int, height_px: int, batch: int, channels: int = 4) -> Tensor:
    """A latent of zeros for a picture size."""
    return torch.zeros(batch, channels, height_px // FACTOR, width_px // FACTOR)


def check_channels(samples: Tensor, channels: int, part: str) -> None:
    """Raises: NodeError, if a model or VAE of `channels` cannot take a latent."""
    if samples.ndim != 4 or samples.shape[1] != channels:
        raise NodeError(
            f"The latent has the shape {list(samples.shape)}, but the {part} expects "
            f"[batch, {channels}, height, width].",
            hint="Make the latent with the VAE of the same model, or with EmptyLatentImage.",
        )


def noise_mask(mask: Tensor) -> Tensor:
    """A mask (H, W) or (B, H, W) as a latent carries it: (B, 1, H, W)."""
    return mask.reshape(-1, 1, *mask.shape[-2:])


def cut_for_inpaint(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures cut to whole latent cells, and their mask in the same size.

    Shapes: image (B, H, W, C), mask (B, H, W) -> (B, H, W, C), (B, 1, H, W).
    """
    mask = F.interpolate(noise_mask(mask), size=image.shape[1:3], mode="bilinear")
    height, width = (side // FACTOR * FACTOR for side in image.shape[1:3])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    image = image[:, top : top + height, left : left + width]
    return image, mask[:, :, top : top + height, left : left + width]


def hidden(image: Tensor, mask: Tensor) -> Tensor:
    """Pictures with grey where a mask (B, 1, H, W) is."""
    keep = (1.0 - mask.round()).movedim(1, -1)
    return (image - 0.5) * keep + 0.5


def grown(mask: Tensor, pixels: int) -> Tensor:
    """A mask (B, 1, H, W) grown to all sides together by `pixels`, as 0 and 1."""
    if pixels == 0:
        return mask.round()
    kernel = torch.ones(1, 1, pixels, pixels)
    covered = F.conv2d(mask.round(), kernel, padding=math.ceil((pixels - 1) / 2)).clamp(0, 1)
    return covered[:, :, : mask.shape[2], : mask.shape[3]].round()


def from_batch(latent: "LatentDict", start: int, length: int) -> "LatentDict":
    """Items of a batch, with the numbers that their noise has there."""
    samples = latent["samples"]
    batch = samples.shape[0]
    start = min(batch - 1, start)
    length = min(batch - start, length)
    picked = {**latent, "samples": samples[start : start + length].clone()}
    mask = latent.get("noise_mask")
    if mask is not None and mask.shape[0] > 1:
        repeated = mask.repeat(-(-batch // mask.shape[0]), *([1] * (mask.ndim - 1)))
        picked["noise_mask"] = repeated[start : start + length].clone()
    index = latent.get("batch_index") or list(range(batch))
    picked["batch_index"] = index[start : start + length]
    return picked  # pyright: ignore[reportReturnType] - a TypedDict with a pack's keys


def resized(latent: "LatentDict", samples: Tensor) -> "LatentDict":
    """The latent with other samples."""
    return {**latent, "samples": samples}  # pyright: ignore[reportReturnType] - packs' keys stay


def upscale(samples: Tensor, width_px: int, height_px: int, method: str, crop: str) -> Tensor:
    """A latent scaled to a picture size; a side of 0 follows from the other one.

    Both 0 change nothing.
    """
    if width_px == 0 and height_px == 0:
        return samples
    height, width = samples.shape[-2:]
    if width_px == 0:
        height_px = max(64, height_px)
        width_px = max(64, round(width * FACTOR * height_px / (height * FACTOR)))
    elif height_px == 0:
        width_px = max(64, width_px)
        height_px = max(64, round(height * FACTOR * width_px / (width * FACTOR)))
    else:
        width_px, height_px = max(64, width_px), max(64, height_px)
    return scale(samples, width_px // FACTOR, height_px // FACTOR, method, crop)


def upscale_by(samples: Tensor, factor: float, method: str) -> Tensor:
    """A latent scaled by a factor."""
    height, width = samples.shape[-2:]
    return scale(samples, round(width * factor), round(height * factor), method)


def check_same_channels(first: Tensor, second: Tensor) -> None:
    """Raises: NodeError, if two latents are of different kinds."""
    if first.shape[1] != second.shape[1]:
        raise NodeError(
            f"The latents have {first.shape[1]} and {second.shape[1]} channels: "
            f"their shapes are {list(first.shape)} and {list(second.shape)}.",
            hint="Use latents of the same kind of model.",
        )


def fitted(first: Tensor, second: Tensor) -> Tensor:
    """The second latent in the size and batch of the first. Raises: NodeError (channels)."""
    check_same_channels(first, second)
    if first.shape[-2:] != second.shape[-2:]:
        second = scale(second, first.shape[-1], first.shape[-2], "bilinear", "center")
    return repeated(second, first.shape[0])


def repeated(x: Tensor, count: int) -> Tensor:
    """Items repeated or cut to a count."""
    if x.shape[0] == count:
        return x
    return x.repeat(-(-count // x.shape[0]), *([1] * (x.ndim - 1)))[:count]


def blend(first: Tensor, second: Tensor, share_of_first: float) -> Tensor:
    """Two latents mixed; a second one of another size is scaled by bicubic."""
    check_same_channels(first, second)
    if first.shape[-2:] != second.shape[-2:]:
        second = scale(second, first.shape[-1], first.shape[-2], "bicubic", "center")
    second = repeated(second, first.shape[0])
    return first * share_of_first + second * (1 - share_of_first)


def interpolate(first: Tensor, second: Tensor, ratio: float) -> Tensor:
    """Two latents turned into each other: directions and lengths are mixed apart."""
    second = fitted(first, second)
    length_a = torch.linalg.vector_norm(first, dim=1, keepdim=True)
    length_b = torch.linalg.vector_norm(second, dim=1, keepdim=True)
    unit_a = torch.nan_to_num(first / length_a)
    unit_b = torch.nan_to_num(second / length_b)
    mixed = unit_a * ratio + unit_b * (1.0 - ratio)
    mixed_length = torch.linalg.vector_norm(mixed, dim=1, keepdim=True)
    return torch.nan_to_num(mixed / mixed_length) * (length_a * ratio + length_b * (1.0 - ratio))


def paste(to: Tensor, source: Tensor, x: int, y: int, feather: int) -> Tensor:
    """One latent laid over another at (x, y) in cells, soft over `feather` cells inside edges."""
    check_same_channels(to, source)
    result = to.clone()
    source = repeated(source, to.shape[0])
    part = source[:, :, : max(0, to.shape[2] - y), : max(0, to.shape[3] - x)]
    place = result[:, :, y : y + part.shape[2], x : x + part.shape[3]]
    share = torch.ones_like(part)
    for t in range(feather):
        weight = (1.0 / feather) * (t + 1)
        if y != 0:
            share[:, :, t : t + 1] *= weight
        if y + part.shape[2] < to.shape[2]:
            share[:, :, part.shape[2] - 1 - t : part.shape[2] - t] *= weight
        if x != 0:
            share[:, :, :, t : t + 1] *= weight
        if x + part.shape[3] < to.shape[3]:
            share[:, :, :, part.shape[3] - 1 - t : part.shape[3] - t] *= weight
    result[:, :, y : y + part.shape[2], x : x + part.shape[3]] = part * share + place * (1 - share)
    return result


def crop(samples: Tensor, width_px: int, height_px: int, x_px: int, y_px: int) -> Tensor:
    """A rectangle of a latent, in pixels; its corner is moved inside."""
    x, y = x_px // FACTOR, y_px // FACTOR
    x = samples.shape[3] - 8 if x > samples.shape[3] - 8 else x
    y = samples.shape[2] - 8 if y > samples.shape[2] - 8 else y
    x, y = max(0, x), max(0, y)
    return samples[:, :, y : y + height_px // FACTOR, x : x + width_px // FACTOR]


def flip(samples: Tensor, axis: int) -> Tensor:
    """A latent mirrored along an axis."""
    return torch.flip(samples, [axis])


def rotate(samples: Tensor, quarter_turns: int) -> Tensor:
    """A latent turned clockwise by quarters."""
    return torch.rot90(samples, k=quarter_turns, dims=(3, 2))


def repeat_batch(latent: "LatentDict", amount: int) -> "LatentDict":
    """The whole batch several times; the copies get noise of their own."""
    samples = latent["samples"]
    result = {**latent, "samples": samples.repeat(amount, 1, 1, 1)}
    mask = latent.get("noise_mask")
    if mask is not None and mask.shape[0] > 1:
        mask = repeated(mask, samples.shape[0])
        result["noise_mask"] = mask.repeat(amount, *([1] * (mask.ndim - 1)))
    index = latent.get("batch_index")
    if index is not None:
        offset = max(index) - min(index) + 1
        result["batch_index"] = [n + offset * i for i in range(amount) for n in index]
    return result  # pyright: ignore[reportReturnType] - a TypedDict with a pack's keys


def batch(first: "LatentDict", second: "LatentDict") -> "LatentDict":
    """Two batches as one; the second is scaled to the size of the first."""
    a, b = first["samples"], second["samples"]
    check_same_channels(a, b)
    if a.shape[1:] != b.shape[1:]:
        b = scale(b, a.shape[3], a.shape[2], "bilinear", "center")
    index = [
        *(first.get("batch_index") or range(a.shape[0])),
        *(second.get("batch_index") or range(b.shape[0])),
    ]
    joined = {**first, "samples": torch.cat([a, b]), "batch_index": index}
    return joined  # pyright: ignore[reportReturnType] - a TypedDict with a pack's keys
