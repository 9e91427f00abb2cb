"""LoRA files of all customary kinds and names, as changes of weights."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.api.errors import ModelError
from engine.api.recipe import FileRef, Recipe, WeightPatch
from engine.diffusion.checkpoint import PartSource, part_source
from engine.diffusion.families import FAMILIES
from engine.diffusion.families.base import FluxLayout
from engine.diffusion.keymap import PREFIXES, Source
from engine.diffusion.lora_formulas import (
    DELTAS,
    Tensors,
    dora_change,
    glora_change,
    peft_dora_change,
)
from engine.diffusion.transformer_keys import FLUX, SD3, original_modules
from engine.diffusion.weightfile import WeightFile, open_weights

# Endings of a LoRA's keys -> the role of the tensor; the rest of the key names the module.
ROLES: dict[str, str] = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_mid.weight": "mid",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".alpha": "alpha",
    ".dora_scale": "dora",
    ".lora_magnitude_vector": "magnitude",
    ".hada_w1_a": "w1_a",
    ".hada_w1_b": "w1_b",
    ".hada_w2_a": "w2_a",
    ".hada_w2_b": "w2_b",
    ".hada_t1": "t1",
    ".hada_t2": "t2",
    ".lokr_w1": "k1",
    ".lokr_w1_a": "k1_a",
    ".lokr_w1_b": "k1_b",
    ".lokr_w2": "k2",
    ".lokr_w2_a": "k2_a",
    ".lokr_w2_b": "k2_b",
    ".lokr_t2": "kt2",
    ".a1.weight": "a1",
    ".a2.weight": "a2",
    ".b1.weight": "b1",
    ".b2.weight": "b2",
    ".diff": "diff",
    ".diff_b": "bias",
}
_ENDINGS = sorted(ROLES, key=len, reverse=True)

# Starts of the names that a LoRA gives to text towers, by our name of the tower; newer versions of
# transformers leave `text_model.` out.
TEXT_STARTS: dict[str, tuple[str, ...]] = {
    "l": (
        "lora_te_text_model_",
        "lora_te1_text_model_",
        "text_encoder.",
        "text_encoder.text_model.",
    ),
    "h": ("lora_te_text_model_", "text_encoder.", "text_encoder.text_model."),
    "g": ("lora_te2_text_model_", "text_encoder_2.", "text_encoder_2.text_model."),
    "t5xxl": ("lora_te3_", "text_encoder_3.", "text_encoder_2."),
}

GLORA_ROLES = ("a1", "a2", "b1", "b2")

Modules = Mapping[str, Mapping[str, str]]  # module as the file names it -> role -> key
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraTarget:
    """A layer of ours that a module of a LoRA changes; `part` takes its share of a fused one."""

    name: str
    part: Source | None = None


Targets = tuple[LoraTarget, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraFit:
    """How well a LoRA fits a part: how many of the modules meant for it fit, and why others not."""

    fitting: int
    total: int
    unknown: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()


def open_lora(path: Path, digest: str, name: str) -> FileRef:
    """A LoRA file, its header checked. Raises: CorruptFile, ModelError if it holds no LoRA."""
    check_lora(open_weights(path), name)
    return FileRef(path=str(path), digest=digest, name=name)


def check_lora(file: WeightFile, name: str) -> None:
    """Raises: ModelError, if a file holds no LoRA."""
    if not read_modules(file):
        raise ModelError(
            f"{name} holds no LoRA: none of its names end as a LoRA's do.",
            hint="A checkpoint, VAE or embedding belongs in its own folder and loader.",
        )


def add_lora(
    recipe: Recipe,
    file: FileRef,
    strength: float,
    *,
    log: Callable[[str], None] | None = None,
) -> Recipe:
    """A recipe with a LoRA applied last; the recipe itself where it would change nothing.

    Modules of unknown names or other shapes are left out and told to `log`.
    Raises: ModelError, where the LoRA was made for another family.
    """
    if strength == 0:
        return recipe
    source = part_source(recipe)
    weights = open_weights(Path(file.path))
    fit = lora_fit(weights, recipe.part, source)
    bad = (*fit.misshapen, *fit.unknown)
    width = context_width(weights)
    reads_other_text = source.unet is not None and width not in (None, source.unet.context_dim)
    if bad and (reads_other_text or not fit.fitting):
        raise ModelError(
            f"The LoRA {file.name} does not fit this model: it was made for "
            f"{lora_family(weights)}, the checkpoint is {_title(recipe.family)}. Of the "
            f"{fit.total} weights it has for the {recipe.part}, {fit.fitting} fit "
            f"({fit.fitting / fit.total:.0%}); {bad[0]} does not.",
            hint="Use a LoRA that was made for the checkpoint's family.",
        )
    if bad and log:
        log(f"{file.name}: {len(bad)} of {fit.total} weights do not fit: {bad[0]} …")
    if not fit.fitting:
        return recipe
    return recipe.with_patch(WeightPatch(kind="lora", strength=strength, file=file))


def read_modules(file: WeightFile) -> Modules:
    """The modules that a LoRA file changes, with the keys of their tensors by role."""
    modules: dict[str, dict[str, str]] = {}
    for key in file.infos:
        ending = next((e for e in _ENDINGS if key.endswith(e)), None)
        if ending is not None:
            modules.setdefault(key[: -len(ending)], {})[ROLES[ending]] = key
    return modules


def lora_family(file: WeightFile) -> str:
    """The family a LoRA was made for, guessed from its names and the width of its text input."""
    for mark, family in _MARKS.items():
        if any(mark in key for key in file.infos):
            return family
    widths = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
    width = context_width(file)
    return widths.get(width, f"a text width of {width}") if width else "an unknown family"


_MARKS = {
    "joint_blocks": "Stable Diffusion 3",
    "double_blocks": "Flux.1",
    "single_blocks": "Flux.1",
    "single_transformer_blocks": "Flux.1",
    "add_q_proj": "Stable Diffusion 3",
}


def context_width(file: WeightFile) -> int | None:
    """The width of the text that a LoRA's cross-attention reads, where it changes that."""
    for module, roles in read_modules(file).items():
        if "attn2" in module and module.endswith("to_k") and "down" in roles:
            return file.shape(roles["down"])[1]
    return None


