"""Nodes that let a picture's style join a prompt."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

from engine.api import Choice, Conditioning, Float, RunContext, Socket, node
from engine.diffusion.style_model import open_style_model, with_style
from nodes.clip_vision import ClipVisionOutput

if TYPE_CHECKING:
    from engine.api.recipe import Recipe

    StyleModel: TypeAlias = Recipe
else:
    StyleModel = Socket("STYLE_MODEL")


@node("StyleModelLoader", title="Load Style Model", category="loaders")
def load_style_model(
    style_model_name: Annotated[str, Choice(folder="style_models")], ctx: RunContext
) -> StyleModel:
    """Opens a style model of T2I-Adapter, for Stable Diffusion 1.x."""
    path = ctx.files.resolve("style_models", style_model_name)
    return open_style_model(path, ctx.files.digest(path), style_model_name)


@node("StyleModelApply", title="Apply Style Model", category="conditioning/style_model")
def style_model_apply(
    conditioning: Conditioning,
    style_model: StyleModel,
    clip_vision_output: ClipVisionOutput,
    strength: Annotated[float, Float(1.0, min=0.0, max=10.0, step=0.001)],
    strength_type: Annotated[str, Choice(("multiply",))],
    ctx: RunContext,
) -> Conditioning:
    """Lets a picture's style join a prompt, as words after its own."""
    with ctx.models.use(style_model) as loaded:
        words = loaded.words(clip_vision_output)
    return with_style(conditioning, words, strength)


NODES = [load_style_model, style_model_apply]
