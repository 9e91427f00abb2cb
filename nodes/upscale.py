"""Nodes that enlarge pictures with a model."""

from typing import Annotated

from engine.api import Choice, Image, RunContext, UpscaleModel, node
from engine.diffusion.upscaler import open_upscaler, upscale


@node("UpscaleModelLoader", title="Load Upscale Model", category="loaders", search=("ESRGAN",))
def load_upscale_model(
    model_name: Annotated[str, Choice(folder="upscale_models")], ctx: RunContext
) -> UpscaleModel:
    """Opens a model that enlarges pictures, such as ESRGAN."""
    path = ctx.files.resolve("upscale_models", model_name)
    return open_upscaler(path, ctx.files.digest(path), model_name)


@node(
    "ImageUpscaleWithModel",
    title="Upscale Image (using Model)",
    category="image/upscaling",
    search=("ESRGAN", "super resolution"),
)
def image_upscale_with_model(upscale_model: UpscaleModel, image: Image, ctx: RunContext) -> Image:
    """Enlarges pictures with an upscale model, tile by tile."""
    with ctx.models.use(upscale_model) as loaded:
        return upscale(loaded, image, on_tile=ctx.progress)


NODES = [load_upscale_model, image_upscale_with_model]
