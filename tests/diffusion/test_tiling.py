"""Tiles cover a picture; blending equal tiles gives the picture back."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from engine.diffusion.tiling import feather, run_tiled, tiles

SIZES = st.integers(1, 90)


@given(SIZES, SIZES, st.integers(8, 40), st.integers(8, 40), st.integers(0, 7))
def test_tiles_cover_every_cell(height: int, width: int, tall: int, wide: int, overlap: int):
    seen = torch.zeros(height, width)
    for tile in tiles(height, width, tall, wide, overlap):
        assert tile.height <= tall
        assert tile.width <= wide
        seen[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
    assert seen.min() >= 1


def test_feather_falls_in_equal_steps():
    assert feather(1, 8, 3).tolist()[0] == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 2 / 3, 1 / 3])
    assert feather(4, 4, 0).min() == 1
    assert feather(2, 2, 5).min() == 1


def shrink(x: Tensor) -> Tensor:
    return avg_pool2d(x, 8)


def grow(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=8)


@pytest.mark.parametrize(
    ("function", "scale", "tile", "overlap"),
    [
        (shrink, Fraction(1, 8), 64, 16),
        (grow, Fraction(8), 16, 4),
        (torch.sin, Fraction(1), 20, 5),
        (grow, Fraction(8), 200, 4),
        (grow, Fraction(8), 16, 0),
    ],
)
def test_pointwise_work_in_tiles_is_the_same_as_at_once(
    function: Callable[[Tensor], Tensor], scale: Fraction, tile: int, overlap: int
):
    image = torch.randn(2, 3, 96, 136)
    count = 0

    def on_tile() -> None:
        nonlocal count
        count += 1

    out = run_tiled(
        image,
        function,
        tile_height=tile,
        tile_width=tile * 2,
        overlap=overlap,
        scale=scale,
        on_tile=on_tile,
    )
    torch.testing.assert_close(out, function(image))
    assert count == 2 * len(tiles(96, 136, tile, tile * 2, overlap))