def _title(family: str) -> str:
    return next((f.title for f in FAMILIES if f.name == family), family)


# Which weight a module means ----------------------------------------------------------------------


def lora_fit(file: WeightFile, part: str, source: PartSource) -> LoraFit:
    """How well a LoRA fits a part, from headers alone."""
    names = module_names(part, source)
    fitting, unknown, misshapen = 0, [], []
    modules = {m: r for m, r in read_modules(file).items() if _is_text(m) == (part == "text")}
    for module, roles in modules.items():
        targets = names.get(module)
        if targets is None:
            unknown.append(module)
        elif _fits(file, roles, source, targets):
            fitting += 1
        else:
            misshapen.append(module)
    return LoraFit(
        fitting=fitting,
        total=len(modules),
        unknown=tuple(unknown),
        misshapen=tuple(misshapen),
    )


def _is_text(module: str) -> bool:
    return module.startswith(("lora_te", "text_encoder"))


def _fits(file: WeightFile, roles: Mapping[str, str], source: PartSource, targets: Targets) -> bool:
    """Whether a module's tensors give a change of the weight's size; tried without their values."""
    size = sum(math.prod(source.shape(f"{target.name}.weight")) for target in targets)
    delta = delta_of(roles)
    if delta is None:
        return "bias" in roles or all(role in roles for role in GLORA_ROLES)
    tensors = {
        role: torch.empty(file.shape(key), device="meta")
        for role, key in roles.items()
        if role not in ("alpha", "dora", "magnitude")
    }
    try:
        return delta(tensors).numel() == size
    except (RuntimeError, IndexError):  # shapes that cannot be multiplied
        return False


def module_names(part: str, source: PartSource) -> dict[str, Targets]:
    """All names that LoRA files use for a part's layers -> our layers that are meant."""
    if source.transformer is not None:
        return _transformer_names(source)
    names: dict[str, Targets] = {}
    for weight, found in source.sources.items():
        if weight.endswith(".weight"):
            ours = weight.removesuffix(".weight")
            aliases = _text_aliases(ours) if part == "text" else _unet_aliases(ours, found.key)
            names.update(dict.fromkeys(aliases, (LoraTarget(name=ours),)))
    return names


