"""Key names translate both ways, totally and one to one; diffusers' converters are the oracle."""

import dataclasses
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor, nn

from engine.api.errors import ModelError
from engine.diffusion.clip_model import ClipText
from engine.diffusion.controlnet import build_control
from engine.diffusion.families.base import TextLayout, UnetLayout, VaeLayout
from engine.diffusion.keymap import PREFIXES, from_ldm, open_clip_sources, to_ldm
from engine.diffusion.network import build_unet, unet_config
from engine.diffusion.vae import build_vae
from tests.tiny_checkpoint import (
    Keys,
    clip_keys,
    control_keys,
    fill,
    open_clip_keys,
    tiny_keys,
    unet_keys,
    vae_keys,
)

UNET = UnetLayout(
    prefix="", in_channels=4, out_channels=4, width=32, mult=(1, 2), blocks=1, depth=(1, 1),
    middle_depth=1, context_dim=16, groups=8, heads=8,
)  # fmt: skip
VAE = VaeLayout(prefix="", width=8, mult=(1, 1, 2, 2), blocks=1, latent_channels=4, groups=4)

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "two_blocks": {"blocks": 2},
    "four_levels": {"mult": (1, 2, 4, 4), "depth": (1, 1, 1, 0), "blocks": 2},
    "no_attention_first": {"mult": (1, 2, 4), "depth": (0, 2, 3), "middle_depth": 3},
    "vector_input": {"adm": 24, "is_linear": True},
    "nine_inputs": {"inputs": 9},
}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def assert_fits(state: dict[str, Tensor], module: nn.Module) -> None:
    own = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    assert own == {k: tuple(v.shape) for k, v in state.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_unet_both_ways_and_as_diffusers_converts(shape: str):
    given = SHAPES[shape]
    keys = Keys()
    unet_keys(keys, **given)
    tensors = fill(keys)
    state = from_ldm("denoiser", tensors)
    assert equal(to_ldm("denoiser", state), tensors)
    layout = dataclasses.replace(
        UNET,
        in_channels=given.get("inputs", 4),
        mult=given.get("mult", (1, 2)),
        blocks=given.get("blocks", 1),
        depth=given.get("depth", (1, 1)),
        middle_depth=given.get("middle_depth", 1),
        is_linear=given.get("is_linear", False),
        adm=given.get("adm"),
    )
    assert_fits(state, build_unet(layout))
    theirs = convert_ldm_unet_checkpoint(dict(tensors), _converter_config(layout))
    assert equal(state, theirs)


def _converter_config(layout: UnetLayout) -> dict[str, Any]:
    config = unet_config(layout)
    return {**config, "addition_embed_type": None}


@pytest.mark.parametrize(("mult", "blocks"), [((1, 1, 2, 2), 1), ((1, 2, 4, 4), 2), ((1, 2), 3)])
def test_vae_both_ways_and_as_diffusers_converts(mult: tuple[int, ...], blocks: int):
    keys = Keys()
    vae_keys(keys, mult=mult, blocks=blocks)
    tensors = fill(keys)
    state = from_ldm("vae", tensors)
    assert equal(to_ldm("vae", state), tensors)
    assert_fits(state, build_vae(dataclasses.replace(VAE, mult=mult, blocks=blocks)))
    levels = ("x",) * len(mult)
    config = {
        "down_block_types": levels,
        "up_block_types": levels,
        "layers_per_block": blocks,
    }
    theirs = convert_ldm_vae_checkpoint(dict(tensors), config)
    assert equal(state, {k: v.reshape(state[k].shape) for k, v in theirs.items()})


def test_control_both_ways_and_as_diffusers_converts():
    keys = Keys()
    control_keys(keys)
    tensors = fill(keys)
    state = from_ldm("control", tensors)
    assert equal(to_ldm("control", state), tensors)
    assert_fits(state, build_control(UNET, 3, (16, 32, 96, 256)))
    theirs = convert_controlnet_checkpoint(dict(tensors), _converter_config(UNET))
    assert equal(state, theirs)


def test_text_both_ways_and_as_diffusers_converts():
    keys = Keys()
    clip_keys(keys)
    tensors = fill(keys)
    state = from_ldm("text", tensors)
    assert equal(to_ldm("text", state), tensors)
    assert equal(to_ldm("text", {f"text_model.{k}": v for k, v in state.items()}), tensors)
    layout = TextLayout(name="l", prefix="", width=16, layers=3, heads=2, mlp=64)
    assert_fits(state, ClipText(layout))
    theirs = convert_ldm_clip_checkpoint(dict(tensors))
    assert equal(state, {k.removeprefix("text_model."): v for k, v in theirs.items()})


def test_open_clip_as_diffusers_converts():
    keys = Keys()
    open_clip_keys(keys, "model.", width=1024)  # the width of OpenCLIP ViT-H, which diffusers fixes
    tensors = fill(keys)
    found = open_clip_sources(tensors, 3, 1024, "model.")
    state = {ours: source.read(tensors[source.key]) for ours, source in found.items()}
    for ours, source in found.items():
        assert source.shape(tuple(tensors[source.key].shape)) == tuple(state[ours].shape)
    layout = TextLayout(
        name="h", prefix="", width=1024, layers=3, heads=16, mlp=4096, projection=1024
    )
    with torch.device("meta"):
        assert_fits(state, ClipText(layout))
    theirs = convert_open_clip_checkpoint(_OpenClipModel(3), dict(tensors), prefix="model.")
    for name, tensor in theirs.items():
        ours = name.removeprefix("text_model.")
        if "position_ids" not in name:
            assert torch.equal(state[ours], tensor), name


class _OpenClipModel:
    """What diffusers' converter reads of the model that it converts for."""

    def __init__(self, layers: int) -> None:
        self.config = type("Config", (), {"num_hidden_layers": layers, "projection_dim": 1024})()


def test_whole_checkpoint_is_the_sum_of_its_parts():
    tensors = fill(tiny_keys())
    rebuilt: dict[str, Tensor] = {}
    for part in ("denoiser", "vae", "text"):
        rebuilt |= to_ldm(part, from_ldm(part, tensors))
    assert equal(rebuilt, tensors)


@pytest.mark.parametrize("part", PREFIXES)
def test_unknown_keys_are_named(part: str):
    tensors = {"denoiser": unet_keys, "vae": vae_keys, "text": clip_keys, "control": control_keys}
    keys = Keys()
    tensors[part](keys)
    state = from_ldm(part, fill(keys))
    with pytest.raises(ModelError, match="surprise"):
        from_ldm(part, {PREFIXES[part] + "surprise.weight": torch.zeros(1)})
    if part != "text":
        with pytest.raises(ModelError, match="surprise"):
            to_ldm(part, {**state, "surprise.weight": torch.zeros(1)})
