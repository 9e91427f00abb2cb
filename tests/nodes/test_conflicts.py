"""What does not fit together is told with both sides, before anything is sampled."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.api.errors import EngineError, ModelError, NodeError, NotThisFamily
from engine.api.recipe import Recipe
from engine.diffusion.families import FAMILIES
from nodes.conditioning import clip_text_encode
from nodes.controlnet import controlnet_apply_advanced, load_controlnet
from nodes.loaders import load_checkpoint, load_lora
from nodes.sampling import ksampler
from nodes.vae import vae_decode, vae_encode
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import write_tiny_control, write_tiny_lora
from tests.tiny_families import write_family


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    for family in ("sd1", "sdxl"):
        write_family(tmp_path / f"models/checkpoints/{family}.safetensors", family)
    for folder in ("controlnet", "loras"):
        (tmp_path / "models" / folder).mkdir()
    write_tiny_control(tmp_path / "models/controlnet/sd1.safetensors")
    write_tiny_lora(tmp_path / "models/loras/sd1.safetensors")
    return context(tmp_path)


def parts(ctx: Context, family: str) -> tuple[Recipe, Recipe, Recipe]:
    return load_checkpoint(f"{family}.safetensors", ctx=ctx)


def told(ctx: Context, model: Recipe, text: Any, samples: torch.Tensor) -> str:
    """The words of a refusal; nothing may have been sampled before it."""
    latent: Any = {"samples": samples}
    with pytest.raises(EngineError) as caught:
        ksampler(model, 1, 2, 2.0, "euler", "normal", text, text, latent, 1.0, ctx=ctx)
    assert not ctx.reports
    return str(caught.value)


LATENT = torch.ones(1, 4, 8, 8)


def test_a_control_net_of_another_family(ctx: Context) -> None:
    model, clip, _ = parts(ctx, "sdxl")
    text = clip_text_encode("a boat", clip, ctx=ctx)
    control = load_controlnet("sd1.safetensors", ctx=ctx)
    steered, _ = controlnet_apply_advanced(
        text, text, control, torch.rand(1, 64, 64, 3), 1.0, 0.0, 1.0
    )
    words = told(ctx, model, steered, LATENT)
    assert "sd1.safetensors was made for another family" in words
    assert "texts of 16 and has" in words
    assert "texts of 32 and a vector of 1552" in words


def test_a_text_of_another_family(ctx: Context) -> None:
    text = clip_text_encode("a boat", parts(ctx, "sdxl")[1], ctx=ctx)
    assert "[1, 77, 32], but the model expects [batch, tokens, 16]" in told(
        ctx, parts(ctx, "sd1")[0], text, LATENT
    )


def test_a_latent_of_another_kind(ctx: Context) -> None:
    model, clip, vae = parts(ctx, "sd1")
    text = clip_text_encode("a boat", clip, ctx=ctx)
    words = told(ctx, model, text, torch.ones(1, 16, 8, 8))
    assert "[1, 16, 8, 8]" in words
    assert "[batch, 4, height, width]" in words
    with pytest.raises(NodeError, match=r"\[1, 16, 8, 8\], but the VAE expects"):
        vae_decode({"samples": torch.ones(1, 16, 8, 8)}, vae, ctx=ctx)  # pyright: ignore[reportArgumentType]


def test_nan_is_told_where_it_comes_in(ctx: Context) -> None:
    model, clip, vae = parts(ctx, "sd1")
    text = clip_text_encode("a boat", clip, ctx=ctx)
    assert "The latent that came in holds" in told(ctx, model, text, LATENT * math.nan)
    broken = [(embeds * math.inf, options) for embeds, options in text]
    assert "The positive conditioning that came in holds" in told(ctx, model, broken, LATENT)
    with pytest.raises(NodeError, match="The latent that came in holds"):
        vae_decode({"samples": LATENT * math.nan}, vae, ctx=ctx)  # pyright: ignore[reportArgumentType]
    with pytest.raises(NodeError, match="Encoding gave"):
        vae_encode(torch.full((1, 64, 64, 3), math.nan), vae, ctx=ctx)


def test_a_lora_of_another_family_names_both_and_the_share(ctx: Context) -> None:
    model, clip, _ = parts(ctx, "sdxl")
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    lora = {
        f"{key}.lora_up.weight": torch.ones(64, 2),
        f"{key}.lora_down.weight": torch.ones(2, 768),
    }
    save_file(lora, ctx.files.base / "models/loras/other.safetensors")
    with pytest.raises(ModelError) as caught:
        load_lora(model, clip, "other.safetensors", 1.0, 1.0, ctx=ctx)
    for words in ("Stable Diffusion 1.x", "Stable Diffusion XL", "0%"):
        assert words in str(caught.value)


def test_an_unknown_file_says_which_families_were_tried_and_why_not(ctx: Context) -> None:
    save_file({"a": torch.zeros(2)}, ctx.files.base / "models/checkpoints/odd.safetensors")
    with pytest.raises(NotThisFamily) as caught:
        load_checkpoint("odd.safetensors", ctx=ctx)
    for family in FAMILIES:
        assert f"{family.title}: it has" in str(caught.value)
