"""Pictures side by side and over each other, edges, shapes, colour and batches, by closed form."""

from typing import Any

import pytest
import torch

from engine.api.errors import NodeError
from engine.diffusion import compositing, image_filters, latent_batches
from nodes.batch import rebatch_images, rebatch_latents


def image(height: int = 6, width: int = 8, count: int = 2) -> torch.Tensor:
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("direction", compositing.DIRECTIONS)
@pytest.mark.parametrize("is_matched", [True, False])
def test_both_pictures_are_in_the_stitched_one(direction: str, is_matched: bool) -> None:
    first, second = image(), torch.full((1, 12, 8, 3), 0.5)
    is_row = direction in ("right", "left")
    found = compositing.stitch(first, second, direction, 4, "red", is_matched=is_matched)
    if is_matched:
        assert found.shape == ((2, 6, 8 + 4 + 4, 3) if is_row else (2, 6 + 4 + 12, 8, 3))
    else:
        assert found.shape == ((2, 12, 20, 3) if is_row else (2, 22, 8, 3))
    if direction in ("left", "up"):
        found, first = found.flip(1, 2), first.flip(1, 2)
    if is_matched or not is_row:
        assert torch.equal(found[:, :6, :8], first)
    strip = found[0, 0, 8] if is_row else found[0, 6, 0]
    assert strip.tolist() == [1.0, 0.0, 0.0]


def test_padding_keeps_the_proportions() -> None:
    found = compositing.resize_and_pad(torch.full((1, 6, 12, 3), 0.5), 24, 24, "area", "white")
    assert found.shape == (1, 24, 24, 3)
    assert (
        (found[:, 6:18] == 0.5).all() and (found[:, :6] == 1).all() and (found[:, 18:] == 1).all()
    )


def composed(mode: str, source_alpha: float, alpha: float) -> tuple[float, float]:
    """Source 0.8 on destination 0.4; the colour and alpha that come out."""
    s, d = torch.full((1, 2, 2, 3), 0.8), torch.full((1, 2, 2, 3), 0.4)
    masks = (torch.full((1, 2, 2), 1 - a) for a in (source_alpha, alpha))
    sm, dm = masks
    colour, mask = compositing.porter_duff(s, sm, d, dm, mode)
    return float(colour[0, 0, 0, 0]), 1 - float(mask[0, 0, 0])


@pytest.mark.parametrize(
    ("mode", "colour", "alpha"),
    [
        ("CLEAR", 0.0, 0.0),
        ("SRC", 0.8, 0.5),
        ("DST", 0.4, 0.75),
        ("SRC_OVER", (0.4 + 0.5 * 0.3) / 0.875, 0.875),
        ("DST_OVER", (0.3 + 0.25 * 0.4) / 0.875, 0.875),
        ("SRC_IN", 0.8, 0.375),
        ("DST_IN", 0.4, 0.375),
        ("SRC_OUT", 0.8, 0.125),
        ("DST_OUT", 0.4, 0.375),
        ("SRC_ATOP", (0.75 * 0.4 + 0.5 * 0.3) / 0.75, 0.75),
        ("DST_ATOP", (0.5 * 0.3 + 0.25 * 0.4) / 0.5, 0.5),
        ("XOR", (0.25 * 0.4 + 0.5 * 0.3) / 0.5, 0.5),
        ("ADD", 0.7, 1.0),
        ("MULTIPLY", 0.4 * 0.3 / 0.375, 0.375),
        ("SCREEN", (0.7 - 0.12) / 0.875, 0.875),
        ("DARKEN", (0.25 * 0.4 + 0.5 * 0.3 + 0.15) / 0.875, 0.875),
        ("LIGHTEN", (0.25 * 0.4 + 0.5 * 0.3 + 0.3) / 0.875, 0.875),
        ("OVERLAY", (2 * 0.4 * 0.3 + 0.25 * 0.4 + 0.5 * 0.3) / 0.875, 0.875),
    ],
)
def test_published_composition(mode: str, colour: float, alpha: float) -> None:
    found = composed(mode, 0.5, 0.75)
    assert found == (pytest.approx(colour, abs=1e-5), pytest.approx(alpha, abs=1e-5))


def test_every_composition_is_known() -> None:
    assert len(compositing.COMPOSITIONS) == 18


@pytest.mark.parametrize("size", [3, 4, 999])
def test_flat_pictures_have_no_shapes(size: int) -> None:
    flat = torch.full((1, 5, 7, 3), 0.3)
    for operation in image_filters.MORPHOLOGY:
        wanted = 0.3 if operation in ("erode", "dilate", "open", "close") else 0.0
        found = image_filters.morphology(flat, operation, size)
        torch.testing.assert_close(found, torch.full_like(flat, wanted))


