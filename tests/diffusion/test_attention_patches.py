"""HyperTile, token merging and guidance by a worse prediction, by closed form on a tiny network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.api.recipe import Hook, Recipe
from engine.diffusion.attention_guidance import (
    SelfAttentionGuidance,
    blurred,
    perturbed_attention,
)
from engine.diffusion.attention_patches import (
    Grid,
    HyperTile,
    ReducedAttention,
    TokenMerging,
    scaled_attention,
    token_grid,
)
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.guidance import (
    Guidance,
    epsilon_scaling,
    perp_neg_hook,
    perpendicular,
    zero_star,
)
from engine.diffusion.noise import RandomNoise
from engine.diffusion.noising import with_noise
from engine.diffusion.sample import sample
from engine.diffusion.samplers import SamplerChoice
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import write_tiny_checkpoint

SIGMAS = torch.tensor([5.0, 0.0])  # one Euler step: the result is the prediction


def extra(height: int = 4, width: int = 6, **more: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    return {"original_shape": (1, 4, height, width), "generator": generator, **more}


def test_grids_of_odd_sizes() -> None:
    assert token_grid(extra(5, 7), 35) == Grid(rows=5, columns=7, depth=0)
    assert token_grid(extra(5, 7), 12) == Grid(rows=3, columns=4, depth=1)
    assert token_grid(extra(5, 7), 36) is None


@pytest.mark.parametrize("swaps", [1, 3])
def test_tiles_come_back_to_their_places(swaps: int) -> None:
    tile = HyperTile(tile=2, swaps=swaps, max_depth=0, is_scaled=False)
    attention, q = ReducedAttention(tile), torch.randn(2, 24, 5)
    reduced, k, _ = attention.before(q, q, q, extra())
    assert reduced.shape == k.shape and reduced.numel() == q.numel() and len(reduced) > 2
    assert torch.equal(k.flatten(), q.flatten())
    assert torch.equal(attention.after(reduced, extra()), q)


def test_tiles_are_for_shallow_blocks_and_large_pictures() -> None:
    tile = HyperTile(tile=2, swaps=1, max_depth=0, is_scaled=False)
    assert tile(torch.randn(1, 6, 5), extra()) is None
    whole = HyperTile(tile=9, swaps=1, max_depth=0, is_scaled=False)
    assert whole(torch.randn(1, 24, 5), extra()) is None


def test_equal_tokens_merge_without_loss() -> None:
    q = torch.randn(1, 1, 5).expand(1, 24, 5).contiguous()
    attention = ReducedAttention(TokenMerging(ratio=0.5))
    reduced, k, v = attention.before(q, q, q, extra())
    assert reduced.shape == (1, 12, 5) and k.shape == v.shape == q.shape
    torch.testing.assert_close(attention.after(reduced, extra()), q)


def test_merging_averages_and_leaves_the_rest() -> None:
    q = torch.randn(2, 24, 5)
    attention = ReducedAttention(TokenMerging(ratio=0.25))
    reduced, _, _ = attention.before(q, q, q, extra())
    back = attention.after(reduced, extra())
    assert reduced.shape == (2, 18, 5) and back.shape == q.shape
    same = (back == q).all(-1).sum(1)
    assert ((same >= 24 - 2 * 6) & (same <= 24 - 6)).all()


def test_blurring_keeps_what_is_flat() -> None:
    flat = torch.full((1, 4, 3, 12), 0.7)
    torch.testing.assert_close(blurred(flat, 2.0), flat)
    peak = torch.zeros(1, 1, 9, 9)
    peak[..., 4, 4] = 1.0
    assert float(blurred(peak, 1.0)[0, 0, 4, 4]) == pytest.approx(0.1592, abs=1e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path: Path = tmp_path_factory.mktemp("patches") / "tiny.safetensors"
    return open_checkpoint(write_tiny_checkpoint(path), "tiny", "tiny").model


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return context(tmp_path_factory.mktemp("run"))


def text(value: float) -> Any:
    generator = torch.Generator().manual_seed(int(value * 10))
    return [(torch.randn(1, 77, 16, generator=generator), {})]


def predicted(ctx: Context, model: Recipe, cfg: float = 3.0, *, plain: bool = False) -> Tensor:
    """What the guided model sees in noise of its first sigma."""
    groups = (text(1),) if plain else (text(1), text(2))
    guidance = Guidance(model=model, groups=groups, cfg=cfg)
    latent: Any = {"samples": torch.zeros(1, 4, 12, 16)}
    return sample(
        ctx, guidance, SamplerChoice(name="euler"), SIGMAS, latent, RandomNoise(5)
    ).samples


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_perturbed_attention_is_added_to_the_guidance(
    ctx: Context, base: Recipe, cfg: float
) -> None:
    stop = Hook(slot="attn1_replace/middle/0", function=lambda q, k, v, extra: v)
    cond, worse = predicted(ctx, base, 1.0), predicted(ctx, base.with_hook(stop), 1.0)
    found = predicted(ctx, base.with_hook(perturbed_attention(2.0)), cfg)
    assert not torch.equal(cond, worse)
    wanted = predicted(ctx, base, cfg) + (cond - worse) * 2.0
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


def test_self_attention_guidance_needs_a_scale_and_a_blur(ctx: Context, base: Recipe) -> None:
    plain = predicted(ctx, base)

    def guided(scale: float, blur: float) -> Tensor:
        watch, guide = SelfAttentionGuidance(scale, blur).hooks()
        return predicted(ctx, base.with_hook(watch).with_hook(guide))

    torch.testing.assert_close(guided(0.0, 2.0), plain, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(guided(1.0, 2.0), plain, atol=1e-2)
    once, twice = guided(1.0, 2.0) - plain, guided(2.0, 2.0) - plain
    torch.testing.assert_close(twice, once * 2, rtol=1e-4, atol=1e-3)


def test_perp_neg_on_a_model_is_its_guider(ctx: Context, base: Recipe) -> None:
    groups = (text(1), text(2), text(3))
    guider = Guidance(model=base, groups=groups, cfg=3.0, combine=perpendicular(3.0, 0.5))
    latent: Any = {"samples": torch.zeros(1, 4, 12, 16)}
    wanted = sample(ctx, guider, SamplerChoice(name="euler"), SIGMAS, latent, RandomNoise(5))
    model = base.with_hook(perp_neg_hook(text(3), 0.5))
    torch.testing.assert_close(predicted(ctx, model), wanted.samples, rtol=1e-4, atol=1e-3)
    assert torch.equal(predicted(ctx, model, plain=True), predicted(ctx, base, plain=True))


def test_scaled_noise(ctx: Context, base: Recipe) -> None:
    latent: Any = {"samples": torch.zeros(1, 4, 12, 16)}
    plain, scaled = predicted(ctx, base), predicted(ctx, base.with_hook(epsilon_scaling(1.25)))
    x = RandomNoise(5).generate_noise(latent) * 5.0 / 0.18215
    torch.testing.assert_close(scaled, x - (x - plain) / 1.25, rtol=1e-4, atol=1e-3)


def test_attention_times_nothing_is_its_bias_times_nothing(ctx: Context, base: Recipe) -> None:
    def scaled(*factors: float) -> Recipe:
        before, after = scaled_attention("attn2", *factors)
        return base.with_hook(before).with_hook(after)

    plain = predicted(ctx, base)
    torch.testing.assert_close(predicted(ctx, scaled(1, 1, 1, 1)), plain, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(predicted(ctx, scaled(1, 1, 1, 0)), plain, atol=1e-2)
    # Softmax sees queries times keys: only their product counts.
    a, b = predicted(ctx, scaled(4, 0.5, 1, 1)), predicted(ctx, scaled(0.5, 4, 1, 1))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_zero_star_starts_from_the_projection() -> None:
    uncond = torch.randn(2, 4, 3, 3)
    values = {"cond": uncond * 2.0, "uncond": uncond, "cond_scale": 7.0}
    torch.testing.assert_close(zero_star(values), uncond * 2.0)
    apart = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    apart[0][0, 0], apart[1][0, 1] = 1.0, 1.0
    values = {"cond": apart[0], "uncond": apart[1], "cond_scale": 7.0}
    torch.testing.assert_close(zero_star(values), apart[0] * 7.0)


def test_added_noise_is_what_a_sampler_starts_with(ctx: Context, base: Recipe) -> None:
    latent: Any = {"samples": torch.randn(1, 4, 12, 16), "batch_index": [3]}
    noise = RandomNoise(9).generate_noise(latent)
    found = with_noise(ctx, base, RandomNoise(9), torch.tensor([5.0, 2.0]), latent)
    torch.testing.assert_close(found["samples"], latent["samples"] + noise * 3.0 / 0.18215)
    alone = with_noise(ctx, base, RandomNoise(9), torch.tensor([2.0]), latent)
    torch.testing.assert_close(alone["samples"], latent["samples"] + noise * 2.0 / 0.18215)
    assert with_noise(ctx, base, RandomNoise(9), torch.zeros(0), latent) is latent
