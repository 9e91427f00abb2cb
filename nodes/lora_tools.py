"""Nodes that make LoRA files of others: extracted, merged, of another rank, in another format."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Annotated

from torch import Tensor

from engine.api import (
    Choice,
    Clip,
    Float,
    Int,
    Model,
    NodeError,
    NodeOutput,
    RunContext,
    node,
)
from engine.diffusion import lora_tools as tools
from engine.diffusion.lora import check_lora
from engine.diffusion.lora_extraction import extracted
from engine.diffusion.patches import subtracted
from engine.diffusion.training.adapter_files import LORA_FORMATS, LoraFormat
from engine.diffusion.training.node_runs import wish_of
from engine.diffusion.training.result_files import RUN_KEY, find_target, write_result
from engine.diffusion.weightfile import WeightFile, open_weights
from nodes.training_inputs import name_of

_CATEGORY = "training/lora tools"

_Lora = Annotated[str, Choice(folder="loras")]
_Rank = Annotated[
    int, Int(16, min=1, max=4096, tooltip="The largest rank: larger files keep more of the change.")
]


_OptionalStrength = Annotated[
    float, Float(0.0, min=-10.0, max=10.0, step=0.05, tooltip="0: it is left out.")
]


@node(
    "ExtractLora",
    title="Extract LoRA",
    category=_CATEGORY,
    output_names=("lora_name",),
    search=("difference", "svd", "checkpoint", "fine-tune"),
    is_output=True,
)
def extract_lora(
    trained_model: Model,
    original_model: Model,
    name: Annotated[str, name_of("my-extracted-lora")],
    rank: _Rank,
    ctx: RunContext,
    trained_clip: Clip | None = None,
    original_clip: Clip | None = None,
) -> Annotated[NodeOutput, str]:
    """Makes a LoRA of the difference between two models of one family, such as a fine-tuned
    checkpoint and its base: for each layer the nearest change of the rank. With both CLIPs the text
    encoder's difference is in it too."""
    if (trained_clip is None) != (original_clip is None):
        raise NodeError(
            "Only one of trained_clip and original_clip is connected.",
            hint="Connect both, or none to leave the text encoder out.",
        )
    pairs = [(trained_model, original_model)]
    if trained_clip is not None and original_clip is not None:
        pairs.append((trained_clip, original_clip))

    def make() -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for one, other in pairs:
            found = extracted(
                ctx.models,
                subtracted(one, other, 1.0),
                rank=rank,
                is_full=False,
                with_biases=False,
                on_layer=ctx.progress,
            )
            tensors |= {k: saved.read().to(saved.dtype).contiguous() for k, saved in found.items()}
        if not tensors:
            raise NodeError("The two models are equal: there is no difference to extract.")
        return tensors

    parts = [[repr(r.weights_identity) for r in pair] for pair in pairs]
    return _written(ctx, name, {"extract": parts, "rank": rank}, make)


@node(
    "MergeLoras",
    title="Merge LoRAs",
    category=_CATEGORY,
    output_names=("lora_name",),
    search=("combine", "mix"),
    is_output=True,
)
def merge_loras(
    lora_1: _Lora,
    strength_1: Annotated[float, Float(1.0, min=-10.0, max=10.0, step=0.05)],
    lora_2: _Lora,
    strength_2: Annotated[float, Float(1.0, min=-10.0, max=10.0, step=0.05)],
    lora_3: _Lora,
    strength_3: _OptionalStrength,
    lora_4: _Lora,
    strength_4: _OptionalStrength,
    name: Annotated[str, name_of("my-merged-lora")],
    rank: Annotated[
        int, Int(0, min=0, max=4096, tooltip="0: the ranks add up and nothing is lost.")
    ],
    ctx: RunContext,
) -> Annotated[NodeOutput, str]:
    """Makes one LoRA of several, each at its strength: it changes a model as they do together. A
    strength of 0 leaves one out."""
    given = ((lora_1, strength_1), (lora_2, strength_2), (lora_3, strength_3), (lora_4, strength_4))
    used = [(_opened(ctx, lora), strength) for lora, strength in given if strength]
    if not used:
        raise NodeError("All strengths are 0: there is nothing to merge.")
    files = [file for (file, _, _), _ in used]
    tools.require_alike(files)

    def make() -> dict[str, Tensor]:
        parts = [(_changes(ctx, file, lora), s) for (file, lora, _), s in used]
        changes = tools.merged(parts)
        if rank:
            changes = _resized(ctx, changes, rank)
        return tools.lora_file_tensors(changes, tools.stored_type(files))

    facts = {"merge": [[digest, s] for (_, _, digest), s in used], "rank": rank}
    return _written(ctx, name, facts, make)


