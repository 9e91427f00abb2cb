"""A latent put to a noise level without sampling."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.diffusion.finite import check_finite
from engine.diffusion.latent_ops import check_channels, resized
from engine.diffusion.noise import NoiseMaker
from engine.diffusion.sample import parameterization_of

if TYPE_CHECKING:
    from engine.api.context import RunContext
    from engine.api.recipe import Recipe
    from engine.api.types import LatentDict


def with_noise(
    ctx: "RunContext", recipe: "Recipe", source: NoiseMaker, sigmas: Tensor, latent: "LatentDict"
) -> "LatentDict":
    """A latent with the noise that lies between the first and the last sigma.

    A single sigma is the level itself; none changes nothing. Raises: NodeError (shapes, NaN).
    """
    if len(sigmas) == 0:
        return latent
    level = (sigmas[0] - sigmas[-1]).abs() if len(sigmas) > 1 else sigmas[0]
    with ctx.models.use(recipe) as loaded:
        model, space = parameterization_of(loaded, recipe), loaded.latent
    samples = latent["samples"]
    check_channels(samples, space.channels, "model")
    clean = space.entered(samples.to(torch.float32))
    noise = source.generate_noise(latent).to(torch.float32)
    noisy = space.left(model.noised(clean, noise, level, is_start=False))
    check_finite(noisy, "Adding noise gave", "Check the sigmas and the latent.")
    return resized(latent, noisy)
