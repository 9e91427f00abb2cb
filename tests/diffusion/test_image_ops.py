"""Pictures, masks and latents: what the recorded values do not show."""

import math
from typing import Any

import pytest
import torch

from engine.api.errors import NodeError
from engine.diffusion import image_ops, latent_ops, mask_ops
from engine.diffusion.scaling import METHODS, scale


def image(height: int = 6, width: int = 8, count: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", METHODS)
def test_scaling_to_the_same_size_changes_nothing(method: str) -> None:
    x = image().movedim(-1, 1)
    tolerance = 1 / 255 if method == "lanczos" else 1e-5
    torch.testing.assert_close(scale(x, 8, 6, method), x, atol=tolerance, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_flat_picture_stays_flat(method: str) -> None:
    flat = torch.full((1, 3, 6, 8), 0.6)
    scaled = scale(flat, 11, 5, method)
    torch.testing.assert_close(scaled, torch.full((1, 3, 5, 11), 0.6), atol=1e-5, rtol=0)


def test_a_side_of_zero_keeps_the_proportions() -> None:
    assert image_ops.resize(image(), 16, 0, "area").shape == (2, 12, 16, 3)
    assert image_ops.resize(image(), 0, 3, "area").shape == (2, 3, 4, 3)
    assert image_ops.resize(image(), 0, 0, "area").shape == (2, 6, 8, 3)


def test_the_psnr_is_that_of_its_formula_and_of_a_picture_with_itself_infinite() -> None:
    truth = torch.full((2, 4, 4, 3), 0.5)
    off = truth + torch.tensor([0.1, -0.01]).view(2, 1, 1, 1)
    assert image_ops.psnr(off, truth).tolist() == pytest.approx([20.0, 40.0], abs=1e-3)
    assert image_ops.psnr(truth, truth).tolist() == [math.inf, math.inf]


def test_pictures_of_other_sizes_have_no_psnr() -> None:
    with pytest.raises(NodeError, match=r"2 pictures of 8 x 6 .* 1 of 6 x 8"):
        image_ops.psnr(image(), image(height=8, width=6, count=1))


def test_bislerp_of_zeros_is_zero() -> None:
    assert not scale(torch.zeros(1, 4, 4, 4), 8, 8, "bislerp").any()


def test_batches_of_two_sizes_are_joined() -> None:
    joined = image_ops.batch(image(), image(12, 12, 1, 4))
    assert joined.shape == (3, 6, 8, 4)
    assert (joined[:2, ..., 3] == 1).all()


def test_composition_cuts_off_what_lies_outside() -> None:
    base, patch = torch.zeros(1, 3, 6, 8), torch.ones(1, 3, 4, 4)
    laid = image_ops.composite(base, patch, 6, 4, None, resize_source=False)
    assert laid.sum() == 3 * 2 * 2
    assert torch.equal(image_ops.composite(base, patch, 99, 0, None, resize_source=False), base)
    assert not base.any()


@pytest.mark.parametrize("dither", ["none", "floyd-steinberg", "bayer-2", "bayer-16"])
def test_quantizing_leaves_so_many_colours(dither: str) -> None:
    found = image_ops.quantize(image(32, 32, 1), 5, dither)
    assert len(found.reshape(-1, 3).unique(dim=0)) <= 5


def test_a_blur_wider_than_the_picture_is_refused() -> None:
    with pytest.raises(NodeError, match="8x6"):
        image_ops.blur(image(), 6, 1.0)


def test_outpainting_fades_into_the_picture() -> None:
    padded, mask = image_ops.pad_for_outpaint(image(16, 16, 1), 8, 0, 0, 0, 4)
    assert padded.shape == (1, 16, 24, 3) and mask.shape == (1, 16, 24)
    assert mask[0, 8, :13].tolist() == [*([1.0] * 8), 1.0, 0.5625, 0.25, 0.0625, 0.0]


def test_growing_and_shrinking_a_mask() -> None:
    mask = torch.zeros(7, 7)
    mask[3, 3] = 1.0
    assert mask_ops.grow(mask, 1, has_tapered_corners=True).sum() == 5
    assert mask_ops.grow(mask, 1, has_tapered_corners=False).sum() == 9
    assert mask_ops.grow(mask, -1, has_tapered_corners=True).sum() == 0


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(NodeError, match="3 and 2 items"):
        mask_ops.combine(torch.zeros(3, 4, 4), torch.zeros(2, 4, 4), 0, 0, "add")
    with pytest.raises(NodeError, match="no blue"):
        mask_ops.from_channel(image(channels=1), "blue")
    assert (mask_ops.from_channel(image(), "alpha") == 1).all()


def test_latents_that_do_not_fit_are_refused() -> None:
    with pytest.raises(NodeError, match="4 and 16 channels"):
        latent_ops.fitted(torch.zeros(1, 4, 8, 8), torch.zeros(1, 16, 8, 8))


def test_batches_of_latents_keep_their_noise() -> None:
    latent: Any = {"samples": torch.arange(3.0).reshape(3, 1, 1, 1)}
    picked: Any = latent_ops.from_batch(latent, 1, 5)
    assert picked["batch_index"] == [1, 2] and picked["samples"].flatten().tolist() == [1.0, 2.0]
    assert latent_ops.batch(latent, picked).get("batch_index") == [0, 1, 2, 1, 2]
    assert latent_ops.repeat_batch(picked, 2).get("batch_index") == [1, 2, 3, 4]


def test_interpolation_keeps_lengths() -> None:
    a, b = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    a[0, 0], b[0, 1] = 2.0, 4.0
    mixed = latent_ops.interpolate(a, b, 0.5)
    assert float(mixed.norm()) == pytest.approx(3.0)
    assert torch.equal(latent_ops.interpolate(a, b, 1.0), a)


def test_interpolation_of_a_batch_is_that_of_its_items() -> None:
    a, b = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    both = latent_ops.interpolate(a, b, 0.3)
    torch.testing.assert_close(both[1:2], latent_ops.interpolate(a[1:2], b[1:2], 0.3))


@pytest.mark.parametrize("method", METHODS)
def test_scaling_to_nothing_is_refused(method: str) -> None:
    with pytest.raises(NodeError, match="would give 0x0"):
        scale(torch.zeros(1, 4, 2, 3), 0, 0, method)


@pytest.mark.parametrize(("height", "width"), [(1, 64), (64, 1), (3, 2)])
def test_extreme_proportions_keep_a_cell(height: int, width: int) -> None:
    assert scale(torch.zeros(1, 4, height, width), 7, 9, "bicubic", "center").shape[2:] == (9, 7)


def test_a_latent_laid_outside_changes_nothing() -> None:
    base = torch.zeros(1, 4, 4, 4)
    assert torch.equal(latent_ops.paste(base, torch.ones(2, 4, 2, 2), 5, 0, 1), base)
