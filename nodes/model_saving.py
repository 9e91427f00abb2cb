"""Nodes that save models, their parts and LoRAs as files."""

from collections.abc import Mapping
from typing import Annotated, BinaryIO

from engine.api import (
    Choice,
    Clip,
    Int,
    Model,
    NodeError,
    NodeOutput,
    RunContext,
    Text,
    Toggle,
    Vae,
    node,
)
from engine.api.recipe import Recipe
from engine.diffusion.lora_extraction import extracted
from engine.diffusion.model_saving import (
    checkpoint_tensors,
    model_metadata,
    model_tensors,
    text_tensors,
    vae_tensors,
)
from engine.diffusion.tensor_writer import Saved, write_tensors
from nodes.picture_texts import workflow_texts

_CATEGORY = "advanced/model_merging"


def _save(
    ctx: RunContext,
    tensors: Mapping[str, Saved],
    prefix: str,
    *,
    model: Recipe | None = None,
    parts: tuple[Recipe, ...] = (),
    index: int = 0,
) -> str:
    """Writes a file with its workflow inside; gives its name below the output folder."""
    title = prefix.replace("\\", "/").rpartition("/")[2]
    metadata = {**model_metadata(ctx.models, model, parts, title), **workflow_texts(ctx)}
    if model is not None and model.hooks:
        ctx.log("Patches inside the network (FreeU …) are no weights; the file has none of them.")

    def write(file: BinaryIO) -> None:
        write_tensors(file, tensors, metadata, ctx.progress)

    saved = ctx.files.save(write, prefix=prefix, extension="safetensors", index=index)
    return f"{saved['subfolder']}/{saved['filename']}".lstrip("/")


def _told(ctx: RunContext, *names: str) -> NodeOutput:
    text = f"Saved {', '.join(names)}"
    ctx.text(text)
    return NodeOutput(ui={"text": [text]})


@node("CheckpointSave", title="Save Checkpoint", category=_CATEGORY, is_output=True)
def save_checkpoint(
    model: Model,
    clip: Clip,
    vae: Vae,
    filename_prefix: Annotated[str, Text("checkpoints/ComfyUI")],
    ctx: RunContext,
) -> NodeOutput:
    """Saves model, text encoder and VAE as one checkpoint, with LoRAs and merges in it."""
    tensors = checkpoint_tensors(ctx.models, model, clip, vae)
    parts = (vae, clip, model)
    return _told(ctx, _save(ctx, tensors, filename_prefix, model=model, parts=parts))


@node("ModelSave", title="ModelSave", category=_CATEGORY, is_output=True)
def save_model(
    model: Model,
    filename_prefix: Annotated[str, Text("diffusion_models/ComfyUI")],
    ctx: RunContext,
) -> NodeOutput:
    """Saves a diffusion model alone, with LoRAs and merges in it."""
    tensors = model_tensors(ctx.models, model)
    return _told(ctx, _save(ctx, tensors, filename_prefix, model=model, parts=(model,)))


@node("CLIPSave", title="CLIPSave", category=_CATEGORY, is_output=True)
def save_clip(
    clip: Clip, filename_prefix: Annotated[str, Text("clip/ComfyUI")], ctx: RunContext
) -> NodeOutput:
    """Saves a text encoder alone, with LoRAs and merges in it; each of several has its file."""
    names: list[str] = []
    for index, (tower, tensors) in enumerate(text_tensors(ctx.models, clip).items()):
        place = f"{filename_prefix}_{'clip_' if len(tower) == 1 else ''}{tower}"
        names.append(_save(ctx, tensors, place, parts=(clip,), index=index))
    return _told(ctx, *names)


@node("VAESave", title="VAESave", category=_CATEGORY, is_output=True)
def save_vae(
    vae: Vae, filename_prefix: Annotated[str, Text("vae/ComfyUI_vae")], ctx: RunContext
) -> NodeOutput:
    """Saves a VAE alone."""
    return _told(ctx, _save(ctx, vae_tensors(ctx.models, vae), filename_prefix, parts=(vae,)))


@node(
    "LoraSave",
    title="Extract and Save Lora",
    category="_for_testing",
    is_output=True,
    is_experimental=True,
)
def save_lora(
    filename_prefix: Annotated[str, Text("loras/ComfyUI_extracted_lora", multiline=False)],
    rank: Annotated[int, Int(8, min=1, max=4096, step=1)],
    lora_type: Annotated[str, Choice(("standard", "full_diff"))],
    bias_diff: Annotated[bool, Toggle(True)],
    ctx: RunContext,
    model_diff: Model | None = None,
    text_encoder_diff: Clip | None = None,
) -> NodeOutput:
    """Saves the difference of models as a LoRA.

    It takes the result of ModelMergeSubtract, or a model with LoRAs and merges: then what they
    change is saved. A small rank gives a small file and keeps the strongest changes.
    """
    parts = tuple(part for part in (text_encoder_diff, model_diff) if part is not None)
    if not parts:
        raise NodeError(
            "Neither model_diff nor text_encoder_diff is connected.",
            hint="Connect the result of ModelMergeSubtract, or a model with LoRAs.",
        )
    tensors: dict[str, Saved] = {}
    for part in parts:
        tensors |= extracted(
            ctx.models,
            part,
            rank=rank,
            is_full=lora_type == "full_diff",
            with_biases=bias_diff,
            on_layer=ctx.progress,
        )
    if not tensors:
        raise NodeError("The two models are equal: there is no difference to save.")
    return _told(ctx, _save(ctx, tensors, filename_prefix))


NODES = [save_checkpoint, save_model, save_clip, save_vae, save_lora]