def test_shapes_of_a_point() -> None:
    point = torch.zeros(1, 7, 7, 1)
    point[0, 3, 3] = 1.0
    sums = {o: float(image_filters.morphology(point, o, 3).sum()) for o in image_filters.MORPHOLOGY}
    assert sums == {
        "erode": 0,
        "dilate": 9,
        "open": 0,
        "close": 1,
        "gradient": 9,
        "bottom_hat": 0,
        "top_hat": 1,
    }


def test_a_step_has_one_thin_edge() -> None:
    step = torch.zeros(1, 9, 10, 3)
    step[:, :, 5:] = 1.0
    edges = image_filters.canny(step, 0.4, 0.8)
    assert edges.shape == step.shape and set(edges.unique().tolist()) == {0.0, 1.0}
    assert (edges[0, :, :, 0].sum(1) == 1).all() and edges[0, :, 4:6].any()
    assert torch.equal(image_filters.canny(step.flip(0), 0.4, 0.8), edges)
    assert not image_filters.canny(torch.full((1, 9, 9, 3), 0.5), 0.01, 0.02).any()


def test_weak_edges_count_where_strong_ones_go_on() -> None:
    ramp = torch.zeros(1, 20, 10, 3)
    ramp[:, :, 5:] = torch.linspace(0.2, 1.0, 20)[None, :, None, None]
    assert image_filters.canny(ramp, 0.99, 0.99)[..., 0].sum() < 16
    assert image_filters.canny(ramp, 0.2, 0.99)[..., 0].sum() > 16
    with pytest.raises(NodeError, match=r"low_threshold is 0\.9"):
        image_filters.canny(ramp, 0.9, 0.5)


def test_brightness_and_colour_are_the_picture() -> None:
    x = image()
    y, u, v = image_filters.to_yuv(x)
    torch.testing.assert_close(image_filters.from_yuv(y, u, v), x)
    white = image_filters.to_yuv(torch.ones(1, 1, 1, 3))
    assert [round(float(c[0, 0, 0, 0]), 5) for c in white] == [1.0, 0.5, 0.5]


def test_grain_is_that_of_its_seed() -> None:
    x = torch.full((1, 64, 64, 3), 0.5)
    noisy = image_filters.with_noise(x, 7, 0.1)
    assert torch.equal(noisy, image_filters.with_noise(x, 7, 0.1))
    assert float(noisy.std()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(image_filters.with_noise(x, 7, 0.0), x)


def latent(count: int, start: int = 0, width: int = 2, **more: Any) -> Any:
    samples = torch.arange(start, start + count).float().reshape(-1, 1, 1, 1)
    return {"samples": samples.expand(-1, 4, 2, width).clone(), **more}


def test_a_stretch_of_a_latent() -> None:
    wide: Any = {"samples": torch.arange(6.0).expand(1, 4, 2, 6)}

    def row(index: int, amount: int) -> list[float]:
        return latent_batches.cut(wide, "x", index, amount)["samples"][0, 0, 0].tolist()

    assert (row(1, 2), row(4, 9), row(99, 3)) == ([1, 2], [4, 5], [5])
    assert (row(-2, 1), row(-99, 2)) == ([4], [0, 1])


def test_latents_one_after_the_other() -> None:
    a, b = latent(2), latent(1, 5, width=3)
    joined = latent_batches.concatenated(a, b, "x")["samples"]
    assert joined[:, 0, 0].tolist() == [[0, 0, 5, 5, 5], [1, 1, 5, 5, 5]]
    turned = latent_batches.concatenated(a, b, "-x")["samples"]
    assert turned[:, 0, 0].tolist() == [[5, 5, 5, 0, 0], [5, 5, 5, 1, 1]]
    with pytest.raises(NodeError, match="do not fit along y"):
        latent_batches.concatenated(a, b, "y")


def test_noise_of_a_batch() -> None:
    fixed = latent_batches.with_seed_behaviour(latent(3, batch_index=[4, 5, 6]), is_fixed=True)
    assert fixed.get("batch_index") == [4, 4, 4]
    assert "batch_index" not in latent_batches.with_seed_behaviour(fixed, is_fixed=False)


def test_pictures_in_batches_of_two() -> None:
    lists: Any = rebatch_images([image(count=3), image(count=2), image(4, 4, 1)], [2])  # pyright: ignore
    assert [tuple(x.shape[:2]) for x in lists] == [(2, 6), (2, 6), (1, 6), (1, 4)]
    assert torch.equal(lists[1][1], image()[0])


def test_latents_in_batches_of_two() -> None:
    masked = latent(2, 3, noise_mask=torch.ones(1, 16, 16))
    lists: Any = rebatch_latents([latent(3), masked], [2])  # pyright: ignore
    assert [x["samples"][:, 0, 0, 0].tolist() for x in lists] == [[0, 1], [2], [3, 4]]
    assert [x["batch_index"] for x in lists] == [[0, 1], [2], [0, 1]]
    assert lists[2]["noise_mask"].shape == (2, 1, 16, 16) and "noise_mask" not in lists[0]
