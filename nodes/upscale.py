"""Nodes that enlarge pictures with a model."""

from typing import Annotated

from engine.api import (
    Choice,
    Conditioning,
    Float,
    Image,
    Latent,
    RunContext,
    UpscaleModel,
    node,
)
from engine.diffusion.conditioning_ops import with_options
from engine.diffusion.extra_input import picture_to_enlarge
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


@node(
    "SD_4XUpscale_Conditioning",
    category="conditioning/upscale_diffusion",
    output_names=("positive", "negative", "latent"),
    search=("x4 upscaler", "super resolution"),
)
def sd_4x_upscale_conditioning(
    images: Image,
    positive: Conditioning,
    negative: Conditioning,
    scale_ratio: Annotated[float, Float(4.0, min=0.0, max=10.0, step=0.01)],
    noise_augmentation: Annotated[float, Float(0.0, min=0.0, max=1.0, step=0.001)],
) -> tuple[Conditioning, Conditioning, Latent]:
    """Shows the x4 upscaler a picture to enlarge; with noise it may invent more of the details."""
    picture = picture_to_enlarge(images, scale_ratio)
    options = {"concat_image": picture, "noise_augmentation": noise_augmentation}
    return (
        with_options(positive, options),
        with_options(negative, options),
        {"samples": picture.new_zeros(picture.shape[0], 4, *picture.shape[-2:])},
    )


NODES = [load_upscale_model, image_upscale_with_model, sd_4x_upscale_conditioning]
