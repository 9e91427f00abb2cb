"""Nodes that open weight files: checkpoints, VAEs, ControlNets, LoRAs."""

from typing import Annotated

from engine.api import Choice, Clip, Float, Model, RunContext, Vae, node
from engine.api.recipe import FileRef, Recipe, WeightPatch
from engine.diffusion.checkpoint import open_checkpoint, open_vae


@node(
    "CheckpointLoaderSimple",
    title="Load Checkpoint",
    category="loaders",
    aliases=("LoadCheckpoint",),
    search=("model", "LoadCheckpoint"),
)
def load_checkpoint(
    ckpt_name: Annotated[str, Choice(folder="checkpoints")], ctx: RunContext
) -> tuple[Model, Clip, Vae]:
    """Opens a checkpoint file: its denoising model, text encoder and VAE."""
    path = ctx.files.resolve("checkpoints", ckpt_name)
    parts = open_checkpoint(path, ctx.files.digest(path), ckpt_name)
    missing = [name for name, part in (("CLIP", parts.clip), ("VAE", parts.vae)) if part is None]
    if missing:
        ctx.log(f"{ckpt_name} has no {' and no '.join(missing)}.")
    return parts.model, parts.clip, parts.vae  # pyright: ignore[reportReturnType]


@node("VAELoader", title="Load VAE", category="loaders")
def load_vae(vae_name: Annotated[str, Choice(folder="vae")], ctx: RunContext) -> Vae:
    """Opens a VAE file."""
    path = ctx.files.resolve("vae", vae_name)
    return open_vae(path, ctx.files.digest(path), vae_name)


def _lora(ctx: RunContext, name: str) -> FileRef:
    path = ctx.files.resolve("loras", name)
    return FileRef(path=str(path), digest=ctx.files.digest(path), name=name)


def _with_lora(recipe: Recipe, file: FileRef, strength: float) -> Recipe:
    if strength == 0.0:
        return recipe
    return recipe.with_patch(WeightPatch(kind="lora", file=file, strength=strength))


_Strength = Annotated[float, Float(1.0, min=-100.0, max=100.0, step=0.01)]


@node(
    "LoraLoader",
    title="Load LoRA",
    category="loaders",
    aliases=("LoRALoader",),
    search=("lora", "LoRALoader"),
)
def load_lora(
    model: Model,
    clip: Clip,
    lora_name: Annotated[str, Choice(folder="loras")],
    strength_model: _Strength,
    strength_clip: _Strength,
    ctx: RunContext,
) -> tuple[Model, Clip]:
    """Adds a LoRA to a model and its text encoder, each at a strength of its own."""
    file = _lora(ctx, lora_name)
    return _with_lora(model, file, strength_model), _with_lora(clip, file, strength_clip)


@node("LoraLoaderModelOnly", category="loaders")
def load_lora_model_only(
    model: Model,
    lora_name: Annotated[str, Choice(folder="loras")],
    strength_model: _Strength,
    ctx: RunContext,
) -> Model:
    """Adds a LoRA to a model, not to its text encoder."""
    return _with_lora(model, _lora(ctx, lora_name), strength_model)


NODES = [load_checkpoint, load_vae, load_lora, load_lora_model_only]
