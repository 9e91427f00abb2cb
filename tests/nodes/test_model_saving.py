"""Saved models are what was loaded, bit for bit, and what was patched, when they come back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from engine.api.errors import NodeError
from engine.api.recipe import Recipe
from engine.diffusion.checkpoint import CheckpointParts, open_checkpoint, open_vae
from engine.diffusion.keymap import PREFIXES, from_ldm
from engine.diffusion.text import encode
from nodes.loaders import load_checkpoint, load_lora
from nodes.merging import clip_merge_subtract, model_merge_subtract
from nodes.model_patches import freeu
from nodes.model_sampling import model_sampling_discrete
from nodes.model_saving import save_checkpoint, save_clip, save_lora, save_model, save_vae
from nodes.parts import load_clip_pair
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import TINY_METADATA, fill, tiny_keys, write_tiny_lora
from tests.tiny_families import KEYS, write_family

pytestmark = pytest.mark.slow


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return context(tmp_path, prompt={"1": {"class_type": "CheckpointSave"}})


def opened(ctx: Context, family: str) -> tuple[Path, CheckpointParts]:
    path = write_family(ctx.files.base / f"models/checkpoints/{family}.safetensors", family)
    return path, open_checkpoint(path, family, path.name)


def saved_files(ctx: Context) -> list[Path]:
    return sorted((ctx.files.base / "output").rglob("*.safetensors"))


def assert_same_tensors(found: Path, wanted: Path, without: tuple[str, ...] = ()) -> None:
    have, want = load_file(found), load_file(wanted)
    want = {k: v for k, v in want.items() if not k.startswith(without)} if without else want
    assert have.keys() == want.keys()
    for key, value in want.items():
        assert have[key].dtype == value.dtype
        assert torch.equal(have[key], value), key


@pytest.mark.parametrize("family", sorted(KEYS))
def test_a_checkpoint_comes_back_bit_for_bit(family: str, ctx: Context) -> None:
    source, parts = opened(ctx, family)
    save_checkpoint(parts.model, parts.clip, parts.vae, "mixed", ctx=ctx)  # pyright: ignore[reportArgumentType]
    (path,) = saved_files(ctx)
    assert_same_tensors(path, source)
    assert open_checkpoint(path, "again", path.name).model.family == family
    with safe_open(path, "pt") as file:
        told = file.metadata()
    assert "CheckpointSave" in told["prompt"]
    assert told["modelspec.title"] == "mixed"
    assert told["weft.native_size"] == "64"


def test_diffusers_converters_read_a_saved_checkpoint(ctx: Context) -> None:
    _, parts = opened(ctx, "sd1")
    save_checkpoint(parts.model, parts.clip, parts.vae, "mixed", ctx=ctx)  # pyright: ignore[reportArgumentType]
    tensors = load_file(saved_files(ctx)[0])
    config: Any = {
        "layers_per_block": 1, "class_embed_type": None, "addition_embed_type": None,
        "down_block_types": ["", ""], "up_block_types": ["", ""],
    }  # fmt: skip
    unet = convert_ldm_unet_checkpoint(dict(tensors), config)
    assert unet.keys() == from_ldm("denoiser", tensors).keys()
    levels = {"down_block_types": [""] * 4, "up_block_types": [""] * 4}
    assert (
        convert_ldm_vae_checkpoint(dict(tensors), levels).keys() == from_ldm("vae", tensors).keys()
    )
    assert convert_ldm_clip_checkpoint(dict(tensors))


def test_parts_alone_and_the_checkpoint_of_them(ctx: Context) -> None:
    """SDXL's second tower goes to transformers' names and back to OpenCLIP's."""
    source, parts = opened(ctx, "sdxl")
    assert parts.clip is not None
    assert parts.vae is not None
    save_clip(parts.clip, "te", ctx=ctx)
    first, second = saved_files(ctx)
    assert [p.name.split("_0")[0] for p in (first, second)] == ["te_clip_g", "te_clip_l"]
    folder = ctx.files.base / "models/text_encoders"
    folder.mkdir()
    for path, tower in ((first, "g"), (second, "l")):
        metadata = TINY_METADATA | {"weft.text.tower": tower}
        save_file(load_file(path), folder / f"{tower}.safetensors", metadata=metadata)
    clip = load_clip_pair("g.safetensors", "l.safetensors", "sdxl", ctx=ctx)
    with ctx.models.use(clip) as found, ctx.models.use(parts.clip) as wanted:
        assert torch.equal(encode(found, "a boat").embeds, encode(wanted, "a boat").embeds)
    for path in saved_files(ctx):
        path.unlink()
    save_checkpoint(parts.model, clip, parts.vae, "whole", ctx=ctx)
    assert_same_tensors(saved_files(ctx)[0], source)


def test_a_model_alone_and_a_vae_alone(ctx: Context) -> None:
    source, parts = opened(ctx, "sd1")
    assert parts.vae is not None
    save_model(parts.model, "unet", ctx=ctx)
    (path,) = saved_files(ctx)
    assert_same_tensors(path, source, without=(PREFIXES["vae"], PREFIXES["text"]))
    path.unlink()
    save_vae(parts.vae, "vae", ctx=ctx)
    found, whole = load_file(saved_files(ctx)[0]), load_file(source)
    original = {k: v for k, v in whole.items() if k.startswith(PREFIXES["vae"])}
    assert {PREFIXES["vae"] + k for k in found} == original.keys()
    assert all(torch.equal(found[k.removeprefix(PREFIXES["vae"])], v) for k, v in original.items())


