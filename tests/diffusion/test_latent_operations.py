"""Operations on latents against closed forms."""

from pathlib import Path
from typing import Any

import torch

from engine.diffusion.latent_operations import on_guidance, sharpened, tonemapped
from nodes.latent_operations import (
    latent_apply_operation,
    latent_apply_operation_cfg,
    latent_operation_sharpen,
)
from tests.diffusion.test_sample import run
from tests.nodes.context import context
from tests.nodes.recorded import MODEL, ToyPool, toy_model


def test_sharpening_keeps_flat_latents_and_strengthens_edges() -> None:
    flat = torch.arange(1.0, 5.0).reshape(1, 4, 1, 1).expand(1, 4, 6, 6)
    torch.testing.assert_close(sharpened(9, 1.0, 0.1)(flat), flat, atol=1e-5, rtol=1e-5)
    torch.manual_seed(0)
    rough = torch.randn(1, 4, 16, 16)
    found = sharpened(3, 1.0, 0.5)(rough)
    assert found.std() > rough.std()
    torch.testing.assert_close(sharpened(3, 1.0, 0.0)(rough), rough, atol=1e-5, rtol=1e-5)


def test_tonemapping_is_reinhards_curve_on_the_length_of_each_cell() -> None:
    torch.manual_seed(1)
    latent = torch.randn(2, 4, 8, 8)
    length = latent.norm(dim=1, keepdim=True)
    top = 0.7 * (length.mean((1, 2, 3)) + 5 * length.std((1, 2, 3))).reshape(-1, 1, 1, 1)
    wanted = latent / length * (length / (1 + length / top))
    torch.testing.assert_close(tonemapped(0.7)(latent), wanted, atol=1e-5, rtol=1e-5)


def test_an_operation_on_guidance_changes_the_difference_of_the_prompts() -> None:
    cond, uncond = torch.full((1, 4, 2, 2), 3.0), torch.ones(1, 4, 2, 2)
    values = {"conds_out": [cond, uncond]}
    first, second = on_guidance(lambda x: x * 10).function(values)
    assert torch.equal(first, torch.full_like(cond, 21.0))
    assert second is uncond


def test_nodes_apply_it_to_a_latent_and_at_each_step(tmp_path: Path) -> None:
    latent: Any = {"samples": torch.randn(1, 4, 8, 8), "noise_mask": torch.ones(1, 8, 8)}
    operation = latent_operation_sharpen(3, 1.0, 1.0)
    done = latent_apply_operation(latent, operation)
    assert torch.equal(done["samples"], operation(latent["samples"]))
    assert done.keys() == latent.keys()
    ctx = context(tmp_path, models=ToyPool())
    plain = run(ctx).samples
    same = run(ctx, latent_apply_operation_cfg(toy_model(MODEL), lambda x: x)).samples
    torch.testing.assert_close(same, plain)
    changed = run(ctx, latent_apply_operation_cfg(toy_model(MODEL), lambda x: x * 2)).samples
    assert not torch.allclose(changed, plain)
