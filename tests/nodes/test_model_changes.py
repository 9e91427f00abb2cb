"""Nodes that change models inside: attention, Deep Shrink, number types, compiling, controls."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.api.errors import NodeError
from engine.api.recipe import Recipe
from engine.diffusion.compiling import compiled
from engine.diffusion.text import encode
from nodes.conditioning import clip_text_encode, clip_text_encode_controlnet
from nodes.controlnet import (
    controlnet_apply_advanced,
    load_controlnet,
    load_controlnet_difference,
)
from nodes.latent import empty_latent_image
from nodes.loaders import load_checkpoint
from nodes.model_patches import (
    clip_attention_multiply,
    model_compute_dtype,
    patch_model_add_downscale,
    torch_compile_model,
    unet_self_attention_multiply,
    unet_temporal_attention_multiply,
)
from nodes.sampling import ksampler
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import TINY_METADATA, write_tiny_checkpoint, write_tiny_control

pytestmark = pytest.mark.slow


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    write_tiny_checkpoint(tmp_path / "models/checkpoints/tiny.safetensors")
    (tmp_path / "models/controlnet").mkdir(parents=True)
    write_tiny_control(tmp_path / "models/controlnet/whole.safetensors", seed=5)
    return context(tmp_path)


@pytest.fixture
def parts(ctx: Context) -> tuple[Recipe, Recipe, Recipe]:
    return load_checkpoint("tiny.safetensors", ctx=ctx)


def sampled(
    ctx: Context, model: Recipe, text: Any, side: int = 64, negative: Any = None
) -> torch.Tensor:
    latent = empty_latent_image(side, side, 1)
    settings: Any = (1, 2, 2.0, "euler", "normal", text, negative or text, latent, 1.0)
    return ksampler(model, *settings, ctx=ctx)["samples"]


def test_text_attention_is_multiplied_layer_by_layer(ctx: Context, parts: Any) -> None:
    clip = parts[1]
    with ctx.models.use(clip) as loaded:
        plain = encode(loaded, "a boat").embeds
    changed = clip_attention_multiply(clip, 1.0, 0.5, 1.0, 3.0)
    with ctx.models.use(changed) as loaded:
        assert not torch.allclose(encode(loaded, "a boat").embeds, plain)
        attention = loaded.towers["l"].model.encoder.layers[1].self_attn
    with ctx.models.use(clip) as loaded:
        own = loaded.towers["l"].model.encoder.layers[1].self_attn
        assert torch.equal(encode(loaded, "a boat").embeds, plain)
    for name, factor in (("q_proj", 1.0), ("k_proj", 0.5), ("v_proj", 1.0), ("out_proj", 3.0)):
        for kind in ("weight", "bias"):
            have, base = (getattr(getattr(a, name), kind) for a in (attention, own))
            torch.testing.assert_close(have, (base.float() * factor).to(base.dtype))


def test_structural_factors_are_those_of_attention_in_a_picture(ctx: Context, parts: Any) -> None:
    text = clip_text_encode("a boat", parts[1], ctx=ctx)
    found = unet_temporal_attention_multiply(parts[0], 0.5, 9.0, 1.0, 9.0)
    wanted = unet_self_attention_multiply(parts[0], 1.0, 1.0, 1.0, 0.5)
    assert torch.equal(sampled(ctx, found, text), sampled(ctx, wanted, text))


@pytest.mark.parametrize("is_after_skip", [True, False])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_deep_shrink_works_inside_at_any_block_and_size(
    block: int, is_after_skip: bool, ctx: Context, parts: Any
) -> None:
    model, clip, _ = parts
    text = clip_text_encode("a boat", clip, ctx=ctx)
    plain = sampled(ctx, model, text, side=72)

    def shrunk(factor: float, end: float) -> torch.Tensor:
        methods: Any = ("bicubic", "bicubic")
        changed = patch_model_add_downscale(
            model, block, factor, 0.0, end, is_after_skip, *methods, ctx=ctx
        )
        return sampled(ctx, changed, text, side=72)

    found = shrunk(2.0, 1.0)
    assert found.shape == plain.shape
    assert not torch.allclose(found, plain)
    torch.testing.assert_close(shrunk(1.0, 1.0), plain, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(shrunk(2.0, 0.0), plain, atol=1e-4, rtol=1e-4)


def test_a_model_computes_in_the_type_it_was_told(ctx: Context, parts: Any) -> None:
    model, clip, _ = parts
    text = clip_text_encode("a boat", clip, ctx=ctx)
    plain = sampled(ctx, model, text)
    half = model_compute_dtype(model, "bf16")
    with ctx.models.use(half) as loaded, ctx.models.use(model) as own:
        assert (loaded.dtype, own.dtype) == (torch.bfloat16, torch.float32)
    found = sampled(ctx, half, text)
    assert not torch.equal(found, plain)
    assert (found - plain).norm() < 0.2 * plain.norm()
    assert torch.equal(sampled(ctx, model_compute_dtype(half, "default"), text), plain)


def test_a_compiled_network_is_called_with_all_its_weights(ctx: Context, parts: Any) -> None:
    """Compiling the tiny model takes long; `eager` stands for a backend on one layer."""
    model, clip, _ = parts
    with ctx.models.use(model.with_option("compile", "eager")) as loaded:
        assert loaded.compiled is not None
        assert not any(p.is_meta for p in loaded.unet.parameters())
    layer, x = torch.nn.Linear(3, 2), torch.randn(4, 3)
    with torch.no_grad():
        assert torch.equal(compiled(layer, "eager", torch.device("cpu"))(x), layer(x))
    text = clip_text_encode("a boat", clip, ctx=ctx)
    with pytest.raises(NodeError, match="cudagraphs needs an NVIDIA GPU"):
        sampled(ctx, torch_compile_model(model, "cudagraphs"), text)


def test_a_control_difference_and_its_model_are_the_whole_control(ctx: Context, parts: Any) -> None:
    model, clip, _ = parts
    folder = ctx.files.base / "models/controlnet"
    base = load_file(ctx.files.base / "models/checkpoints/tiny.safetensors")
    whole = {k: v.float() for k, v in load_file(folder / "whole.safetensors").items()}
    less = {
        key: value - base[found].float()
        if (found := key.replace("control_model.", "model.diffusion_model.")) in base
        else value
        for key, value in whole.items()
    }
    less["difference"] = torch.zeros(1)
    save_file(less, folder / "less.safetensors", metadata=TINY_METADATA)
    text, image = clip_text_encode("a boat", clip, ctx=ctx), torch.rand(1, 64, 64, 3)

    def steered(control: Recipe) -> torch.Tensor:
        both = controlnet_apply_advanced(text, text, control, image, 1.0, 0.0, 1.0)
        return sampled(ctx, model, both[0], negative=both[1])

    wanted = steered(load_controlnet("whole.safetensors", ctx=ctx))
    found = steered(load_controlnet_difference(model, "less.safetensors", ctx=ctx))
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
    whole_one = load_controlnet_difference(model, "whole.safetensors", ctx=ctx)
    assert torch.equal(steered(whole_one), wanted)


def test_a_control_may_read_a_text_of_its_own(ctx: Context, parts: Any) -> None:
    model, clip, _ = parts
    control = load_controlnet("whole.safetensors", ctx=ctx)
    text, image = clip_text_encode("a boat", clip, ctx=ctx), torch.rand(1, 64, 64, 3)

    def steered(told: str | None) -> torch.Tensor:
        own = clip_text_encode_controlnet(clip, text, told, ctx=ctx) if told else text
        both = controlnet_apply_advanced(own, own, control, image, 1.0, 0.0, 1.0)
        return sampled(ctx, model, both[0], negative=both[1])

    assert torch.equal(steered("a boat"), steered(None))
    assert not torch.allclose(steered("a red house"), steered(None))
