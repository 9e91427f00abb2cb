"""Changes of weights: a recipe's ordered patches as one function per weight they touch.

A kind of patch is one entry of KINDS: a function that plans, from headers alone, which weights it
changes and how. The pool applies the changes in fp32 when a layer first runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.api.errors import ModelError
from engine.api.recipe import Option, Recipe, WeightPatch
from engine.diffusion.checkpoint import PartSource, open_controlnet
from engine.diffusion.keymap import PREFIXES
from engine.diffusion.lora import plan_lora
from engine.diffusion.weightfile import open_weights

Change = Callable[[Tensor], Tensor]  # a weight in fp32 -> the changed weight, a new tensor
WeightOf = Callable[[str], Tensor | None]


SAME_NETWORK = {"sd2", "sd2_unclip"}  # families that may be merged with each other


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchTarget:
    """The part that is patched: its weights by our names, and other recipes' weights."""

    part: str
    source: PartSource
    weights_of: Callable[[Recipe], WeightOf]


def plan_patches(patches: tuple[WeightPatch, ...], target: PatchTarget) -> dict[str, list[Change]]:
    """Our weight name -> its changes in order. Raises: ModelError, CorruptFile."""
    changes: dict[str, list[Change]] = {}
    for patch in patches:
        plan = KINDS.get(patch.kind)
        if plan is None:
            raise ModelError(f"There is no weight patch of the kind {patch.kind}.")
        for name, change in plan(patch, target).items():
            changes.setdefault(name, []).append(change)
    return changes


def _lora(patch: WeightPatch, target: PatchTarget) -> dict[str, Change]:
    assert patch.file is not None
    file = open_weights(Path(patch.file.path))
    return plan_lora(file, patch.strength, target.part, target.source)


def _mix(patch: WeightPatch, target: PatchTarget) -> dict[str, Change]:
    """`own` times the weight plus `strength` times the other recipe's, per block where stated.

    The option `blocks` holds (start of the LDM name, own, other); the longest start wins. A weight
    of another shape stays as it is.
    """
    assert patch.other is not None
    options: dict[str, Any] = dict(patch.options)
    own, blocks = options.get("own", 1.0), options.get("blocks", ())
    weight_of = target.weights_of(patch.other)
    return {
        name: _mix_one(name, weight_of, *_shares(source.key, own, patch.strength, blocks))
        for name, source in target.source.sources.items()
    }


def _shares(
    key: str, own: float, strength: float, blocks: tuple[tuple[str, float, float], ...]
) -> tuple[float, float]:
    """How much of the own and of the other weight a key of the file takes."""
    inner = key.removeprefix(PREFIXES["denoiser"])
    fitting = [block for block in blocks if inner.startswith(block[0])]
    if not fitting:
        return own, strength
    _, own, strength = max(fitting, key=lambda block: len(block[0]))
    return own, strength


def _mix_one(name: str, weight_of: WeightOf, own: float, strength: float) -> Change:
    def change(weight: Tensor) -> Tensor:
        other = weight_of(name)
        if other is None or other.shape != weight.shape:
            return weight
        return weight * own + other.to(weight.device) * strength

    return change


def _attention_scale(patch: WeightPatch, target: PatchTarget) -> dict[str, Change]:
    """The layers of a text tower's attention, weights and biases, times the factors of options."""
    factors: dict[str, Any] = dict(patch.options)
    found: dict[str, Change] = {}
    for name in target.source.sources:
        _, is_attention, inner = name.partition(".self_attn.")
        layer = inner.partition(".")[0].removesuffix("_proj")
        if is_attention and factors.get(layer, 1.0) != 1.0:
            found[name] = partial(_times, factors[layer])
    return found


def _times(factor: float, weight: Tensor) -> Tensor:
    return weight * factor


def with_scaled_attention(clip: Recipe, q: float, k: float, v: float, out: float) -> Recipe:
    """A text encoder whose queries, keys, values and attention's output are multiplied."""
    options: tuple[tuple[str, Option], ...] = (("q", q), ("k", k), ("v", v), ("out", out))
    return clip.with_patch(WeightPatch(kind="attention_scale", options=options))


KINDS: dict[str, Callable[[WeightPatch, PatchTarget], Mapping[str, Change]]] = {
    "lora": _lora,
    "mix": _mix,
    "attention_scale": _attention_scale,
}


# Recipes of mixed models --------------------------------------------------------------------------


def merged(first: Recipe, second: Recipe, ratio: float) -> Recipe:
    """`ratio` of the first model, the rest of the second."""
    return _mixed(first, second, own=ratio, strength=1.0 - ratio)


def added(first: Recipe, second: Recipe) -> Recipe:
    """The sum of two models' weights."""
    return _mixed(first, second, own=1.0, strength=1.0)


def open_control_difference(path: Path, digest: str, name: str, model: Recipe) -> Recipe:
    """A ControlNet; what a file that is marked `difference` holds is added to a model's weights.

    Raises: CorruptFile, NotThisFamily.
    """
    control = open_controlnet(path, digest, name)
    if "difference" not in open_weights(path):
        return control
    bare = replace(model, options=(), hooks=())
    return control.with_patch(WeightPatch(kind="mix", strength=1.0, other=bare))


def subtracted(first: Recipe, second: Recipe, multiplier: float) -> Recipe:
    """The difference of two models' weights, times `multiplier`."""
    return _mixed(first, second, own=multiplier, strength=-multiplier)


def merged_blocks(first: Recipe, second: Recipe, ratios: Mapping[str, float]) -> Recipe:
    """A merge with a ratio for each start of an LDM name (`input_blocks.`, `middle_block.`, `out`).

    What no start covers takes the first ratio.
    """
    blocks = tuple((start, ratio, 1.0 - ratio) for start, ratio in ratios.items())
    default = next(iter(ratios.values()))
    return _mixed(first, second, own=default, strength=1.0 - default, blocks=blocks)


def _mixed(
    first: Recipe,
    second: Recipe,
    *,
    own: float,
    strength: float,
    blocks: tuple[tuple[str, float, float], ...] = (),
) -> Recipe:
    """Raises: ModelError, where the two are parts of different kinds or families."""
    if first.part != second.part:
        raise ModelError(f"A {first.part} cannot be merged with a {second.part}.")
    if first.family != second.family and {first.family, second.family} != SAME_NETWORK:
        raise ModelError(
            f"{first.files[0].name} is of the family {first.family}, {second.files[0].name} of "
            f"{second.family}: their weights mean different things.",
            hint="Merge models of one family.",
        )
    bare = replace(second, options=(), hooks=())
    options: tuple[tuple[str, Option], ...] = (("own", own), ("blocks", blocks))
    return first.with_patch(WeightPatch(kind="mix", strength=strength, other=bare, options=options))
