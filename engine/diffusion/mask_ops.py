"""Operations on masks (B, H, W) 0..1. Never changes its inputs."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

from engine.api.errors import NodeError

CHANNELS = ("red", "green", "blue", "alpha")


def batched(mask: Tensor) -> Tensor:
    """A mask (H, W) or (B, H, W) as (B, H, W)."""
    return mask.reshape(-1, *mask.shape[-2:])


def _bitwise(combine: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: combine(a.round().bool(), b.round().bool()).float()


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "multiply": torch.mul,
    "add": torch.add,
    "subtract": torch.sub,
    "and": _bitwise(torch.bitwise_and),
    "or": _bitwise(torch.bitwise_or),
    "xor": _bitwise(torch.bitwise_xor),
}


def combine(destination: Tensor, source: Tensor, x: int, y: int, operation: str) -> Tensor:
    """Two masks combined where the second one, at (x, y), lies over the first."""
    result, source = batched(destination).clone(), batched(source)
    part = result[:, y : y + source.shape[-2], x : x + source.shape[-1]]
    over = source[:, : part.shape[-2], : part.shape[-1]]
    if over.shape[0] not in (1, part.shape[0]):
        raise NodeError(
            f"The masks have {part.shape[0]} and {over.shape[0]} items.",
            hint="Use one mask, or as many as in the destination.",
        )
    result[:, y : y + part.shape[-2], x : x + part.shape[-1]] = OPERATIONS[operation](part, over)
    return result.clamp(0.0, 1.0)


def grow(mask: Tensor, cells: int, *, has_tapered_corners: bool) -> Tensor:
    """A mask grown (or shrunk) step by step; tapered corners leave out diagonals."""
    result = batched(mask)
    for _ in range(abs(cells)):
        padded = F.pad(result[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
        result = _neighbourhood(padded, is_growing=cells > 0, is_cross=has_tapered_corners)
    return result.clone() if cells == 0 else result


def _neighbourhood(padded: Tensor, *, is_growing: bool, is_cross: bool) -> Tensor:
    """The largest (or smallest) of each cell and its neighbours."""
    pick = torch.maximum if is_growing else torch.minimum
    height, width = padded.shape[1] - 2, padded.shape[2] - 2
    result = padded[:, 1:-1, 1:-1]
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            if not is_cross or 1 in (dx, dy):
                result = pick(result, padded[:, dy : dy + height, dx : dx + width])
    return result


def feather(mask: Tensor, left: int, top: int, right: int, bottom: int) -> Tensor:
    """A mask that fades towards the edges.

    As in the reference engine the far edges' ramp starts one cell outside, and its first, weakest
    cell falls on the near edge.
    """
    result = batched(mask).clone()
    height, width = result.shape[-2:]
    for axis, near, far, length in ((2, left, right, width), (1, top, bottom, height)):
        near, far = min(near, length), min(far, length)
        for i in range(near):
            result.select(axis, i).mul_((i + 1.0) / near)
        for i in range(far):
            result.select(axis, -i % length).mul_((i + 1.0) / far)
    return result


def crop(mask: Tensor, x: int, y: int, width: int, height: int) -> Tensor:
    """A rectangle of a mask."""
    return batched(mask)[:, y : y + height, x : x + width].clone()


def to_image(mask: Tensor) -> Tensor:
    """A mask as grey pictures (B, H, W, 3)."""
    return batched(mask)[..., None].expand(-1, -1, -1, 3).clone()


def from_channel(image: Tensor, channel: str) -> Tensor:
    """One channel of pictures; all opaque where there is no alpha channel."""
    index = CHANNELS.index(channel)
    if index >= image.shape[-1]:
        if channel != "alpha":
            raise NodeError(
                f"The picture has no {channel} channel: its shape is {list(image.shape)}."
            )
        return torch.ones(image.shape[:3])
    return image[..., index].clone()


def from_colour(image: Tensor, colour: int) -> Tensor:
    """1 where the pictures have exactly a colour (0xRRGGBB)."""
    values = (image[..., :3].clamp(0, 1) * 255.0).round().to(torch.int)
    packed = (values[..., 0] << 16) + (values[..., 1] << 8) + values[..., 2]
    return torch.where(packed == colour, 1.0, 0.0)


def threshold(mask: Tensor, value: float) -> Tensor:
    """1 where a mask is above a value."""
    return (mask > value).float()


def solid(value: float, width: int, height: int) -> Tensor:
    """A mask of one value."""
    return torch.full((1, height, width), value)
