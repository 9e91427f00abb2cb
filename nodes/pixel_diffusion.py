"""Nodes of diffusion on pixels: a model without prompts and without a VAE."""

from typing import Annotated

from engine.api import Choice, Float, Image, Int, PixelModel, RunContext, node
from engine.diffusion.pixel_diffusion import open_pixel_model, sample_pixels
from nodes.sampling import Seed

_CATEGORY = "training/pixel diffusion"


@node("LoadPixelDiffusion", title="Load Pixel Diffusion", category=_CATEGORY, search=("DDPM",))
def load_pixel_diffusion(
    model_name: Annotated[str, Choice(folder="pixel_diffusion")], ctx: RunContext
) -> PixelModel:
    """Opens a model that Train Pixel Diffusion made."""
    path = ctx.files.resolve("pixel_diffusion", model_name)
    return open_pixel_model(path, ctx.files.digest(path), model_name)


@node(
    "SamplePixelDiffusion",
    title="Sample Pixel Diffusion",
    category=_CATEGORY,
    search=("DDPM", "DDIM", "unconditional"),
)
def sample_pixel_diffusion(
    pixel_model: PixelModel,
    seed: Seed,
    steps: Annotated[
        int, Int(100, min=1, max=1000, tooltip="1000 with eta 1 is the original DDPM.")
    ],
    eta: Annotated[
        float,
        Float(1.0, min=0.0, max=1.0, step=0.05, tooltip="Fresh noise in each step; 0 is DDIM."),
    ],
    batch_size: Annotated[int, Int(4, min=1, max=4096)],
    ctx: RunContext,
) -> Image:
    """Draws pictures out of noise with a model that learned on pixels: no prompt, no VAE."""
    with ctx.models.use(pixel_model) as loaded:
        return sample_pixels(
            loaded, count=batch_size, steps=steps, eta=eta, seed=seed, on_step=ctx.progress
        )


NODES = [load_pixel_diffusion, sample_pixel_diffusion]
