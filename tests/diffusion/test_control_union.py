"""Union ControlNets: one network for several kinds of pictures; diffusers is the oracle."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel
from safetensors.torch import save_file

from engine.api.errors import NodeError
from nodes.conditioning import clip_text_encode
from nodes.controlnet import (
    controlnet_apply_advanced,
    load_controlnet,
    set_union_controlnet_type,
)
from nodes.latent import empty_latent_image
from nodes.loaders import load_checkpoint
from nodes.sampling import ksampler
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import TINY_METADATA, write_tiny_checkpoint, write_tiny_control


@pytest.fixture
def union() -> ControlNetUnionModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "down_block_types": ("CrossAttnDownBlock2D",) * 2,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 16,
        "attention_head_dim": 8,
        "addition_time_embed_dim": 256,
        "num_control_type": 6,
        "num_trans_channel": 32,
        "num_proj_channel": 32,
        "conditioning_embedding_out_channels": (16, 32, 96, 256),
    }
    model = ControlNetUnionModel(**sizes)
    for parameter in model.parameters():  # its zero layers would hide everything
        torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


@pytest.fixture
def ctx(tmp_path: Path, union: ControlNetUnionModel) -> Context:
    write_tiny_checkpoint(tmp_path / "models/checkpoints/tiny.safetensors")
    folder = tmp_path / "models/controlnet"
    folder.mkdir()
    state = {k: v.contiguous() for k, v in union.state_dict().items()}
    save_file(state, folder / "union.safetensors", metadata=TINY_METADATA)
    write_tiny_control(folder / "plain.safetensors")
    return context(tmp_path)


@pytest.mark.parametrize(("kind", "number"), [("openpose", 0), ("segment", 5)])
def test_residuals_are_those_of_diffusers(
    kind: str, number: int, ctx: Context, union: ControlNetUnionModel
) -> None:
    plain = load_controlnet("union.safetensors", ctx=ctx)
    control = set_union_controlnet_type(plain, kind, ctx=ctx)
    x, text, hint = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 16), torch.rand(2, 3, 64, 64)
    time, kinds = torch.tensor([300.0, 300.0]), torch.zeros(2, 6)
    kinds[:, number] = 1
    with ctx.models.use(control) as loaded:
        found = loaded.residuals(x, time, text, hint, strength=0.7)
    call: Any = union
    with torch.no_grad():
        down, middle = call(
            x, time, text, [hint], kinds, [number], conditioning_scale=0.7, return_dict=False
        )
    for have, want in zip((*found["input"], *found["middle"]), (*down, middle), strict=True):
        torch.testing.assert_close(have, want, atol=1e-5, rtol=1e-5)


def test_it_steers_a_picture_once_it_knows_the_kind(ctx: Context) -> None:
    model, clip, _ = load_checkpoint("tiny.safetensors", ctx=ctx)
    control, image = load_controlnet("union.safetensors", ctx=ctx), torch.rand(1, 64, 64, 3)
    text = clip_text_encode("a boat", clip, ctx=ctx)

    def sampled(control: Any) -> torch.Tensor:
        both = controlnet_apply_advanced(text, text, control, image, 1.0, 0.0, 1.0)
        latent = empty_latent_image(64, 64, 1)
        settings: Any = (1, 2, 2.0, "euler", "normal", *both, latent, 1.0)
        return ksampler(model, *settings, ctx=ctx)["samples"]

    with pytest.raises(NodeError, match="was not told which"):
        sampled(control)
    depth = sampled(set_union_controlnet_type(control, "depth", ctx=ctx))
    assert not torch.allclose(depth, sampled(set_union_controlnet_type(control, "normal", ctx=ctx)))


def test_kinds_that_it_does_not_know_and_controls_of_one_kind(ctx: Context) -> None:
    with pytest.raises(NodeError, match="knows 6 kinds of pictures, and repaint is none"):
        set_union_controlnet_type(load_controlnet("union.safetensors", ctx=ctx), "repaint", ctx=ctx)
    plain = load_controlnet("plain.safetensors", ctx=ctx)
    assert set_union_controlnet_type(plain, "depth", ctx=ctx) is plain
