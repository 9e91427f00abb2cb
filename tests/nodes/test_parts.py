"""Parts alone and diffusers' folders give what the whole checkpoint, or the library, gives."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from engine.api.errors import ModelError, NotThisFamily
from engine.api.recipe import Recipe
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.keymap import PREFIXES, from_ldm
from engine.diffusion.text import Encoded, encode
from engine.diffusion.vae import decode
from engine.text.tokenizer import load_tokenizer
from nodes.further_loaders import load_unet
from nodes.parts import (
    load_checkpoint_with_config,
    load_clip,
    load_clip_pair,
    load_diffusers,
)
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import TINY_METADATA
from tests.tiny_families import write_family

pytestmark = pytest.mark.slow

SD1 = PREFIXES["text"]
SDXL_L, SDXL_G = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    for folder in ("text_encoders", "diffusion_models", "configs", "diffusers"):
        (tmp_path / "models" / folder).mkdir(parents=True)
    return context(tmp_path)


def checkpoint(ctx: Context, family: str) -> Path:
    return write_family(ctx.files.base / f"models/checkpoints/{family}.safetensors", family)


def write_part(path: Path, source: Path, prefix: str, tower: str = "") -> None:
    """The tensors under a prefix of a checkpoint, as a file of their own."""
    tensors = load_file(source)
    part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    save_file(part, path, metadata=TINY_METADATA | ({"weft.text.tower": tower} if tower else {}))


def encoded(ctx: Context, clip: Recipe) -> Encoded:
    with ctx.models.use(clip) as text:
        return encode(text, "a (red:1.2) boat")


def assert_same_text(ctx: Context, found: Recipe, source: Path) -> None:
    whole = open_checkpoint(source, "whole", "whole").clip
    assert whole is not None
    have, want = encoded(ctx, found), encoded(ctx, whole)
    assert torch.equal(have.embeds, want.embeds)
    assert torch.equal(have.pooled, want.pooled)


def predicted(ctx: Context, model: Recipe) -> torch.Tensor:
    torch.manual_seed(0)
    with ctx.models.use(model) as loaded:
        text = torch.randn(1, 77, loaded.context_dim)
        return loaded.predict(torch.randn(1, 4, 8, 8), torch.tensor([300.0]), text)


@pytest.mark.parametrize(
    ("family", "prefix", "tower"),
    [("sd1", SD1, "l"), ("sd2", "cond_stage_model.model.", "h"),
     ("sdxl_refiner", "conditioner.embedders.0.model.", "g")],
)  # fmt: skip
def test_a_text_encoder_alone_is_that_of_its_checkpoint(
    family: str, prefix: str, tower: str, ctx: Context
) -> None:
    source = checkpoint(ctx, family)
    write_part(ctx.files.base / "models/text_encoders/te.safetensors", source, prefix, tower)
    clip = load_clip("te.safetensors", "stable_diffusion", ctx=ctx)
    assert clip.family == family
    assert_same_text(ctx, clip, source)


@pytest.mark.parametrize("is_turned", [False, True])
def test_two_text_encoders_in_any_order_are_those_of_sdxl(is_turned: bool, ctx: Context) -> None:
    source = checkpoint(ctx, "sdxl")
    folder = ctx.files.base / "models/text_encoders"
    write_part(folder / "l.safetensors", source, SDXL_L, "l")
    write_part(folder / "g.safetensors", source, SDXL_G, "g")
    names = ["g.safetensors", "l.safetensors"]
    first, second = reversed(names) if is_turned else names
    clip = load_clip_pair(first, second, "sdxl", ctx=ctx)
    assert_same_text(ctx, clip, source)
    assert load_clip_pair(first, second, "sdxl", ctx=ctx, device="cpu").option("device") == "cpu"
    with pytest.raises(NotThisFamily, match=r"CLIP-L.*CLIP-L"):
        load_clip_pair("l.safetensors", "l.safetensors", "sdxl", ctx=ctx)


def test_a_checkpoint_may_stand_for_its_text_encoder(ctx: Context) -> None:
    source = checkpoint(ctx, "sd1")
    (ctx.files.base / "models/text_encoders/whole.safetensors").symlink_to(source)
    assert_same_text(ctx, load_clip("whole.safetensors", "stable_diffusion", ctx=ctx), source)


def test_other_files_are_refused_with_what_was_looked_for(ctx: Context) -> None:
    folder = ctx.files.base / "models/text_encoders"
    save_file({"a": torch.zeros(2)}, folder / "odd.safetensors")
    with pytest.raises(NotThisFamily, match=r"odd\.safetensors holds no text encoder"):
        load_clip("odd.safetensors", "stable_diffusion", ctx=ctx)
    write_part(folder / "narrow.safetensors", checkpoint(ctx, "sd1"), SD1)
    with pytest.raises(NotThisFamily, match="width 16; known are 768, 1024, 1280"):
        load_clip("narrow.safetensors", "stable_diffusion", ctx=ctx)


@pytest.mark.parametrize("family", ["sd1", "sd2"])
@pytest.mark.parametrize("layout", ["bare", "prefixed", "diffusers"])
def test_a_diffusion_model_alone_is_that_of_its_checkpoint(
    layout: str, family: str, ctx: Context
) -> None:
    source = checkpoint(ctx, family)
    prefix = PREFIXES["denoiser"]
    tensors = {k: v for k, v in load_file(source).items() if k.startswith(prefix)}
    if layout == "bare":
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    elif layout == "diffusers":
        tensors = {k: v.contiguous() for k, v in from_ldm("denoiser", tensors).items()}
    path = ctx.files.base / "models/diffusion_models/unet.safetensors"
    save_file(tensors, path, metadata=TINY_METADATA)
    model = load_unet("unet.safetensors", "default", ctx=ctx)
    whole = open_checkpoint(source, "whole", "whole").model
    assert model.family == family
    assert torch.equal(predicted(ctx, model), predicted(ctx, whole))


# Folders ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion 1.x model as diffusers and transformers themselves write it."""
    torch.manual_seed(3)
    root = tmp_path_factory.mktemp("models") / "boat"
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
    )
    unet.save_pretrained(root / "unet")
    levels: dict[str, Any] = {
        "block_out_channels": (32, 32, 32, 64),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    AutoencoderKL(**levels).save_pretrained(root / "vae")
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=1,
    )
    CLIPTextModel(config).save_pretrained(root / "text_encoder")
    (root / "scheduler").mkdir()
    (root / "scheduler/scheduler_config.json").write_text('{"prediction_type": "v_prediction"}')
    (root / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return root


def test_a_folder_of_diffusers_is_what_the_libraries_compute(ctx: Context, folder: Path) -> None:
    (ctx.files.base / "models/diffusers/boat").symlink_to(folder)
    model, clip, vae = load_diffusers("boat", ctx=ctx)
    assert (model.family, model.option("prediction")) == ("sd1", "v")
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    torch.manual_seed(0)
    text, x = torch.randn(1, 77, 64), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        wanted = unet(x, torch.tensor([300.0]), text, return_dict=False)[0]
        tower = CLIPTextModel.from_pretrained(folder / "text_encoder")
        numbers = [49406, *load_tokenizer().encode("a boat"), 49407]
        ids = torch.tensor([numbers + [49407] * (77 - len(numbers))])
        embeds = tower(ids).last_hidden_state
        autoencoder: Any = AutoencoderKL.from_pretrained(folder / "vae")
        pictures = autoencoder.decode(x).sample
    torch.testing.assert_close(predicted(ctx, model), wanted, atol=1e-5, rtol=1e-5)
    with ctx.models.use(clip) as loaded:
        torch.testing.assert_close(encode(loaded, "a boat").embeds, embeds, atol=1e-5, rtol=1e-5)
    with ctx.models.use(vae) as loaded:
        shown = (pictures / 2 + 0.5).clamp(0, 1).movedim(1, -1)
        torch.testing.assert_close(decode(loaded, x), shown, atol=1e-5, rtol=1e-5)


def test_a_folder_without_weights_is_named(ctx: Context) -> None:
    root = ctx.files.base / "models/diffusers/empty"
    (root / "unet").mkdir(parents=True)
    (root / "model_index.json").write_text("{}")
    with pytest.raises(ModelError, match="empty/unet holds no weights"):
        load_diffusers("empty", ctx=ctx)


# Configurations -----------------------------------------------------------------------------------

CONFIG = """
model:
  params:
    parameterization: {kind}
    unet_config: {{params: {{in_channels: {channels}, context_dim: 16}}}}
"""


def test_a_configuration_says_how_a_checkpoint_predicts(ctx: Context) -> None:
    checkpoint(ctx, "sd1")
    configs = ctx.files.base / "models/configs"
    (configs / "v.yaml").write_text(CONFIG.format(kind="v", channels=4))
    (configs / "nine.yaml").write_text(CONFIG.format(kind="eps", channels=9))
    (configs / "odd.yaml").write_text("[1, 2]")
    model, *_ = load_checkpoint_with_config("v.yaml", "sd1.safetensors", ctx=ctx)
    with ctx.models.use(model) as loaded:
        assert loaded.parameterization_name == "v"
    with pytest.raises(NotThisFamily, match=r"in_channels 9, but sd1\.safetensors has 4"):
        load_checkpoint_with_config("nine.yaml", "sd1.safetensors", ctx=ctx)
    with pytest.raises(ModelError, match=r"odd\.yaml is no configuration"):
        load_checkpoint_with_config("odd.yaml", "sd1.safetensors", ctx=ctx)