def _transformer_names(source: PartSource) -> dict[str, Targets]:
    """diffusers' names, and those of the original layouts, whose layers may be several of ours."""
    table = FLUX if isinstance(source.transformer, FluxLayout) else SD3
    shapes = {
        name.removesuffix(".weight"): source.shape(name)
        for name in source.sources
        if name.endswith(".weight")
    }
    names: dict[str, Targets] = {}
    for ours in shapes:
        targets = (LoraTarget(name=ours),)
        flat = ours.replace(".", "_")
        for alias in (f"transformer.{ours}", ours, f"lora_transformer_{flat}", f"lycoris_{flat}"):
            names[alias] = targets
    for original, parts in original_modules(table, shapes).items():
        targets = tuple(LoraTarget(name=ours, part=part) for ours, part in parts)
        flat = original.replace(".", "_")
        for alias in (f"lora_unet_{flat}", f"diffusion_model.{original}", original):
            names[alias] = targets
    return names


def _unet_aliases(ours: str, key: str) -> Iterator[str]:
    ldm = key.removeprefix(PREFIXES["denoiser"]).removesuffix(".weight")
    yield "lora_unet_" + ours.replace(".", "_")
    yield "lora_unet_" + ldm.replace(".", "_")
    yield "lycoris_" + ours.replace(".", "_")
    yield "diffusion_model." + ldm
    yield "unet." + ours
    yield "base_model.model." + ours
    for start in ("unet.", ""):
        block, dot, layer = ours.removesuffix(".0").rpartition(".")
        yield f"{start}{block}{dot}processor.{layer}"


def _text_aliases(ours: str) -> Iterator[str]:
    tower, _, layer = ours.partition(".")
    for start in TEXT_STARTS.get(tower, ()):
        yield start + (layer if start.endswith(".") else layer.replace(".", "_"))


# Changes ------------------------------------------------------------------------------------------


def plan_lora(
    file: WeightFile, strength: float, part: str, source: PartSource
) -> dict[str, Change]:
    """Our weight name -> how the LoRA changes it; modules that do not fit are left out."""
    names = module_names(part, source)
    changes: dict[str, Change] = {}
    for module, roles in read_modules(file).items():
        targets = names.get(module)
        if targets is None or not _fits(file, roles, source, targets):
            continue
        for target in targets:
            name, cut = target.name, target.part
            if set(roles) != {"bias"}:
                scale = 1.0 if "alpha" in roles else stated_scale(file, module)
                changes[f"{name}.weight"] = _change(file, roles, strength, cut, scale)
            if "bias" in roles and f"{name}.bias" in source.sources:
                changes[f"{name}.bias"] = _change(file, {"diff": roles["bias"]}, strength, cut)
    return changes


def delta_of(roles: Mapping[str, object]) -> Callable[[Tensors], Tensor] | None:
    """The formula of a module's change, by the roles of its tensors; None where there is none."""
    return next((delta for needed, delta in DELTAS if roles.keys() >= set(needed)), None)


def stated_scale(file: WeightFile, module: str) -> float:
    """alpha / rank from the metadata that diffusers writes, 1 where it says nothing."""
    try:
        facts = json.loads(file.metadata.get("lora_adapter_metadata", "{}"))
        start = module.partition(".")[0]
        return float(facts[f"{start}.lora_alpha"]) / float(facts[f"{start}.r"])
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        return 1.0


def _change(
    file: WeightFile,
    roles: Mapping[str, str],
    strength: float,
    part: Source | None,
    scale: float = 1.0,
) -> Change:
    """`part` is what of the module's change belongs to the weight; None for all of it.

    `scale` multiplies the low-rank change.
    """
    formula = delta_of(roles)

    def change(weight: Tensor) -> Tensor:
        tensors = {r: file.tensor(key).to(weight.device, torch.float32) for r, key in roles.items()}
        if formula is None:
            return glora_change(tensors, weight, strength)
        delta = formula(tensors) * scale
        dora = tensors.get("dora")
        if part is not None:
            delta = part.read(delta.reshape(-1, *weight.shape[1:]))
            # A scale for each row goes with its row; one for each column serves all parts.
            dora = dora if dora is None or dora.shape[0] == 1 else part.read(dora)
        delta = delta.reshape(weight.shape)
        if "magnitude" in tensors:
            magnitude = tensors["magnitude"].flatten()
            magnitude = magnitude if part is None else part.read(magnitude)
            return peft_dora_change(magnitude, weight, delta, strength)
        if dora is not None:
            return dora_change(dora, weight, delta, strength)
        return weight + delta * strength

    return change
