"""Sizes that pictures are trained at, and the geometry that brings a picture to one of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int]  # width, height in pixels


def bucket_step(size_px: int) -> int:
    """What bucket sizes are multiples of: 64, or 8 for models of tiny pictures."""
    return 64 if size_px >= 256 else 8


def bucket_sizes(size_px: int, step: int, max_aspect: float = 2.5) -> tuple[Size, ...]:
    """The sizes with at most `size_px`² pixels and sides that are multiples of `step`.

    Source: NovelAI 2022, "Improvements on Stable Diffusion", aspect ratio bucketing: for each
    width the largest height that keeps the area, and the same turned round.
    """
    area = size_px * size_px
    found: set[Size] = {(size_px, size_px)}
    for side in range(step, int(size_px * math.sqrt(max_aspect)) + step, step):
        other = area // side // step * step
        if other > 0 and max(side, other) / min(side, other) <= max_aspect:
            found |= {(side, other), (other, side)}
    return tuple(sorted(found))


def nearest_bucket(width_px: int, height_px: int, sizes: Sequence[Size]) -> Size:
    """The size whose ratio is closest to a picture's, of equal ones the largest."""
    ratio = math.log(width_px / height_px)
    return min(sizes, key=lambda s: (abs(math.log(s[0] / s[1]) - ratio), -s[0] * s[1], s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """A picture scaled to cover a target size, and where the target lies on it.

    Units: pixels; sizes are (width, height). `left` and `top` count on the scaled picture.
    """

    original: Size
    scaled: Size
    target: Size
    left: int
    top: int
    is_flipped: bool = False

    @property
    def time_ids(self) -> tuple[int, int, int, int, int, int]:
        """Original size, crop corner, target size, each height first.

        Source: SDXL (arXiv:2307.01952) section 2.2.
        """
        (width, height), (target_width, target_height) = self.original, self.target
        return (height, width, self.top, self.left, target_height, target_width)


def place(original: Size, target: Size, x: float, y: float, *, is_flipped: bool = False) -> Placing:
    """Scale a picture to cover the target; `x` and `y` in 0..1 say where in the rest it lies."""
    scale = max(target[0] / original[0], target[1] / original[1])
    scaled = (
        max(target[0], round(original[0] * scale)),
        max(target[1], round(original[1] * scale)),
    )
    return Placing(
        original=original,
        scaled=scaled,
        target=target,
        left=round((scaled[0] - target[0]) * x),
        top=round((scaled[1] - target[1]) * y),
        is_flipped=is_flipped,
    )
