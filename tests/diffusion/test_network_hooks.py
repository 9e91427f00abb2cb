"""Hooks act inside the network, at the right places, and leave nothing behind."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.api.recipe import Hook, Recipe
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.network_hooks import attention
from engine.diffusion.residency import ModelPool
from tests.tiny_checkpoint import write_tiny_checkpoint

X, TIME, CONTEXT = torch.randn(1, 4, 8, 8), torch.tensor([300.0]), torch.randn(1, 77, 16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path: Path = tmp_path_factory.mktemp("hooks") / "tiny.safetensors"
    return open_checkpoint(write_tiny_checkpoint(path), "tiny", "tiny").model


@pytest.fixture(scope="module")
def pool() -> ModelPool:
    return ModelPool()


def predict(pool: ModelPool, recipe: Recipe, options: dict[str, Any] | None = None) -> Tensor:
    with pool.use(recipe) as denoiser:
        return denoiser.predict(X, TIME, CONTEXT, options=options)


class Seen(list[Any]):
    """Notes the block of each call and changes nothing."""

    def patch(self, q: Tensor, k: Tensor, v: Tensor, extra: Any) -> tuple[Tensor, ...]:
        self.append((extra["block"], tuple(k.shape)))
        return q, k, v

    def replace(self, q: Tensor, k: Tensor, v: Tensor, extra: Any) -> Tensor:
        self.append((extra["block"], extra["n_heads"], extra["dim_head"]))
        return attention(q, k, v, extra["n_heads"])

    def out(self, out: Tensor, extra: Any) -> Tensor:
        self.append(extra["block"])
        return out

    def pair(self, h: Tensor, skip: Tensor, options: Any) -> tuple[Tensor, Tensor]:
        self.append((options["block"], h.shape[1], skip.shape[1]))
        return h, skip


def test_hooks_that_change_nothing_change_nothing(model: Recipe, pool: ModelPool):
    plain = predict(pool, model)
    for slot, name in (
        ("attn1_patch", "patch"),
        ("attn2_patch", "patch"),
        ("attn1_replace/middle/0", "replace"),
        ("attn2_replace/input/1/0", "replace"),
        ("attn1_output_patch", "out"),
        ("input_block_patch", "out"),
        ("input_block_patch_after_skip", "out"),
        ("output_block_patch", "pair"),
    ):
        seen = Seen()
        found = predict(pool, model.with_hook(Hook(slot=slot, function=getattr(seen, name))))
        torch.testing.assert_close(found, plain, msg=slot)
        assert seen, slot


def test_blocks_are_numbered_as_in_the_original_layout(model: Recipe, pool: ModelPool):
    seen = Seen()
    predict(pool, model.with_hook(Hook(slot="attn2_patch", function=seen.patch)))
    blocks = [("input", 1), ("input", 3), ("middle", 0), *(("output", n) for n in range(4))]
    assert seen == [(block, (1, 77, 16)) for block in blocks]
    seen = Seen()
    predict(pool, model.with_hook(Hook(slot="output_block_patch", function=seen.pair)))
    assert seen == [
        (("output", 0), 64, 64),
        (("output", 1), 64, 32),
        (("output", 2), 64, 32),
        (("output", 3), 32, 32),
    ]
    for slot in ("input_block_patch", "input_block_patch_after_skip"):
        seen = Seen()
        predict(pool, model.with_hook(Hook(slot=slot, function=seen.out)))
        assert seen == [("input", n) for n in range(4)]


def test_a_hook_acts_only_for_its_recipe_and_place(model: Recipe, pool: ModelPool):
    plain = predict(pool, model)
    hook = Hook(slot="attn1_replace/middle/0", function=lambda q, k, v, extra: v)
    changed = predict(pool, model.with_hook(hook))
    assert not torch.equal(changed, plain)
    assert torch.equal(predict(pool, model), plain)
    elsewhere = Hook(slot="attn1_replace/middle/7", function=lambda q, k, v, extra: v)
    torch.testing.assert_close(predict(pool, model.with_hook(elsewhere)), plain)


def test_input_hooks_differ_by_the_skip_connection(model: Recipe, pool: ModelPool):
    def stop(h: Tensor, options: Any) -> Tensor:
        return h * 0 if options["block"] == ("input", 3) else h

    before = predict(pool, model.with_hook(Hook(slot="input_block_patch", function=stop)))
    after = predict(pool, model.with_hook(Hook(slot="input_block_patch_after_skip", function=stop)))
    assert not torch.equal(before, after)


def test_options_reach_the_hook_and_errors_leave_nothing_behind(model: Recipe, pool: ModelPool):
    plain = predict(pool, model)

    def fail(out: Tensor, extra: Any) -> Tensor:
        assert extra["sigmas"] == 3
        assert extra["original_shape"] == (1, 4, 8, 8)
        raise RuntimeError("from a hook")

    recipe = model.with_hook(Hook(slot="attn1_output_patch", function=fail))
    with pytest.raises(RuntimeError, match="from a hook"):
        predict(pool, recipe, {"sigmas": 3})
    assert torch.equal(predict(pool, model), plain)