@node(
    "ResizeLora",
    title="Resize LoRA",
    category=_CATEGORY,
    output_names=("lora_name",),
    search=("rank", "smaller", "svd", "compress"),
    is_output=True,
)
def resize_lora(
    lora: _Lora,
    name: Annotated[str, name_of("my-smaller-lora")],
    rank: _Rank,
    kept_share: Annotated[
        float,
        Float(
            1.0,
            min=0.1,
            max=1.0,
            step=0.01,
            tooltip="Below 1 each layer gets only the ranks that keep this share of its change.",
        ),
    ],
    ctx: RunContext,
) -> Annotated[NodeOutput, str]:
    """Makes a LoRA of a smaller rank that changes a model as nearly as it can as the old one does.
    LoHa and LoKr become plain LoRAs, which are read everywhere."""
    file, shown, digest = _opened(ctx, lora)

    def make() -> dict[str, Tensor]:
        changes = _resized(ctx, _changes(ctx, file, shown), rank, kept_share)
        return tools.lora_file_tensors(changes, tools.stored_type([file]))

    return _written(ctx, name, {"resize": digest, "rank": rank, "share": kept_share}, make)


@node(
    "ConvertLora",
    title="Convert LoRA",
    category=_CATEGORY,
    output_names=("lora_name",),
    search=("kohya", "diffusers", "peft", "format"),
    is_output=True,
)
def convert_lora(
    model: Model,
    clip: Clip,
    lora: _Lora,
    name: Annotated[str, name_of("my-converted-lora")],
    file_format: Annotated[LoraFormat, Choice(LORA_FORMATS)],
    ctx: RunContext,
) -> Annotated[NodeOutput, str]:
    """Writes a LoRA under the names of another format: kohya's, which are read everywhere, or those
    of diffusers and peft. The model says which layer is which: any checkpoint of the family."""
    file, shown, digest = _opened(ctx, lora)

    def make() -> dict[str, Tensor]:
        changes = tools.renamed(_changes(ctx, file, shown), (model, clip), file_format)
        return tools.lora_file_tensors(changes, tools.stored_type([file]))

    return _written(ctx, name, {"convert": digest, "format": file_format}, make)


def _opened(ctx: RunContext, name: str) -> tuple[WeightFile, str, str]:
    """A LoRA file, its name and its digest."""
    path = ctx.files.resolve("loras", name)
    file = open_weights(path)
    check_lora(file, name)
    return file, name, ctx.files.digest(path)


def _changes(ctx: RunContext, file: WeightFile, name: str) -> tools.Changes:
    changes, left_out = tools.read_changes(file, name)
    if left_out:
        ctx.log(f"{name}: {len(left_out)} changes of biases and norms are left out.")
    return changes


def _resized(
    ctx: RunContext, changes: tools.Changes, rank: int, share: float = 1.0
) -> dict[str, tools.LowRank]:
    made: dict[str, tools.LowRank] = {}
    lowest = 1.0
    for number, (module, change) in enumerate(changes.items()):
        made[module], kept = tools.resized(change, rank, share)
        lowest = min(lowest, kept)
        ctx.progress(number + 1, len(changes))
    ranks = sorted({change.rank for change in made.values()})
    ctx.text(
        f"Ranks {ranks[0]} to {ranks[-1]}; each layer keeps at least {lowest:.1%} of its change"
    )
    return made


def _written(
    ctx: RunContext,
    name: str,
    facts: Mapping[str, object],
    make: Callable[[], Mapping[str, Tensor]],
) -> NodeOutput:
    """Writes a LoRA; one that was made of the same before is the answer."""
    told = json.dumps(facts, sort_keys=True)
    run = hashlib.sha256(told.encode()).hexdigest()[:32]
    wish = wish_of(ctx, "loras", name)
    target = find_target(wish.path, run)
    if not target.is_finished:
        write_result(target.path, make(), {RUN_KEY: run, "weft.lora.made_of": told})
    file = wish.granted(ctx, target.path)
    return NodeOutput(result=(file.name,), ui={"text": [file.name]})


NODES = [extract_lora, merge_loras, resize_lora, convert_lora]
