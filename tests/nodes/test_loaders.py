"""Loader nodes, on tiny files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.api.errors import MissingModel, ModelError, NodeError
from nodes.conditioning import clip_set_last_layer, clip_text_encode
from nodes.further_loaders import load_image_only_checkpoint, load_unet
from nodes.loaders import (
    load_checkpoint,
    load_lora,
    load_lora_model_only,
    load_loras_from_text,
    load_vae,
)
from nodes.merging import model_merge_simple
from nodes.vae import vae_decode, vae_encode
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import write_tiny_checkpoint


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    write_tiny_checkpoint(tmp_path / "models/checkpoints/tiny.safetensors")
    for folder in ("vae", "diffusion_models"):
        write_tiny_checkpoint(tmp_path / f"models/{folder}/tiny.safetensors")
    loras = tmp_path / "models/loras"
    loras.mkdir(parents=True)
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    lora = {
        f"{key}.lora_up.weight": torch.ones(64, 2),
        f"{key}.lora_down.weight": torch.ones(2, 64),
    }
    save_file(lora, loras / "tiny.safetensors")
    return context(tmp_path)


def test_a_checkpoint_gives_three_recipes(ctx: Context) -> None:
    model, clip, vae = load_checkpoint("tiny.safetensors", ctx=ctx)
    assert [p.part for p in (model, clip, vae)] == ["denoiser", "text", "vae"]
    assert load_unet("tiny.safetensors", "default", ctx=ctx).part == "denoiser"
    assert load_vae("tiny.safetensors", ctx=ctx).part == "vae"


def test_a_missing_file_is_named(ctx: Context) -> None:
    with pytest.raises(MissingModel, match="other"):
        load_checkpoint("other.safetensors", ctx=ctx)


def test_a_damaged_file_is_named(ctx: Context) -> None:
    path = ctx.files.base / "models/checkpoints/cut.safetensors"
    path.write_bytes((ctx.files.base / "models/checkpoints/tiny.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelError, match="cut"):
        load_checkpoint("cut.safetensors", ctx=ctx)


def test_a_lora_is_a_patch_at_its_strength(ctx: Context) -> None:
    model, clip, _ = load_checkpoint("tiny.safetensors", ctx=ctx)
    changed, same = load_lora(model, clip, "tiny.safetensors", 0.5, 0.0, ctx=ctx)
    assert [p.strength for p in changed.patches] == [0.5]
    assert same is clip and not model.patches
    assert load_lora_model_only(model, "tiny.safetensors", 0.5, ctx=ctx) == changed


def test_tags_in_a_text_are_loras_and_the_text_is_left(ctx: Context) -> None:
    model, clip, _ = load_checkpoint("tiny.safetensors", ctx=ctx)
    text = "a boat <lora:tiny:0:0.5>, sea <lora:tiny:0.25>"
    changed, changed_clip, left = load_loras_from_text(model, clip, text, ctx=ctx)
    once, clip_once = load_lora(model, clip, "tiny.safetensors", 0.5, 0.0, ctx=ctx)
    twice = load_lora(once, clip_once, "tiny.safetensors", 0.25, 0.25, ctx=ctx)
    assert (changed, changed_clip, left) == (*twice, "a boat, sea")
    assert load_loras_from_text(model, clip, "a boat", ctx=ctx) == (model, clip, "a boat")


def test_a_tag_without_a_file_is_named(ctx: Context) -> None:
    model, clip, _ = load_checkpoint("tiny.safetensors", ctx=ctx)
    with pytest.raises(MissingModel, match=r"no file ink\.safetensors"):
        load_loras_from_text(model, clip, "<lora:ink:1>", ctx=ctx)


def test_clip_skip_and_merges_change_recipes_only(ctx: Context) -> None:
    model, clip, _ = load_checkpoint("tiny.safetensors", ctx=ctx)
    assert clip_set_last_layer(clip, -2).option("clip_skip") == -2
    assert model_merge_simple(model, model, 0.4).patches[0].other == model
    first = clip_text_encode("a boat", clip, ctx=ctx)
    second = clip_text_encode("a boat", clip_set_last_layer(clip, -2), ctx=ctx)
    assert first[0][0].shape == second[0][0].shape == (1, 77, 16)
    assert not torch.equal(first[0][0], second[0][0])


def test_a_missing_part_is_named(ctx: Context) -> None:
    absent = None
    with pytest.raises(NodeError, match="clip input is empty"):
        clip_text_encode("a", absent, ctx=ctx)  # pyright: ignore[reportArgumentType]
    with pytest.raises(NodeError, match="vae input is empty"):
        vae_encode(torch.zeros(1, 64, 64, 3), absent, ctx=ctx)  # pyright: ignore[reportArgumentType]


def test_a_latent_of_another_model_is_refused_by_the_vae(ctx: Context) -> None:
    vae = load_vae("tiny.safetensors", ctx=ctx)
    with pytest.raises(NodeError, match=r"\[1, 16, 8, 8\].*4"):
        vae_decode({"samples": torch.zeros(1, 16, 8, 8)}, vae, ctx=ctx)


def test_kinds_that_cannot_be_used_say_so(ctx: Context) -> None:
    with pytest.raises(NodeError, match="no picture-to-video models"):
        load_image_only_checkpoint("tiny.safetensors", ctx=ctx)