def test_a_vae_in_diffusers_names_is_saved_in_the_original_ones(ctx: Context) -> None:
    source, _ = opened(ctx, "sd1")
    prefix = PREFIXES["vae"]
    original = {k: v for k, v in load_file(source).items() if k.startswith(prefix)}
    state = {k: v.contiguous() for k, v in from_ldm("vae", original).items()}
    path = ctx.files.base / "vae.safetensors"
    save_file(state, path, metadata=TINY_METADATA)
    save_vae(open_vae(path, "vae", "vae"), "vae", ctx=ctx)
    found = load_file(saved_files(ctx)[0])
    assert found.keys() == {k.removeprefix(prefix) for k in original}
    assert all(torch.equal(found[k.removeprefix(prefix)], v) for k, v in original.items())


def test_patches_are_in_the_saved_weights_and_hooks_are_told_not_to_be(ctx: Context) -> None:
    folder = ctx.files.base / "models"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "loras").mkdir()
    tensors = fill(tiny_keys(), dtype=torch.float32)
    save_file(tensors, folder / "checkpoints/full.safetensors", metadata=TINY_METADATA)
    write_tiny_lora(folder / "loras/tiny.safetensors")
    model, clip, vae = load_checkpoint("full.safetensors", ctx=ctx)
    model, clip = load_lora(model, clip, "tiny.safetensors", 0.7, 0.4, ctx=ctx)
    hooked = freeu(
        model_sampling_discrete(model, "v_prediction", False), 1.1, 1.2, 0.9, 0.2, ctx=ctx
    )
    save_checkpoint(hooked, clip, vae, "mixed", ctx=ctx)
    assert any("FreeU" in line for line in ctx.lines)
    (path,) = saved_files(ctx)
    again = open_checkpoint(path, "again", path.name)
    assert again.clip is not None
    for have, want in ((again.model, model), (again.clip, clip)):
        base, patched = ctx.models.weights(have), ctx.models.weights(want)
        assert patched.changed
        for name in patched.base.source.sources:
            assert torch.equal(base.value(name), patched.value(name)), name
    with ctx.models.use(again.model) as loaded:
        assert loaded.parameterization_name == "v"


def test_a_text_encoder_of_another_family_has_no_place(ctx: Context) -> None:
    _, sd1 = opened(ctx, "sd1")
    _, sdxl = opened(ctx, "sdxl")
    with pytest.raises(NodeError, match=r"Stable Diffusion XL, but the model is .* 1\.x"):
        save_checkpoint(sd1.model, sdxl.clip, sd1.vae, "mixed", ctx=ctx)  # pyright: ignore[reportArgumentType]


# LoRAs --------------------------------------------------------------------------------------------


def lora_parts(ctx: Context) -> tuple[Recipe, Recipe, Recipe, Recipe]:
    """Model and text encoder of a checkpoint, without and with a LoRA of rank 2."""
    opened(ctx, "sd1")
    write_tiny_lora_file(ctx)
    model, clip, _ = load_checkpoint("sd1.safetensors", ctx=ctx)
    return model, clip, *load_lora(model, clip, "tiny.safetensors", 1.0, 1.0, ctx=ctx)


def write_tiny_lora_file(ctx: Context) -> None:
    folder = ctx.files.base / "models/loras"
    folder.mkdir(parents=True)
    write_tiny_lora(folder / "tiny.safetensors")


@pytest.mark.parametrize("is_subtracted", [True, False])
@pytest.mark.parametrize("kind", ["standard", "full_diff"])
def test_an_extracted_lora_gives_the_patched_model_again(
    kind: str, is_subtracted: bool, ctx: Context
) -> None:
    model, clip, patched, patched_clip = lora_parts(ctx)
    given = (patched, patched_clip)
    if is_subtracted:
        given = (
            model_merge_subtract(patched, model, 1.0),
            clip_merge_subtract(patched_clip, clip, 1.0),
        )
    save_lora("found", 2, kind, True, ctx=ctx, model_diff=given[0], text_encoder_diff=given[1])
    (path,) = saved_files(ctx)
    path.rename(ctx.files.base / "models/loras/found.safetensors")
    found, found_clip = load_lora(model, clip, "found.safetensors", 1.0, 1.0, ctx=ctx)
    for have, want in ((found, patched), (found_clip, patched_clip)):
        have, want = ctx.models.weights(have), ctx.models.weights(want)
        assert have.changed == want.changed
        for name in want.changed:
            torch.testing.assert_close(have.value(name), want.value(name), atol=2e-3, rtol=2e-3)


def test_what_has_no_difference_is_told(ctx: Context) -> None:
    model, _, _, _ = lora_parts(ctx)
    with pytest.raises(NodeError, match="has no changes"):
        save_lora("found", 2, "standard", True, ctx=ctx, model_diff=model)
    with pytest.raises(NodeError, match="two models are equal"):
        same = model_merge_subtract(model, model, 1.0)
        save_lora("found", 2, "standard", True, ctx=ctx, model_diff=same)
    with pytest.raises(NodeError, match="Neither"):
        save_lora("found", 2, "standard", True, ctx=ctx)
