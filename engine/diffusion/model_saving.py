"""Models as files: checkpoints and their parts, with all patches of weights in them.

Weights keep the type they were loaded in (packed ones become fp16); what was not changed is
copied bit for bit. Checkpoints have the original single-file layout of their family, text encoders
alone transformers' names. Hooks inside a network are no weights and are not saved.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from engine.api.errors import NodeError
from engine.api.recipe import Recipe
from engine.diffusion.families import FAMILIES
from engine.diffusion.families.base import T5Layout, TextLayout, VaeLayout
from engine.diffusion.keymap import PREFIXES, open_clip_names, renamer
from engine.diffusion.part_weights import PartWeights
from engine.diffusion.residency import ModelPool
from engine.diffusion.single_file import TEXT, TOWERS
from engine.diffusion.tensor_writer import Saved
from engine.diffusion.transformer_keys import PREFIXES as TRANSFORMER_PREFIXES

Tensors = dict[str, Saved]

# Where a family's checkpoint has its text towers, and whether in OpenCLIP's names.
_SD2 = {"h": ("cond_stage_model.model.", True)}
TEXT_PLACES: Mapping[str, Mapping[str, tuple[str, bool]]] = {
    "sd1": {"l": (PREFIXES["text"], False)},
    "sd2": _SD2,
    "sd2_unclip": _SD2,
    "sd_x4_upscaler": _SD2,
    "sdxl": {
        "l": ("conditioner.embedders.0.transformer.", False),
        "g": ("conditioner.embedders.1.model.", True),
    },
    "sdxl_refiner": {"g": ("conditioner.embedders.0.model.", True)},
}
# What else of a checkpoint its family needs.
KEPT = ("noise_augmentor.", "embedder.", "low_scale_model.", "v_pred", "ztsnr")
# Source: Stability AI, modelspec (MIT), the values of `architecture`.
ARCHITECTURES = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2-512",
    "sd2_v": "stable-diffusion-v2-768-v",
    "sd2_unclip_v": "stable-diffusion-v2-unclip-h",
    "sdxl": "stable-diffusion-xl-v1-base",
    "sdxl_refiner": "stable-diffusion-xl-v1-refiner",
    "sd_x4_upscaler_v": "stable-diffusion-x4-upscaler",
    "sd3": "stable-diffusion-v3-medium",
    "flux": "flux-1-dev",
}


def checkpoint_tensors(
    pool: ModelPool, model: Recipe, clip: Recipe | None, vae: Recipe | None
) -> Tensors:
    """A whole checkpoint; parts that are None are left out.

    Raises: NodeError, for a text encoder that the model's family has no place for.
    """
    tensors = model_tensors(pool, model)
    if clip is not None:
        tensors |= _checkpoint_text(pool, clip, model.family)
    if vae is not None:
        tensors |= vae_tensors(pool, vae, PREFIXES["vae"])
    return tensors


def model_tensors(pool: ModelPool, model: Recipe) -> Tensors:
    """The denoising network under a checkpoint's names, and what else its family needs."""
    weights = pool.weights(model)
    file = weights.base.source.file
    prefix = PREFIXES["denoiser"]
    tensors: Tensors = {}
    for key, saved in _as_stored(weights).items():
        start = next((p for p in TRANSFORMER_PREFIXES if p and key.startswith(p)), "")
        tensors[prefix + key.removeprefix(start)] = saved
    for key in file.infos:
        if key.startswith(KEPT) and key not in tensors:
            info = file.infos[key]
            tensors[key] = Saved(dtype=info.dtype, shape=info.shape, read=partial(file.tensor, key))
    return tensors


def vae_tensors(pool: ModelPool, vae: Recipe, prefix: str = "") -> Tensors:
    """The autoencoder in the original names."""
    weights = pool.weights(vae)
    layout = weights.base.source.vae
    assert layout is not None
    return {
        prefix + key.removeprefix(layout.prefix): _as_convolution(key, saved, layout)
        for key, saved in _as_stored(weights).items()
    }


def _as_convolution(key: str, saved: Saved, layout: VaeLayout) -> Saved:
    """Attention's matrices as 1x1 convolutions, as the original layout has them."""
    if ".mid.attn_1." not in key or len(saved.shape) != 2:
        return saved
    return Saved(
        dtype=saved.dtype,
        shape=(*saved.shape, 1, 1),
        read=lambda: saved.read()[:, :, None, None],
    )


def text_tensors(pool: ModelPool, clip: Recipe) -> dict[str, Tensors]:
    """The towers of a text encoder by name, each for a file of its own, in transformers' names."""
    weights = pool.weights(clip)
    towers: dict[str, Tensors] = {}
    for layout in weights.base.source.text:
        if isinstance(layout, T5Layout):
            stored = _as_stored(weights, f"{layout.name}.")
            towers[layout.name] = {
                key.removeprefix(layout.prefix): saved for key, saved in stored.items()
            }
        else:
            towers[layout.name] = _transformers_names(_own(weights, layout.name))
    return towers


def _transformers_names(own: Tensors) -> Tensors:
    return {
        name if name.startswith("text_projection.") else f"text_model.{name}": saved
        for name, saved in own.items()
    }


