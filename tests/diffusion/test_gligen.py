"""GLIGEN on tiny files; the oracle is diffusers' own gated UNet."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file

from engine.api.errors import NodeError, NotThisFamily
from engine.diffusion.families import identify
from engine.diffusion.gligen import open_gligen
from engine.diffusion.network import unet_config
from engine.diffusion.weightfile import open_weights
from nodes.conditioning import clip_text_encode
from nodes.gligen import gligen_text_box_apply, load_gligen
from nodes.loaders import load_checkpoint
from nodes.sampling import ksampler
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.tiny_parts import GLIGEN_PLACES, gligen_weights


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Context:
    base: Path = tmp_path_factory.mktemp("gligen")
    write_tiny_checkpoint(base / "models/checkpoints/tiny.safetensors")
    (base / "models/gligen").mkdir()
    save_file(gligen_weights(), base / "models/gligen/box.safetensors")
    save_file(gligen_weights(text=8), base / "models/gligen/other.safetensors")
    return context(base)


def gated_unet(ctx: Context, plain: dict[str, torch.Tensor]) -> UNet2DConditionModel:
    """diffusers' UNet with the fusers inside."""
    layout = identify(open_weights(ctx.files.resolve("checkpoints", "tiny.safetensors"))).unet
    assert layout is not None
    unet = UNet2DConditionModel(**unet_config(layout), attention_type="gated")
    state = dict(plain)
    for key, value in gligen_weights().items():
        for place, (ours, _) in GLIGEN_PLACES.items():
            if key.startswith(f"{place}."):
                key = ours + key[len(place) :]
        state[key] = value
    unet.load_state_dict(state)
    return unet.eval().requires_grad_(False)


def test_equal_to_the_gated_unet_of_diffusers(ctx: Context) -> None:
    model = load_checkpoint("tiny.safetensors", ctx=ctx)[0]
    gligen = load_gligen("box.safetensors", ctx=ctx)
    generator = torch.Generator().manual_seed(5)
    x, context_ = (torch.randn(s, generator=generator) for s in ((2, 4, 8, 8), (2, 77, 16)))
    pooled, time = torch.randn(1, 16, generator=generator), torch.tensor([300.0, 300.0])
    boxes = [[(pooled, 4, 6, 2, 1)], []]
    with ctx.models.use(model) as denoiser, ctx.models.use(gligen) as loaded:
        plain = denoiser.predict(x, time, context_)
        hook = loaded.hook(boxes, x)
        found = denoiser.predict(x, time, context_, options={"hooks": (hook,)})
        after = denoiser.predict(x, time, context_)
        unet = gated_unet(ctx, denoiser.unet.state_dict())
    given: dict[str, Any] = {
        "boxes": torch.zeros(2, 30, 4),
        "masks": torch.zeros(2, 30),
        "positive_embeddings": torch.zeros(2, 30, 16),
    }
    given["boxes"][0, 0] = torch.tensor([1 / 8, 2 / 8, 7 / 8, 6 / 8])
    given["masks"][0, 0] = 1.0
    given["positive_embeddings"][0, 0] = pooled[0]
    want = unet(x, time, context_, cross_attention_kwargs={"gligen": given}).sample
    torch.testing.assert_close(found, want, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(after, plain)
    assert (found - plain).abs().max() > 0.01


def sampled(ctx: Context, steered: Any, model: Any, negative: Any) -> torch.Tensor:
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    call = (model, 1, 2, 4.0, "euler", "normal", steered, negative, latent, 1.0)
    return ksampler(*call, ctx=ctx)["samples"]  # pyright: ignore[reportArgumentType]


def test_boxes_steer_sampling_where_they_lie(ctx: Context) -> None:
    model, clip, _ = load_checkpoint("tiny.safetensors", ctx=ctx)
    gligen = load_gligen("box.safetensors", ctx=ctx)
    positive = clip_text_encode("a boat", clip, ctx=ctx)
    negative = clip_text_encode("", clip, ctx=ctx)
    once = gligen_text_box_apply(positive, clip, gligen, "a sail", 32, 24, 8, 16, ctx=ctx)
    kind, recipe, boxes = once[0][1]["gligen"]
    assert (kind, recipe) == ("position", gligen)
    assert boxes[0][1:] == (3, 4, 2, 1)
    assert "gligen" not in positive[0][1]
    elsewhere = gligen_text_box_apply(positive, clip, gligen, "a sail", 32, 24, 0, 0, ctx=ctx)
    twice = gligen_text_box_apply(once, clip, gligen, "the sea", 64, 16, 0, 48, ctx=ctx)
    results = [sampled(ctx, c, model, negative) for c in (positive, once, elsewhere, twice)]
    for i, a in enumerate(results):
        assert bool(torch.isfinite(a).all())
        for b in results[i + 1 :]:
            assert (a - b).abs().max() > 1e-3


def test_what_does_not_fit_is_named(ctx: Context, tmp_path: Path) -> None:
    model, clip, _ = load_checkpoint("tiny.safetensors", ctx=ctx)
    positive = clip_text_encode("a boat", clip, ctx=ctx)
    other = load_gligen("other.safetensors", ctx=ctx)
    steered = gligen_text_box_apply(positive, clip, other, "a", 32, 32, 0, 0, ctx=ctx)
    with pytest.raises(NodeError, match="has 16 channels, but the model expects 8"):
        sampled(ctx, steered, model, positive)
    for _ in range(29):
        steered = gligen_text_box_apply(steered, clip, other, "a", 8, 8, 0, 0, ctx=ctx)
    with pytest.raises(NodeError, match="30 boxes"):
        gligen_text_box_apply(steered, clip, other, "a", 8, 8, 0, 0, ctx=ctx)
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(NotThisFamily, match=r"a\.safetensors is no GLIGEN"):
        open_gligen(path, "a", "a")
