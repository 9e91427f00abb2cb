"""Nodes that read pictures with CLIP."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

from engine.api import (
    Choice,
    Clip,
    ClipVision,
    Conditioning,
    Float,
    Image,
    Model,
    RunContext,
    Socket,
    Vae,
    node,
)
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.clip_vision import encode_picture, open_clip_vision
from engine.diffusion.unclip import with_picture

if TYPE_CHECKING:
    from engine.diffusion.clip_vision import ClipVisionOutput as _Output

    ClipVisionOutput: TypeAlias = _Output
else:
    ClipVisionOutput = Socket("CLIP_VISION_OUTPUT")


@node("CLIPVisionLoader", title="Load CLIP Vision", category="loaders")
def load_clip_vision(
    clip_name: Annotated[str, Choice(folder="clip_vision")], ctx: RunContext
) -> ClipVision:
    """Opens a CLIP vision file."""
    path = ctx.files.resolve("clip_vision", clip_name)
    return open_clip_vision(path, ctx.files.digest(path), clip_name)


@node("CLIPVisionEncode", title="CLIP Vision Encode", category="conditioning")
def clip_vision_encode(
    clip_vision: ClipVision,
    image: Image,
    crop: Annotated[str, Choice(("center", "none"))],
    ctx: RunContext,
) -> ClipVisionOutput:
    """Reads pictures with CLIP, for models that follow a picture."""
    with ctx.models.use(clip_vision) as loaded:
        return encode_picture(loaded, image, crop=crop == "center")


@node("unCLIPCheckpointLoader", category="loaders")
def load_unclip_checkpoint(
    ckpt_name: Annotated[str, Choice(folder="checkpoints")], ctx: RunContext
) -> tuple[Model, Clip, Vae, ClipVision]:
    """Opens an unCLIP checkpoint: a model that follows pictures, and its parts."""
    path = ctx.files.resolve("checkpoints", ckpt_name)
    digest = ctx.files.digest(path)
    parts = open_checkpoint(path, digest, ckpt_name)
    vision = open_clip_vision(path, digest, ckpt_name)
    return parts.model, parts.clip, parts.vae, vision  # pyright: ignore[reportReturnType]


@node("unCLIPConditioning", category="conditioning")
def unclip_conditioning(
    conditioning: Conditioning,
    clip_vision_output: ClipVisionOutput,
    strength: Annotated[float, Float(1.0, min=-10.0, max=10.0, step=0.01)],
    noise_augmentation: Annotated[float, Float(0.0, min=0.0, max=1.0, step=0.01)],
) -> Conditioning:
    """Lets an unCLIP model follow a picture; noise makes it follow less closely."""
    return with_picture(conditioning, clip_vision_output, strength, noise_augmentation)


NODES = [load_clip_vision, clip_vision_encode, load_unclip_checkpoint, unclip_conditioning]
