"""Nodes that open parts of models, and models in other layouts than one file."""

from typing import Annotated

from engine.api import Choice, Clip, Model, RunContext, Vae, node
from engine.api.recipe import FileRef
from engine.diffusion.checkpoint import open_checkpoint, open_text
from engine.diffusion.diffusers_folder import open_diffusers
from engine.diffusion.model_config import with_config
from engine.diffusion.single_file import JOINT
from nodes.loaders import TOKENIZERS, with_tokenizer

_CATEGORY = "advanced/loaders"
_TextFile = Annotated[str, Choice(folder="text_encoders")]
_Device = Annotated[str, Choice(("default", "cpu"))]


def _text(ctx: RunContext, names: tuple[str, ...], device: str = "default", kind: str = "") -> Clip:
    files: list[FileRef] = []
    for name in names:
        path = ctx.files.resolve("text_encoders", name)
        files.append(FileRef(path=str(path), digest=ctx.files.digest(path), name=name))
    clip = with_tokenizer(ctx, open_text(files, kind if kind in JOINT else None))
    assert clip is not None
    return clip.with_option("device", "cpu") if device == "cpu" else clip


@node("CLIPLoader", title="Load CLIP", category=_CATEGORY, reads=TOKENIZERS)
def load_clip(
    clip_name: _TextFile,
    type: Annotated[str, Choice(("stable_diffusion", "sd3"))],
    ctx: RunContext,
    device: _Device = "default",
) -> Clip:
    """Opens a text encoder from a file of its own; SD3 can do with one of its three."""
    return _text(ctx, (clip_name,), device, type)


@node("DualCLIPLoader", title="DualCLIPLoader", category=_CATEGORY, reads=TOKENIZERS)
def load_clip_pair(
    clip_name1: _TextFile,
    clip_name2: _TextFile,
    type: Annotated[str, Choice(("sdxl", "sd3", "flux"))],
    ctx: RunContext,
    device: _Device = "default",
) -> Clip:
    """Opens two text encoders from files of their own, in any order: CLIP-L and CLIP-G for SDXL,
    CLIP-L and T5 for Flux, two of its three for SD3."""
    return _text(ctx, (clip_name1, clip_name2), device, type)


@node("TripleCLIPLoader", category=_CATEGORY, reads=TOKENIZERS)
def load_clip_triple(
    clip_name1: _TextFile, clip_name2: _TextFile, clip_name3: _TextFile, ctx: RunContext
) -> Clip:
    """Opens the three text encoders of SD3 from files of their own, in any order."""
    return _text(ctx, (clip_name1, clip_name2, clip_name3), kind="sd3")


@node("DiffusersLoader", title="DiffusersLoader", category=f"{_CATEGORY}/deprecated")
def load_diffusers(
    model_path: Annotated[str, Choice(folder="diffusers")], ctx: RunContext
) -> tuple[Model, Clip, Vae]:
    """Opens a model that lies in a folder in diffusers' layout."""
    parts = open_diffusers(ctx.files.resolve("diffusers", model_path), ctx.files.digest)
    return parts.model, parts.clip, parts.vae  # pyright: ignore[reportReturnType]


@node(
    "CheckpointLoader",
    title="Load Checkpoint With Config (DEPRECATED)",
    category=_CATEGORY,
    is_deprecated=True,
)
def load_checkpoint_with_config(
    config_name: Annotated[str, Choice(folder="configs")],
    ckpt_name: Annotated[str, Choice(folder="checkpoints")],
    ctx: RunContext,
) -> tuple[Model, Clip, Vae]:
    """Opens a checkpoint as its training configuration says; Load Checkpoint needs none."""
    path = ctx.files.resolve("checkpoints", ckpt_name)
    parts = open_checkpoint(path, ctx.files.digest(path), ckpt_name)
    model = with_config(parts.model, ctx.files.resolve("configs", config_name))
    return model, parts.clip, parts.vae  # pyright: ignore[reportReturnType]


NODES = [load_clip, load_clip_pair, load_clip_triple, load_diffusers, load_checkpoint_with_config]