def _checkpoint_text(pool: ModelPool, clip: Recipe, family: str) -> Tensors:
    if clip.family != family and TOWERS.get(clip.family) != TOWERS.get(family, ()):
        raise NodeError(
            f"The text encoder is that of {family_title(clip.family)}, but the model is "
            f"{family_title(family)}.",
            hint="Save the text encoder apart, with CLIPSave.",
        )
    weights = pool.weights(clip)
    if not any(True for _ in weights.base.source.file.keys(TEXT)):
        return _as_stored(weights)  # it lies in a checkpoint already
    tensors: Tensors = {}
    for layout in weights.base.source.text:
        assert isinstance(layout, TextLayout)
        prefix, is_open_clip = TEXT_PLACES[family][layout.name]
        own = _own(weights, layout.name)
        named = _open_clip_names(own, layout) if is_open_clip else _transformers_names(own)
        tensors |= {prefix + key: saved for key, saved in named.items()}
    return tensors


def _open_clip_names(own: Tensors, layout: TextLayout) -> Tensors:
    """A tower in OpenCLIP's names: queries, keys and values in one matrix."""
    rename_one = renamer(open_clip_names(layout.layers), inverse=True)
    tensors: Tensors = {}
    for name, saved in own.items():
        if any(f".self_attn.{part}_proj." in name for part in "qkv"):
            continue
        key = rename_one(name)
        if name == "text_projection.weight":
            turned = partial(_turned, saved)
            tensors["text_projection"] = Saved(
                dtype=saved.dtype, shape=saved.shape[::-1], read=turned
            )
        elif key is not None:
            tensors[key] = saved
    for n in range(layout.layers):
        for kind in ("weight", "bias"):
            parts = [own[f"encoder.layers.{n}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
            rows, *others = parts[0].shape
            tensors[f"transformer.resblocks.{n}.attn.in_proj_{kind}"] = Saved(
                dtype=parts[0].dtype, shape=(3 * rows, *others), read=partial(_stacked, parts)
            )
    return tensors


def _turned(saved: Saved) -> Tensor:
    return saved.read().t()


def _stacked(parts: list[Saved]) -> Tensor:
    return torch.cat([part.read() for part in parts])


# Weights ------------------------------------------------------------------------------------------


def _dtype(weights: PartWeights, name: str) -> torch.dtype:
    base = weights.base
    return torch.float16 if base.is_packed(name) else base.stored_dtype(name)


def _own(weights: PartWeights, tower: str) -> Tensors:
    """The weights of a text tower by our names."""
    start = f"{tower}."
    source = weights.base.source
    tensors: Tensors = {}
    for name in source.sources:
        if name.startswith(start):
            is_same = name not in weights.changed and not weights.base.is_packed(name)
            read = partial(weights.base.raw if is_same else weights.value, name)
            tensors[name.removeprefix(start)] = Saved(
                dtype=_dtype(weights, name), shape=source.shape(name), read=read
            )
    return tensors


def _as_stored(weights: PartWeights, start: str = "") -> Tensors:
    """The weights under the keys of their file, also where several of ours share one."""
    source = weights.base.source
    names: dict[str, list[str]] = {}
    for name, found in source.sources.items():
        if name.startswith(start):
            names.setdefault(found.key, []).append(name)
    tensors: Tensors = {}
    for key, ours in names.items():
        is_same = not any(n in weights.changed or weights.base.is_packed(n) for n in ours)
        read = partial(source.file.tensor, key) if is_same else partial(_placed, weights, key, ours)
        tensors[key] = Saved(
            dtype=_dtype(weights, ours[0]), shape=source.file.shape(key), read=read
        )
    return tensors


def _placed(weights: PartWeights, key: str, names: list[str]) -> Tensor:
    """A file's tensor with our weights in their places: the inverse of `Source.read`."""
    source = weights.base.source
    target = torch.empty(source.file.shape(key))
    for name in names:
        source.sources[name].read(target).copy_(weights.value(name))
    return target


# Metadata -----------------------------------------------------------------------------------------


def model_metadata(
    pool: ModelPool, model: Recipe | None, parts: tuple[Recipe, ...], title: str
) -> dict[str, str]:
    """What a file says of its content: modelspec's keys, and sizes that weights do not tell."""
    metadata: dict[str, str] = {}
    for part in parts:
        told = pool.weights(part).base.source.file.metadata
        sizes = {k: v for k, v in told.items() if k.startswith("weft.")}
        metadata |= {k: v for k, v in sizes.items() if not k.startswith("weft.training")}
    if model is None:
        return metadata
    source = pool.weights(model).base.source
    assert source.layout is not None
    prediction = model.option("prediction") or source.layout.prediction
    kind, *settings = model.option("sampling") or ("",)
    if kind == "discrete":
        prediction = {"eps": "eps", "v_prediction": "v"}.get(settings[0], prediction)
    family = model.family
    name = f"{family}_v" if prediction == "v" and f"{family}_v" in ARCHITECTURES else family
    metadata |= {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.architecture": ARCHITECTURES.get(name, family),
    }
    if source.unet is not None:
        metadata["modelspec.prediction_type"] = {"v": "v", "eps": "epsilon"}[prediction]
    return metadata


def family_title(name: str) -> str:
    """A family's name for people."""
    return next((family.title for family in FAMILIES if family.name == name), name)
