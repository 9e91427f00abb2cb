"""Nodes that change how a model works inside, or how its mask is used."""

from typing import Annotated

from engine.api import Float, Model, RunContext, node
from engine.api.node import Widget
from engine.api.recipe import Hook
from engine.diffusion.freeu import freeu_patch
from engine.diffusion.mask_steps import differential_mask

_CATEGORY = "model_patches/unet"


def _scale(default: float) -> Widget:
    return Float(default, min=0.0, max=10.0, step=0.01)


def _with_freeu(
    ctx: RunContext, model: Model, scales: tuple[float, float, float, float], *, is_v2: bool
) -> Model:
    with ctx.models.use(model) as loaded:
        width = loaded.layout.width
    patch = freeu_patch(width, *scales, is_v2=is_v2)
    key = f"freeu:{is_v2}:{width}:{scales}"
    return model.with_hook(Hook(slot="output_block_patch", function=patch, key=key), append=True)


@node("FreeU", category=_CATEGORY)
def freeu(
    model: Model,
    b1: Annotated[float, _scale(1.1)],
    b2: Annotated[float, _scale(1.2)],
    s1: Annotated[float, _scale(0.9)],
    s2: Annotated[float, _scale(0.2)],
    ctx: RunContext,
) -> Model:
    """Strengthens a UNet's backbone and weakens its skip connections: steadier pictures."""
    return _with_freeu(ctx, model, (b1, b2, s1, s2), is_v2=False)


@node("FreeU_V2", category=_CATEGORY)
def freeu_v2(
    model: Model,
    b1: Annotated[float, _scale(1.3)],
    b2: Annotated[float, _scale(1.4)],
    s1: Annotated[float, _scale(0.9)],
    s2: Annotated[float, _scale(0.2)],
    ctx: RunContext,
) -> Model:
    """The second version of FreeU, which follows the picture's structure."""
    return _with_freeu(ctx, model, (b1, b2, s1, s2), is_v2=True)


@node(
    "DifferentialDiffusion",
    title="Differential Diffusion",
    category="_for_testing",
    is_experimental=True,
)
def differential_diffusion(
    model: Model,
    strength: Annotated[float, Float(1.0, min=0.0, max=1.0, step=0.01)] = 1.0,
) -> Model:
    """Repaints the more of a place the brighter its mask is, step by step."""
    hook = Hook(
        slot="denoise_mask_function",
        function=differential_mask(strength),
        key=f"differential:{strength}",
    )
    return model.with_hook(hook)


NODES = [freeu, freeu_v2, differential_diffusion]
