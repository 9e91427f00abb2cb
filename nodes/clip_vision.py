"""Nodes that read pictures with CLIP."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

from engine.api import Choice, ClipVision, Image, RunContext, Socket, node
from engine.diffusion.clip_vision import encode_picture, open_clip_vision

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


NODES = [load_clip_vision, clip_vision_encode]
