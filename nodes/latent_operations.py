"""Nodes that make operations on latents, and apply them."""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from engine.api import Float, Int, Latent, Model, Socket, node
from engine.diffusion.latent_operations import on_guidance, sharpened, tonemapped
from engine.diffusion.latent_ops import resized

if TYPE_CHECKING:
    LatentOperation: TypeAlias = Any
else:
    LatentOperation = Socket("LATENT_OPERATION")

_CATEGORY = "latent/advanced/operations"


@node("LatentOperationSharpen", category=_CATEGORY, is_experimental=True)
def latent_operation_sharpen(
    sharpen_radius: Annotated[int, Int(9, min=1, max=31, step=1)],
    sigma: Annotated[float, Float(1.0, min=0.1, max=10.0, step=0.1)],
    alpha: Annotated[float, Float(0.1, min=0.0, max=5.0, step=0.01)],
) -> LatentOperation:
    """Sharpens latents."""
    return sharpened(sharpen_radius, sigma, alpha)


@node("LatentOperationTonemapReinhard", category=_CATEGORY, is_experimental=True)
def latent_operation_tonemap_reinhard(
    multiplier: Annotated[float, Float(1.0, min=0.0, max=100.0, step=0.01)],
) -> LatentOperation:
    """Softens the strongest places of latents, against burnt-out pictures at a high cfg."""
    return tonemapped(multiplier)


@node("LatentApplyOperation", category=_CATEGORY, is_experimental=True)
def latent_apply_operation(samples: Latent, operation: LatentOperation) -> Latent:
    """Applies an operation to a latent."""
    return resized(samples, operation(samples["samples"]))


@node("LatentApplyOperationCFG", category=_CATEGORY, is_experimental=True)
def latent_apply_operation_cfg(model: Model, operation: LatentOperation) -> Model:
    """Applies an operation, at each step, to what the prompt adds to the picture."""
    return model.with_hook(on_guidance(operation), append=True)


NODES = [
    latent_operation_sharpen,
    latent_operation_tonemap_reinhard,
    latent_apply_operation,
    latent_apply_operation_cfg,
]
