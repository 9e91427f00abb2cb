"""Style models: the network against its formula, and a picture that goes on with its words."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import layer_norm

from engine.api.errors import NodeError, NotThisFamily
from engine.diffusion.clip_vision import ClipVisionOutput
from nodes.conditioning import clip_text_encode
from nodes.latent import empty_latent_image
from nodes.loaders import load_checkpoint
from nodes.sampling import ksampler
from nodes.style_models import load_style_model, style_model_apply
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import write_tiny_checkpoint

WIDTH, TEXT, PLACES, HEADS = 24, 16, 4, 2


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "style_embedding": (1, PLACES, WIDTH), "proj": (WIDTH, TEXT),
        "ln_pre.weight": (WIDTH,), "ln_pre.bias": (WIDTH,),
        "ln_post.weight": (WIDTH,), "ln_post.bias": (WIDTH,),
    }  # fmt: skip
    for n in range(2):
        block = f"transformer_layes.{n}."
        for name, o, i in (
            ("attn.out_proj", WIDTH, WIDTH),
            ("mlp.c_fc", 4 * WIDTH, WIDTH),
            ("mlp.c_proj", WIDTH, 4 * WIDTH),
        ):
            shapes |= {f"{block}{name}.weight": (o, i), f"{block}{name}.bias": (o,)}
        shapes |= {f"{block}attn.in_proj_weight": (3 * WIDTH, WIDTH)}
        shapes |= {f"{block}attn.in_proj_bias": (3 * WIDTH,)}
        for k in (1, 2):
            shapes |= {f"{block}ln_{k}.weight": (WIDTH,), f"{block}ln_{k}.bias": (WIDTH,)}
    return {key: torch.randn(shape) * 0.3 for key, shape in shapes.items()}


def by_formula(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Attention in pre-norm blocks over the picture and the own places (arXiv 2302.08453)."""

    def norm(x: Tensor, name: str) -> Tensor:
        return layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"])

    x = torch.cat([x, w["style_embedding"].expand(x.shape[0], -1, -1)], dim=1)
    x = norm(x, "ln_pre")
    for n in range(2):
        block = f"transformer_layes.{n}"
        h = norm(x, f"{block}.ln_1") @ w[f"{block}.attn.in_proj_weight"].t()
        q, k, v = (h + w[f"{block}.attn.in_proj_bias"]).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        share = (q @ k.transpose(-1, -2) / (WIDTH / HEADS) ** 0.5).softmax(-1)
        h = (share @ v).transpose(1, 2).flatten(2)
        x = x + h @ w[f"{block}.attn.out_proj.weight"].t() + w[f"{block}.attn.out_proj.bias"]
        h = norm(x, f"{block}.ln_2") @ w[f"{block}.mlp.c_fc.weight"].t()
        h = h + w[f"{block}.mlp.c_fc.bias"]
        h = h * torch.sigmoid(1.702 * h)
        x = x + h @ w[f"{block}.mlp.c_proj.weight"].t() + w[f"{block}.mlp.c_proj.bias"]
    return norm(x[:, -PLACES:], "ln_post") @ w["proj"]


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    write_tiny_checkpoint(tmp_path / "models/checkpoints/tiny.safetensors")
    folder = tmp_path / "models/style_models"
    folder.mkdir()
    metadata = {"weft.style.heads": str(HEADS)}
    save_file(weights(), folder / "style.safetensors", metadata=metadata)
    save_file({"redux_up.weight": torch.zeros(2, 2)}, folder / "redux.safetensors")
    return context(tmp_path)


def picture(width: int = WIDTH, count: int = 1) -> ClipVisionOutput:
    hidden = torch.randn(count, 5, width)
    return ClipVisionOutput(
        image_embeds=hidden[:, 0], last_hidden_state=hidden, penultimate_hidden_states=hidden
    )


def test_words_are_those_of_the_formula_times_the_strength(ctx: Context) -> None:
    model, seen = load_style_model("style.safetensors", ctx=ctx), picture(count=2)
    text: Any = [(torch.randn(1, 77, TEXT), {"pooled_output": None})]
    ((found, options),) = style_model_apply(text, model, seen, 0.5, "multiply", ctx=ctx)
    words = by_formula(weights(), seen.last_hidden_state).reshape(1, 2 * PLACES, TEXT)
    assert torch.equal(found[:, :77], text[0][0])
    torch.testing.assert_close(found[:, 77:], words * 0.5, atol=1e-5, rtol=1e-4)
    assert options == text[0][1]


def test_a_picture_is_sampled_with_them(ctx: Context) -> None:
    model, clip, _ = load_checkpoint("tiny.safetensors", ctx=ctx)
    text, style = (
        clip_text_encode("a", clip, ctx=ctx),
        load_style_model("style.safetensors", ctx=ctx),
    )

    def sampled(positive: Any) -> Tensor:
        latent = empty_latent_image(64, 64, 1)
        settings: Any = (1, 2, 2.0, "euler", "normal", positive, text, latent, 1.0)
        return ksampler(model, *settings, ctx=ctx)["samples"]

    styled = sampled(style_model_apply(text, style, picture(), 1.0, "multiply", ctx=ctx))
    assert styled.isfinite().all()
    assert not torch.allclose(styled, sampled(text))


def test_what_does_not_fit_is_told(ctx: Context) -> None:
    with pytest.raises(NotThisFamily, match=r"redux\.safetensors is no style model"):
        load_style_model("redux.safetensors", ctx=ctx)
    model = load_style_model("style.safetensors", ctx=ctx)
    wide: Any = [(torch.zeros(1, 77, 32), {})]
    with pytest.raises(NodeError, match="has 32 channels, but the style model gives 16"):
        style_model_apply(wide, model, picture(), 1.0, "multiply", ctx=ctx)
    with pytest.raises(NodeError, match="have 8 channels, but the style model expects 24"):
        style_model_apply(wide, model, picture(8), 1.0, "multiply", ctx=ctx)
