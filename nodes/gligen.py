"""Nodes that place texts in boxes (GLIGEN)."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

from engine.api import Choice, Clip, Conditioning, Int, RunContext, Socket, Text, node
from engine.diffusion.gligen import open_gligen, with_box
from engine.diffusion.latent_ops import FACTOR
from nodes.conditioning import clip_text_encode

if TYPE_CHECKING:
    from engine.api.recipe import Recipe

    Gligen: TypeAlias = Recipe
else:
    Gligen = Socket("GLIGEN")

_Extent = Annotated[int, Int(64, min=8, max=16384, step=8)]
_Place = Annotated[int, Int(0, min=0, max=16384, step=8)]


@node("GLIGENLoader", category="loaders")
def load_gligen(gligen_name: Annotated[str, Choice(folder="gligen")], ctx: RunContext) -> Gligen:
    """Opens a GLIGEN file: it lets texts steer boxes of a picture."""
    path = ctx.files.resolve("gligen", gligen_name)
    return open_gligen(path, ctx.files.digest(path), gligen_name)


@node("GLIGENTextBoxApply", category="conditioning/gligen")
def gligen_text_box_apply(
    conditioning_to: Conditioning,
    clip: Clip,
    gligen_textbox_model: Gligen,
    text: Annotated[str, Text(multiline=True, dynamicPrompts=True)],
    width: _Extent,
    height: _Extent,
    x: _Place,
    y: _Place,
    ctx: RunContext,
) -> Conditioning:
    """Lets a text steer one box of the picture, in pixels."""
    pooled = clip_text_encode(text, clip, ctx=ctx)[0][1]["pooled_output"]
    tall, wide, top, left = (side // FACTOR for side in (height, width, y, x))
    return with_box(conditioning_to, gligen_textbox_model, (pooled, tall, wide, top, left))


NODES = [load_gligen, gligen_text_box_apply]
