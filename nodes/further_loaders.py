"""Loader nodes that every client looks for, and the kinds of model that Weft cannot use yet."""

from pathlib import Path
from typing import Annotated, Never

from engine.api import (
    Choice,
    ClipVision,
    Model,
    NodeError,
    RunContext,
    Vae,
    node,
)
from engine.diffusion.checkpoint import open_checkpoint


@node("UNETLoader", title="Load Diffusion Model", category="advanced/loaders")
def load_unet(
    unet_name: Annotated[str, Choice(folder="diffusion_models")],
    weight_dtype: Annotated[str, Choice(("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"))],
    ctx: RunContext,
) -> Model:
    """Opens the denoising model of a file, without text encoder and VAE.

    With an fp8 weight_dtype the matrices take a quarter of the memory of fp32 and are rounded.
    """
    path = ctx.files.resolve("diffusion_models", unet_name)
    model = open_checkpoint(path, ctx.files.digest(path), unet_name).model
    if weight_dtype == "default":
        return model
    if weight_dtype.endswith("_fast"):
        ctx.log("Weights are kept in fp8; multiplying in fp8 is not done, so it is no faster.")
    return model.with_option("storage", weight_dtype.removesuffix("_fast"))


def _not_usable(path: Path, kind: str) -> Never:
    raise NodeError(
        f"{path.name} cannot be used: Weft has no {kind} yet.",
        hint="Leave this node out, or replace it by nodes that Weft has.",
    )


@node(
    "ImageOnlyCheckpointLoader",
    title="Image Only Checkpoint Loader (img2vid model)",
    category="loaders/video_models",
)
def load_image_only_checkpoint(
    ckpt_name: Annotated[str, Choice(folder="checkpoints")], ctx: RunContext
) -> tuple[Model, ClipVision, Vae]:
    """Refuses a picture-to-video checkpoint: such models cannot be used yet."""
    _not_usable(ctx.files.resolve("checkpoints", ckpt_name), "picture-to-video models")


NODES = [
    load_unet,
    load_image_only_checkpoint,
]
