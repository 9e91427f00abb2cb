"""SD3 and Flux from their original files, against diffusers' own classes with the same weights."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.api.errors import NodeError
from engine.api.recipe import Hook
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.families import identify
from engine.diffusion.residency import ModelPool
from engine.diffusion.transformer import LoadedTransformer
from engine.diffusion.weightfile import open_weights
from tests.tiny_checkpoint import Keys, fill
from tests.tiny_transformer import PREFIX, flux_keys, save, sd3_keys

SD3_KINDS: dict[str, dict[str, Any]] = {
    "sd3-medium": {},
    "sd3.5-large": {"norm": "rms"},
    "sd3.5-medium": {"norm": "rms", "dual": (0, 1)},
    "layer-norm": {"norm": "layer"},
}
FLUX_KINDS: dict[str, dict[str, Any]] = {"dev": {}, "schnell": {"has_guidance": False}}


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


X, CONTEXT = random(2, 16, 6, 8), random(2, 7, 32)
LEVEL = torch.tensor([0.9, 0.3])


def use(path: Path, run: Callable[[LoadedTransformer], Tensor], *hooks: Hook) -> Tensor:
    recipe = open_checkpoint(path, str(path), path.name).model
    for hook in hooks:
        recipe = recipe.with_hook(hook)
    with ModelPool().use(recipe) as loaded:
        assert isinstance(loaded, LoadedTransformer)
        return run(loaded)


def without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}


def load(model: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    model.load_state_dict({k: v.float() for k, v in state.items()})
    return model.eval()


# Stable Diffusion 3 -------------------------------------------------------------------------------


def sd3_state(tensors: dict[str, Tensor], *, norm: str | None) -> dict[str, Tensor]:
    """diffusers' conversion; it knows no biases of query norms."""
    state = single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers(dict(tensors))
    for n in range(3 if norm == "layer" else 0):
        for side, q, k in (
            ("x_block", "norm_q", "norm_k"),
            ("context_block", "norm_added_q", "norm_added_k"),
        ):
            for part, ours in (("ln_q", q), ("ln_k", k)):
                key = f"joint_blocks.{n}.{side}.attn.{part}.bias"
                state[f"transformer_blocks.{n}.attn.{ours}.bias"] = tensors[key]
    return state


def sd3_oracle(state: dict[str, Tensor], kind: dict[str, Any]) -> nn.Module:
    norms = {None: None, "rms": "rms_norm", "layer": "layer_norm"}
    model = SD3Transformer2DModel(
        sample_size=16,
        num_layers=3,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=64,
        pooled_projection_dim=24,
        pos_embed_max_size=8,
        dual_attention_layers=kind.get("dual", ()),
        qk_norm=norms[kind.get("norm")],
    )
    return load(model, state)


@pytest.mark.parametrize("prefix", [PREFIX, ""])
@pytest.mark.parametrize("kind", SD3_KINDS)
def test_sd3_equals_diffusers(kind: str, prefix: str, tmp_path: Path):
    keys = Keys()
    sd3_keys(keys, prefix, **SD3_KINDS[kind])
    tensors = fill(keys, dtype=torch.float32)
    metadata = {"weft.transformer.head_width": "32"}
    save_file(tensors, tmp_path / "a.safetensors", metadata=metadata)
    state = sd3_state(without_prefix(tensors), norm=SD3_KINDS[kind].get("norm"))
    pooled = random(2, 24)
    found = use(tmp_path / "a.safetensors", lambda m: m.predict(X, LEVEL * 1000, CONTEXT, y=pooled))
    with torch.no_grad():
        wanted = sd3_oracle(state, SD3_KINDS[kind])(X, CONTEXT, pooled, LEVEL * 1000).sample
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_sd3_in_diffusers_names_is_the_same_model(tmp_path: Path):
    keys = Keys()
    sd3_keys(keys, "", norm="rms", dual=(0,))
    tensors = fill(keys, dtype=torch.float32)
    save_file(tensors, tmp_path / "a.safetensors")
    state = sd3_state(tensors, norm="rms")
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "b.safetensors")
    layouts = [
        identify(open_weights(tmp_path / name)) for name in ("a.safetensors", "b.safetensors")
    ]
    assert layouts[0] == layouts[1]
    first, second = (
        use(tmp_path / name, lambda m: m.predict(X, LEVEL * 1000, CONTEXT))
        for name in ("a.safetensors", "b.safetensors")
    )
    assert torch.equal(first, second)


