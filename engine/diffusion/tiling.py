"""Work on large pictures in overlapping tiles: where the tiles lie, and how they are blended."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A rectangle of the input."""

    top: int
    left: int
    height: int
    width: int


def tiles(height: int, width: int, tile_height: int, tile_width: int, overlap: int) -> list[Tile]:
    """The tiles that cover a picture, row by row; neighbours share `overlap` cells."""
    return [
        Tile(top=top, left=left, height=tall, width=wide)
        for top, tall in _spans(height, tile_height, overlap)
        for left, wide in _spans(width, tile_width, overlap)
    ]


def _spans(length: int, tile: int, overlap: int) -> Iterator[tuple[int, int]]:
    if length <= tile:
        yield 0, length
        return
    for start in range(0, length - overlap, tile - overlap):
        yield start, min(tile, length - start)


def feather(height: int, width: int, margin: int) -> Tensor:
    """Blending weights of a tile: 1 inside, falling in `margin` equal steps towards each edge.

    Shapes: (height, width).
    """
    return _ramp(height, margin)[:, None] * _ramp(width, margin)[None, :]


def _ramp(length: int, margin: int) -> Tensor:
    if margin >= length:
        return torch.ones(length)
    ramp = torch.ones(length)
    steps = torch.arange(1, margin + 1) / max(margin, 1)
    ramp[:margin] *= steps
    ramp[length - margin :] *= steps.flip(0)
    return ramp


def run_tiled(
    image: Tensor,
    function: Callable[[Tensor], Tensor],
    *,
    tile_height: int,
    tile_width: int,
    overlap: int,
    scale: Fraction,
    on_tile: Callable[[], None] | None = None,
) -> Tensor:
    """`function` applied tile by tile, blended; `scale` is output cells per input cell.

    Shapes: image (B, C, H, W) -> (B, C', H scale, W scale).
    """
    rows_in, columns_in = image.shape[2:]
    height, width = int(rows_in * scale), int(columns_in * scale)
    outputs: list[Tensor] = []
    for item in image.split(1):
        total = weight = None
        for tile in tiles(rows_in, columns_in, tile_height, tile_width, overlap):
            out = function(
                item[:, :, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            )
            if total is None or weight is None:
                total = out.new_zeros(1, out.shape[1], height, width)
                weight = out.new_zeros(height, width)
            mask = feather(out.shape[2], out.shape[3], round(overlap * scale)).to(out)
            rows = slice(round(tile.top * scale), round(tile.top * scale) + out.shape[2])
            columns = slice(round(tile.left * scale), round(tile.left * scale) + out.shape[3])
            total[:, :, rows, columns] += out * mask
            weight[rows, columns] += mask
            if on_tile:
                on_tile()
        assert total is not None and weight is not None
        outputs.append(total / weight)
    return torch.cat(outputs)
