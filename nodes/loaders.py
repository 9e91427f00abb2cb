"""Nodes that open weight files: checkpoints, VAEs, ControlNets, LoRAs."""

from contextlib import suppress
from typing import Annotated

from engine.api import Choice, Clip, Float, Model, RunContext, Text, Vae, node
from engine.api.errors import MissingModel
from engine.api.recipe import FileRef, Recipe
from engine.diffusion.checkpoint import open_checkpoint, open_vae
from engine.diffusion.hypernetwork import with_hypernetwork
from engine.diffusion.lora import add_lora, open_lora
from engine.diffusion.t5_tokenizer import FILE_NAMES, FOLDER, T5_FAMILIES
from engine.text.lora_tags import LoraTag, lora_tags, without_lora_tags

TOKENIZERS = tuple(f"{FOLDER}/{name}" for name in FILE_NAMES)  # of T5


def with_tokenizer(ctx: RunContext, clip: Recipe | None) -> Recipe | None:
    """A text part that knows where T5's tokenizer lies, if it has a T5 and the file is there."""
    if clip is None or clip.family not in T5_FAMILIES:
        return clip
    for name in FILE_NAMES:
        try:
            path = ctx.files.resolve(FOLDER, name)
        except MissingModel:
            continue
        return clip.with_option("t5_tokenizer", str(path))
    return clip


@node(
    "CheckpointLoaderSimple",
    title="Load Checkpoint",
    category="loaders",
    aliases=("LoadCheckpoint",),
    search=("model", "LoadCheckpoint"),
    reads=TOKENIZERS,
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
    clip = with_tokenizer(ctx, parts.clip)
    return parts.model, clip, parts.vae  # pyright: ignore[reportReturnType]


@node("VAELoader", title="Load VAE", category="loaders")
def load_vae(vae_name: Annotated[str, Choice(folder="vae")], ctx: RunContext) -> Vae:
    """Opens a VAE file."""
    path = ctx.files.resolve("vae", vae_name)
    return open_vae(path, ctx.files.digest(path), vae_name)


def _lora(ctx: RunContext, name: str) -> FileRef:
    path = ctx.files.resolve("loras", name)
    return open_lora(path, ctx.files.digest(path), name)


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
    patched_model = add_lora(model, file, strength_model, log=ctx.log)
    return patched_model, add_lora(clip, file, strength_clip, log=ctx.log)


@node("LoraLoaderModelOnly", category="loaders")
def load_lora_model_only(
    model: Model,
    lora_name: Annotated[str, Choice(folder="loras")],
    strength_model: _Strength,
    ctx: RunContext,
) -> Model:
    """Adds a LoRA to a model, not to its text encoder."""
    return add_lora(model, _lora(ctx, lora_name), strength_model, log=ctx.log)


@node(
    "LoraTags",
    title="Load LoRAs from Text",
    category="loaders",
    search=("<lora:", "A1111", "lora tag", "prompt"),
    output_names=("MODEL", "CLIP", "text"),
)
def load_loras_from_text(
    model: Model,
    clip: Clip,
    tagged_text: Annotated[str, Text(multiline=True, dynamicPrompts=True)],
    ctx: RunContext,
) -> tuple[Model, Clip, str]:
    """Adds the LoRAs that a prompt names as `<lora:name:weight>`, and gives the prompt without.

    Connect the text to CLIPTextEncode, whose own field gives such tags no meaning. Two weights are
    for the text encoder and for the model: `<lora:name:0.5:0.8>`.
    """
    for tag in lora_tags(tagged_text):
        file = _tagged_lora(ctx, tag)
        model = add_lora(model, file, tag.model, log=ctx.log)
        clip = add_lora(clip, file, tag.clip, log=ctx.log)
    return model, clip, without_lora_tags(tagged_text)


def _tagged_lora(ctx: RunContext, tag: LoraTag) -> FileRef:
    """The file of a tag. Raises: MissingModel, with the names that may be meant."""
    for name in tag.file_names:
        with suppress(MissingModel):
            return _lora(ctx, name)
    return _lora(ctx, f"{tag.name}.safetensors")


@node("HypernetworkLoader", title="HypernetworkLoader", category="loaders")
def load_hypernetwork(
    model: Model,
    hypernetwork_name: Annotated[str, Choice(folder="hypernetworks")],
    strength: Annotated[float, Float(1.0, min=-10.0, max=10.0, step=0.01)],
    ctx: RunContext,
) -> Model:
    """Lets a hypernetwork change how a model reads the prompt."""
    path = ctx.files.resolve("hypernetworks", hypernetwork_name)
    with ctx.models.use(model) as loaded:
        width = loaded.context_dim
    return with_hypernetwork(model, path, ctx.files.digest(path), strength, width)


NODES = [
    load_checkpoint,
    load_vae,
    load_lora,
    load_lora_model_only,
    load_loras_from_text,
    load_hypernetwork,
]
