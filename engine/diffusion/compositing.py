"""Pictures put side by side, on a ground of one colour, or over each other by transparency."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

from engine.diffusion.image_ops import resize, with_channels
from engine.diffusion.latent_ops import repeated

COLOURS = {"white": 0xFFFFFF, "black": 0, "red": 0xFF0000, "green": 0x00FF00, "blue": 0x0000FF}
DIRECTIONS = ("right", "down", "left", "up")


def ground(count: int, height: int, width: int, channels: int, colour: str) -> Tensor:
    """Opaque pictures of a named colour."""
    rgb = [(COLOURS[colour] >> shift & 0xFF) / 0xFF for shift in (16, 8, 0)]
    values = torch.tensor([*rgb, *([1.0] * channels)][:channels])
    return values.expand(count, height, width, channels).clone()


def stitch(
    first: Tensor, second: Tensor, direction: str, spacing: int, colour: str, *, is_matched: bool
) -> Tensor:
    """The second pictures beside the first ones, with a strip of a colour between them.

    Matched, the second are scaled to the side that they share; else the smaller are put in the
    middle of the colour. The last picture of a shorter batch is repeated.
    """
    channels = max(first.shape[-1], second.shape[-1])
    first, second = with_channels(first, channels), with_channels(second, channels)
    count = max(len(first), len(second))
    first, second = (
        torch.cat([x, x[-1:].repeat(count - len(x), 1, 1, 1)]) for x in (first, second)
    )
    is_row = direction in ("right", "left")
    if is_matched:
        size = (0, first.shape[1]) if is_row else (first.shape[2], 0)
        second = resize(second, *size, "lanczos")
    else:
        side = max(first.shape[1 if is_row else 2], second.shape[1 if is_row else 2])
        first, second = (
            centred(x, *((x.shape[2], side) if is_row else (side, x.shape[1])), colour)
            for x in (first, second)
        )
    parts = [first, second]
    if spacing:
        height, width = (first.shape[1], spacing) if is_row else (spacing, first.shape[2])
        parts.insert(1, ground(count, height, width, channels, colour))
    if direction in ("left", "up"):
        parts.reverse()
    return torch.cat(parts, dim=2 if is_row else 1)


def centred(image: Tensor, width: int, height: int, colour: str) -> Tensor:
    """Pictures in the middle of a larger ground."""
    result = ground(len(image), height, width, image.shape[-1], colour)
    top, left = (height - image.shape[1]) // 2, (width - image.shape[2]) // 2
    result[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return result


def resize_and_pad(image: Tensor, width: int, height: int, method: str, colour: str) -> Tensor:
    """Pictures scaled into a size with their proportions kept, and the rest filled."""
    factor = min(width / image.shape[2], height / image.shape[1])
    inner = max(1, int(image.shape[2] * factor)), max(1, int(image.shape[1] * factor))
    return centred(resize(image, *inner, method), width, height, colour)


# Porter and Duff ----------------------------------------------------------------------------------

# Colours here are multiplied by their alpha: (source, its alpha, destination, its alpha).
Blend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _union(s: Tensor, d: Tensor) -> Tensor:
    return s + d - s * d


def _overlay(s: Tensor, sa: Tensor, d: Tensor, da: Tensor) -> Tensor:
    light = sa * da - 2 * (da - s) * (sa - d)
    return torch.where(2 * d < da, 2 * s * d, light) + s * (1 - da) + d * (1 - sa)


# Each gives the colour; the same formula on the alphas alone gives the alpha.
_COVERING: dict[str, Blend] = {
    "ADD": lambda s, sa, d, da: (s + d).clamp(0, 1),
    "CLEAR": lambda s, sa, d, da: torch.zeros_like(s * d),
    "DST": lambda s, sa, d, da: d,
    "DST_ATOP": lambda s, sa, d, da: sa * d + (1 - da) * s,
    "DST_IN": lambda s, sa, d, da: sa * d,
    "DST_OUT": lambda s, sa, d, da: (1 - sa) * d,
    "DST_OVER": lambda s, sa, d, da: d + (1 - da) * s,
    "SRC": lambda s, sa, d, da: s,
    "SRC_ATOP": lambda s, sa, d, da: da * s + (1 - sa) * d,
    "SRC_IN": lambda s, sa, d, da: da * s,
    "SRC_OUT": lambda s, sa, d, da: (1 - da) * s,
    "SRC_OVER": lambda s, sa, d, da: s + (1 - sa) * d,
    "XOR": lambda s, sa, d, da: (1 - da) * s + (1 - sa) * d,
    "MULTIPLY": lambda s, sa, d, da: s * d,
    "SCREEN": lambda s, sa, d, da: _union(s, d),
}
# Of these the alpha is that of both laid over each other.
_MIXING: dict[str, Blend] = {
    "DARKEN": lambda s, sa, d, da: (1 - da) * s + (1 - sa) * d + torch.minimum(s * da, d * sa),
    "LIGHTEN": lambda s, sa, d, da: (1 - da) * s + (1 - sa) * d + torch.maximum(s * da, d * sa),
    "OVERLAY": _overlay,
}
COMPOSITIONS = tuple(sorted({**_COVERING, **_MIXING}))


def porter_duff(
    source: Tensor, source_mask: Tensor, destination: Tensor, destination_mask: Tensor, mode: str
) -> tuple[Tensor, Tensor]:
    """Two pictures with transparency composed; masks are 1 where a picture is transparent.

    Shapes: (B, H, W, C), (B, H, W); the destination's size counts -> (B, H, W, 3), (B, H, W).
    Source: Porter and Duff 1984, "Compositing digital images"; modes of Android's PorterDuff.Mode.
    """
    height, width = destination.shape[1:3]
    count = max(map(len, (source, source_mask, destination, destination_mask)))
    masks = (m.reshape(-1, 1, *m.shape[-2:]) for m in (source_mask, destination_mask))
    sa, da = (
        1 - repeated(F.interpolate(m, (height, width), mode="bilinear"), count).movedim(1, -1)
        for m in masks
    )
    if source.shape[1:3] != (height, width):
        source = resize(source, width, height, "bicubic", "center").clamp(0, 1)
    s, d = (repeated(x[..., :3], count) for x in (source, destination))
    s, d = s * sa, d * da
    if mode in _MIXING:
        colour, alpha = _MIXING[mode](s, sa, d, da), _union(sa, da)
    else:
        colour, alpha = _COVERING[mode](s, sa, d, da), _COVERING[mode](sa, sa, da, da)
    straight = torch.where(alpha > 1e-5, colour / alpha.clamp(min=1e-5), 0.0)
    return straight.clamp(0, 1), 1 - alpha[..., 0]
