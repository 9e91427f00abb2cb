"""Tests call nodes as the functions that they are."""

import torch

from .nodes import mean_color, sharpen


def test_sharpen_leaves_a_flat_picture_as_it_is() -> None:
    flat = torch.full((1, 4, 4, 3), 0.5)
    assert torch.allclose(sharpen(flat, amount=2.0, radius=1), flat)


def test_sharpen_raises_the_contrast_of_an_edge() -> None:
    edge = torch.full((1, 4, 8, 3), 0.4)
    edge[:, :, 4:] = 0.6
    sharp = sharpen(edge, amount=1.0, radius=1)
    assert sharp[0, 0, 3, 0] < 0.4 < 0.6 < sharp[0, 0, 4, 0]


def test_mean_color_is_shown_as_a_text() -> None:
    orange = torch.tensor([1.0, 0.5, 0.0]).expand(1, 2, 2, 3)
    assert mean_color(orange).ui == {"text": ["#ff8000"]}