def test_a_picture_beyond_the_known_places_is_refused(tmp_path: Path):
    keys = Keys()
    sd3_keys(keys, norm="rms")
    path = save(tmp_path / "a.safetensors", keys)
    with pytest.raises(NodeError, match="128 pixels"):
        use(path, lambda m: m.predict(random(1, 16, 8, 18), LEVEL[:1], CONTEXT[:1]))


# Flux ---------------------------------------------------------------------------------------------


def flux_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' conversion, which fixes the width, at ours."""
    source = inspect.getsource(single_file_utils.convert_flux_transformer_checkpoint_to_diffusers)
    scope: dict[str, Any] = {"torch": torch}
    exec(source.replace("inner_dim = 3072", "inner_dim = 64"), scope)
    return scope["convert_flux_transformer_checkpoint_to_diffusers"](dict(tensors))


def flux_oracle(state: dict[str, Tensor], *, has_guidance: bool = True) -> nn.Module:
    model = FluxTransformer2DModel(
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=has_guidance,
        axes_dims_rope=(4, 14, 14),
    )
    return load(model, state)


def flux_file(folder: Path, prefix: str = PREFIX, **kind: Any) -> tuple[Path, dict[str, Tensor]]:
    keys = Keys()
    flux_keys(keys, prefix, **kind)
    return save(folder / "flux.safetensors", keys), without_prefix(fill(keys, dtype=torch.float32))


