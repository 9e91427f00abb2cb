"""CLIP vision towers on tiny files; the oracle is transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from engine.api.errors import CorruptFile, NodeError, NotThisFamily
from engine.diffusion.clip_vision import open_clip_vision, prepared
from engine.diffusion.residency import ModelPool
from nodes.clip_vision import clip_vision_encode, load_clip_vision
from tests.nodes.context import Context, context

Weights = dict[str, torch.Tensor]
META = {"weft.vision.heads": "2"}


@pytest.fixture(scope="module")
def tower() -> Any:
    torch.manual_seed(3)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=7,
        projection_dim=8,
        hidden_act="quick_gelu",
        initializer_factor=20.0,
    )
    return CLIPVisionModelWithProjection(config).eval().requires_grad_(False)


def open_clip_names(state: Weights) -> Weights:
    """The same weights as OpenCLIP names them."""
    plain = {k.removeprefix("vision_model."): v for k, v in state.items()}
    named = {
        "visual.class_embedding": plain["embeddings.class_embedding"],
        "visual.conv1.weight": plain["embeddings.patch_embedding.weight"],
        "visual.positional_embedding": plain["embeddings.position_embedding.weight"],
        "visual.proj": plain["visual_projection.weight"].t(),
    }
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc"}
    parts |= {"mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}
    for end in ("weight", "bias"):
        named[f"visual.ln_pre.{end}"] = plain[f"pre_layrnorm.{end}"]
        named[f"visual.ln_post.{end}"] = plain[f"post_layernorm.{end}"]
        for n in range(3):
            ours, theirs = f"encoder.layers.{n}", f"visual.transformer.resblocks.{n}"
            for a, b in parts.items():
                named[f"{theirs}.{b}.{end}"] = plain[f"{ours}.{a}.{end}"]
            rows = [plain[f"{ours}.self_attn.{x}_proj.{end}"] for x in "qkv"]
            named[f"{theirs}.attn.in_proj_{end}"] = torch.cat(rows)
    return named


def written(folder: Path, weights: Weights) -> Context:
    (folder / "models/clip_vision").mkdir(parents=True)
    tensors = {k: v.contiguous() for k, v in weights.items()}
    save_file(tensors, folder / "models/clip_vision/a.safetensors", metadata=META)
    return context(folder)


@pytest.mark.parametrize("layout", ["clip", "open_clip"])
@pytest.mark.parametrize("crop", ["center", "none"])
def test_equal_to_transformers(tmp_path: Path, tower: Any, layout: str, crop: str) -> None:
    state = tower.state_dict()
    ctx = written(tmp_path, state if layout == "clip" else open_clip_names(state))
    image = torch.rand(2, 40, 60, 3, generator=torch.Generator().manual_seed(1))
    model = load_clip_vision("a.safetensors", ctx=ctx)
    found = clip_vision_encode(model, image, crop, ctx=ctx)
    pixels = prepared(image, 28, crop=crop == "center")
    want = tower(pixel_values=pixels, output_hidden_states=True)
    torch.testing.assert_close(found.image_embeds, want.image_embeds)
    torch.testing.assert_close(found.last_hidden_state, want.last_hidden_state)
    torch.testing.assert_close(found.penultimate_hidden_states, want.hidden_states[-2])


def test_pictures_are_cropped_or_squeezed_and_normalized() -> None:
    image = torch.zeros(1, 30, 90, 3)
    image[:, :, 30:60] = 1.0
    white = ((1 - 0.48145466) / 0.26862954, (1 - 0.40821073) / 0.27577711)
    middle = prepared(image, 30, crop=True)
    assert middle.shape == (1, 3, 30, 30)
    assert middle[0, 0, 15, 0].item() == pytest.approx(white[0])
    assert middle[0, 2, 15, 29].item() == pytest.approx(white[1])
    whole = prepared(image, 30, crop=False)
    assert whole.shape == (1, 3, 30, 30)
    assert whole[0, 0, 0, 0].item() == pytest.approx(-0.48145466 / 0.26862954)
    assert prepared(torch.rand(1, 29, 47, 4), 28, crop=True).shape == (1, 3, 28, 28)
    with pytest.raises(NodeError, match="has 1"):
        prepared(torch.zeros(1, 8, 8, 1), 28, crop=True)


def test_other_files_and_missing_weights_are_named(tmp_path: Path, tower: Any) -> None:
    ctx = written(tmp_path, {"a": torch.ones(1)})
    with pytest.raises(NotThisFamily, match=r"a\.safetensors is no CLIP vision model"):
        load_clip_vision("a.safetensors", ctx=ctx)
    state = {k: v for k, v in tower.state_dict().items() if "pre_layrnorm" not in k}
    path = tmp_path / "b.safetensors"
    save_file(state, path, metadata=META)
    recipe = open_clip_vision(path, "b", "b")
    with pytest.raises(CorruptFile, match="pre_layrnorm"), ModelPool().use(recipe):
        pass
