"""Prompts in areas, masks and batches, with a network that gives back what it is asked for."""

from typing import Any

import pytest
import torch
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.conditioning_batch import (
    Area,
    Batch,
    Target,
    evaluate,
    mask_bounds,
    resolve,
)
from engine.diffusion.latent_space import LatentSpace
from engine.diffusion.network import sd_alphas_cumprod
from engine.diffusion.parameterization import parameterization

MODEL = parameterization("eps", sd_alphas_cumprod())


def target(**fields: Any) -> Target:
    values: dict[str, Any] = {
        "model": MODEL,
        "latent": torch.zeros(1, 4, 16, 24),
        "noise_mask": None,
        "extra_channels": 0,
        "context_dim": 8,
        "adm_channels": None,
        "space": LatentSpace(scale=1.0),
    }
    return Target(**{**values, **fields})


def prompt(value: float, **options: Any) -> Any:
    return [(torch.full((1, 77, 8), value), options)]


class Echo:
    """Predicts each item's own embeds; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def __call__(self, x: Tensor, sigma: Tensor, batch: Batch) -> Tensor:
        assert sigma.shape[0] == x.shape[0] == batch.context.shape[0]
        self.batches.append(batch)
        return batch.context[:, 0, :1, None, None].expand_as(x)


def predicted(groups: list[Any], sigma: float = 5.0, **fields: Any) -> tuple[list[Tensor], Echo]:
    echo, place = Echo(), target(**fields)
    entries = resolve(groups, place)
    x = torch.randn_like(place.latent)
    return evaluate(echo, entries, x, torch.full((x.shape[0],), sigma)), echo


def test_two_groups_are_one_call() -> None:
    (cond, uncond), echo = predicted([prompt(1.0), prompt(-1.0)])
    assert (cond == 1).all() and (uncond == -1).all()
    assert [b.groups for b in echo.batches] == [(0, 1)]


@pytest.mark.parametrize(("most_cells", "calls"), [(1000, 1), (384 * 2, 1), (384, 2), (0, 2)])
def test_groups_are_calls_of_their_own_where_memory_is_short(most_cells: int, calls: int) -> None:
    echo, place = Echo(), target()
    assert place.latent.shape[-2] * place.latent.shape[-1] == 384
    entries = resolve([prompt(1.0), prompt(-1.0)], place)
    x = torch.randn_like(place.latent)
    cond, uncond = evaluate(echo, entries, x, torch.full((1,), 5.0), most_cells)
    assert (cond == 1).all() and (uncond == -1).all()
    assert len(echo.batches) == calls


def test_combined_prompts_are_averaged_by_strength() -> None:
    groups = [[*prompt(1.0, strength=3.0), *prompt(5.0)], prompt(0.0)]
    (cond, _), _ = predicted(groups)
    torch.testing.assert_close(cond, torch.full_like(cond, 2.0))


def test_a_mask_divides_the_picture() -> None:
    mask = torch.zeros(1, 128, 192)
    mask[:, :, :96] = 1.0
    groups = [[*prompt(1.0, mask=mask), *prompt(5.0, mask=1 - mask)], prompt(0.0)]
    (cond, _), _ = predicted(groups)
    assert (cond[..., :10] == 1).all() and (cond[..., 14:] == 5).all()


def test_an_area_acts_inside_only_and_gets_a_negative_of_its_own() -> None:
    groups = [[*prompt(1.0), *prompt(5.0, area=(8, 8, 4, 8))], prompt(-1.0)]
    (cond, uncond), echo = predicted(groups)
    inside = Area(height=8, width=8, y=4, x=8).cut(cond)
    assert (inside > 1).all() and float(inside.max()) == pytest.approx(3.0)
    assert (cond[..., :4, :] == 1).all() and (cond[..., 16:] == 1).all()
    torch.testing.assert_close(uncond, torch.full_like(uncond, -1.0))
    assert sorted(b.groups for b in echo.batches) == [(0, 1), (0, 1)]


def test_an_area_as_shares_is_one_in_cells() -> None:
    share = prompt(1.0, area=("percentage", 0.5, 0.25, 0.25, 0.5))
    (entries, _) = resolve([share, prompt(0.0)], target())
    assert entries[0].area == Area(height=8, width=6, y=4, x=12)


def test_an_area_outside_names_both_sizes() -> None:
    with pytest.raises(NodeError, match="24x16"):
        predicted([prompt(1.0, area=(8, 8, 40, 0)), prompt(0.0)])


def test_mask_bounds() -> None:
    mask = torch.zeros(1, 20, 30)
    assert mask_bounds(mask) == Area(height=8, width=8, y=0, x=0)
    mask[0, 3:15, 25:29] = 0.5
    assert mask_bounds(mask) == Area(height=12, width=5, y=3, x=25)


def test_time_ranges() -> None:
    sigma = MODEL.times.sigma_at(0.5)
    ranged = [*prompt(1.0, start_percent=0.0, end_percent=0.5), *prompt(5.0, start_percent=0.5)]
    for level, value in ((sigma * 1.01, 1.0), (sigma * 0.99, 5.0)):
        (cond, _), _ = predicted([ranged, prompt(0.0)], level)
        assert (cond == value).all()


def test_texts_of_unequal_length_are_repeated_to_fit() -> None:
    long = [(torch.full((1, 154, 8), 1.0), {})]
    _, echo = predicted([long, prompt(0.0)])
    assert [tuple(b.context.shape) for b in echo.batches] == [(2, 154, 8)]


def test_sdxl_s_vector_holds_pooled_text_and_sizes() -> None:
    pooled = torch.arange(4.0)[None]
    options = {"pooled_output": pooled, "width": 1024, "height": 768, "crop_w": 8}
    numbers = ("height", "width", "crop_h", "crop_w", "target_height", "target_width")
    fields = {"adm_channels": 4 + 6 * 256, "vector": numbers}
    _, echo = predicted([prompt(1.0, **options), prompt(0.0, pooled_output=pooled)], **fields)
    y = echo.batches[0].y
    assert y is not None and y.shape == (2, 4 + 6 * 256)
    assert torch.equal(y[0, :4], pooled[0])
    sizes = y[0, 4:].reshape(6, 256)
    # The first cosine's rate is 1: cos(size).
    wanted = torch.cos(torch.tensor([768.0, 1024, 0, 8, 768, 1024]))
    torch.testing.assert_close(sizes[:, 0], wanted)
    with pytest.raises(NodeError, match="pooled output of 3"):
        predicted([prompt(1.0, pooled_output=torch.zeros(1, 3))], **fields)


@pytest.mark.parametrize("with_mask", [True, False])
def test_inpainting_models_see_mask_and_picture(with_mask: bool) -> None:
    mask = torch.ones(1, 1, 16, 24) if with_mask else None
    latent = torch.full((1, 4, 16, 24), 0.5)
    _, echo = predicted(
        [prompt(1.0), prompt(0.0)], extra_channels=5, latent=latent, noise_mask=mask
    )
    concat = echo.batches[0].concat
    assert concat is not None and concat.shape == (2, 5, 16, 24)
    assert (concat[:, 0] == 1).all()
    assert bool((concat[:, 1:] == 0.5).all()) is with_mask