def by_diffusers(
    model: nn.Module, x: Tensor, guidance: Tensor | None, reference: Tensor | None = None
) -> Tensor:
    """A call as diffusers' Flux pipelines make it."""
    pipeline: Any = FluxPipeline
    b, c, h, w = x.shape
    tokens = pipeline._pack_latents(x, b, c, h, w)
    ids = pipeline._prepare_latent_image_ids(b, h // 2, w // 2, "cpu", torch.float32)
    count = tokens.shape[1]
    if reference is not None:
        height, width = reference.shape[-2:]
        more = pipeline._pack_latents(reference.expand(b, -1, -1, -1), b, c, height, width)
        places = pipeline._prepare_latent_image_ids(
            b, height // 2, width // 2, "cpu", torch.float32
        )
        places[..., 0] = 1  # as diffusers' Kontext pipeline marks them
        tokens, ids = torch.cat([tokens, more], 1), torch.cat([ids, places])
    with torch.no_grad():
        out = model(
            hidden_states=tokens,
            encoder_hidden_states=CONTEXT,
            pooled_projections=random(2, 16),
            timestep=LEVEL,
            img_ids=ids,
            txt_ids=torch.zeros(CONTEXT.shape[1], 3),
            guidance=guidance,
        ).sample
    return pipeline._unpack_latents(out[:, :count], h * 8, w * 8, 8)


@pytest.mark.parametrize("prefix", [PREFIX, ""])
@pytest.mark.parametrize("kind", FLUX_KINDS)
def test_flux_equals_diffusers(kind: str, prefix: str, tmp_path: Path):
    path, tensors = flux_file(tmp_path, prefix, **FLUX_KINDS[kind])
    guidance = torch.tensor([2.0, 5.0]) if kind == "dev" else None
    oracle = flux_oracle(flux_state(tensors), has_guidance=kind == "dev")
    extras = {} if guidance is None else {"guidance": guidance}
    found = use(path, lambda m: m.predict(X, LEVEL, CONTEXT, y=random(2, 16), extras=extras))
    torch.testing.assert_close(found, by_diffusers(oracle, X, guidance), rtol=0, atol=1e-5)


def test_flux_in_diffusers_names_is_the_same_model(tmp_path: Path):
    path, tensors = flux_file(tmp_path)
    state = {k: v.contiguous() for k, v in flux_state(tensors).items()}
    save_file(state, tmp_path / "b.safetensors", metadata={"weft.native_size": "64"})
    assert identify(open_weights(path)) == identify(open_weights(tmp_path / "b.safetensors"))
    first, second = (
        use(p, lambda m: m.predict(X, LEVEL, CONTEXT)) for p in (path, tmp_path / "b.safetensors")
    )
    assert torch.equal(first, second)


def test_guidance_can_be_left_out_item_by_item(tmp_path: Path):
    path, tensors = flux_file(tmp_path)
    oracle = flux_oracle(flux_state(tensors))
    embedder: Any = oracle.time_text_embed
    embedder.guidance_embedder.register_forward_hook(lambda module, inputs, out: out * 0)
    extras = {"guidance": torch.tensor([float("nan"), 5.0])}
    found = use(path, lambda m: m.predict(X, LEVEL, CONTEXT, y=random(2, 16), extras=extras))
    wanted = by_diffusers(oracle, X, torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=1e-5)
    assert not torch.allclose(found[1], wanted[1], atol=1e-3)


@pytest.mark.parametrize("method", ["offset", "index"])
def test_one_reference_is_placed_as_diffusers_places_it(method: str, tmp_path: Path):
    path, tensors = flux_file(tmp_path)
    reference = random(1, 16, 4, 6)
    options = {"reference_latents": [reference], "reference_latents_method": method}

    def run(model: LoadedTransformer) -> Tensor:
        extras = model.extra_conditions({**options, "guidance": 3.0})
        extras["guidance"] = extras["guidance"].expand(2)
        return model.predict(X, LEVEL, CONTEXT, y=random(2, 16), extras=extras)

    scaled = (reference - 0.1159) * 0.3611
    oracle = flux_oracle(flux_state(tensors))
    wanted = by_diffusers(oracle, X, torch.tensor([3.0, 3.0]), scaled)
    torch.testing.assert_close(use(path, run), wanted, rtol=0, atol=1e-5)


def test_odd_sides_are_padded_and_cut(tmp_path: Path):
    path, _ = flux_file(tmp_path)
    odd = X[..., :5, :7]
    whole = torch.cat([odd, odd[..., :1, :]], -2)
    whole = torch.cat([whole, whole[..., :1]], -1)
    found = use(path, lambda m: m.predict(odd, LEVEL, CONTEXT))
    wanted = use(path, lambda m: m.predict(whole, LEVEL, CONTEXT))
    torch.testing.assert_close(found, wanted[..., :5, :7], rtol=0, atol=0)


def test_hooks_stand_in_for_blocks(tmp_path: Path):
    path, _ = flux_file(tmp_path)

    def plain(args: Any, extra: Any) -> Any:
        return extra["original_block"](args)

    def skip(args: Any, extra: Any) -> Any:
        return args

    def run(model: LoadedTransformer) -> Tensor:
        return model.predict(X, LEVEL, CONTEXT)

    places = ("dit_replace/double_block/1", "dit_replace/single_block/0")
    wanted = use(path, run)
    assert torch.equal(use(path, run, *(Hook(slot=p, function=plain) for p in places)), wanted)
    for place in places:
        assert not torch.allclose(use(path, run, Hook(slot=place, function=skip)), wanted)


def test_a_controlnet_of_another_kind_is_refused(tmp_path: Path):
    path, _ = flux_file(tmp_path)
    with pytest.raises(NodeError, match="ControlNet"):
        use(path, lambda m: m.predict(X, LEVEL, CONTEXT, control={"input": [], "middle": []}))
