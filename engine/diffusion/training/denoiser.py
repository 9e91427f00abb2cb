"""Training the built-in model's UNet on cached latents and cached contexts, and sampling it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from engine.diffusion.training.loop import Loss
from engine.diffusion.training.objectives import (
    add_noise,
    eps_loss,
    scaled_linear_alphas,
    skewed_timesteps,
)

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSet:
    """Scaled latents, one context each, the context of the empty prompt, and how often to draw.

    Shapes: latents (N, 4, h, w) with unit variance; contexts (N, 77, D) float16; empty (77, D);
    weights (N,), of any sum.
    """

    latents: Tensor
    contexts: np.ndarray
    empty: Tensor
    weights: Tensor


def denoiser_loss(
    unet: torch.nn.Module,
    data: LatentSet,
    *,
    batch: int = 64,
    drop: float = 0.1,
    high_share: float = 0.35,
) -> Loss:
    """Predicts the noise; a share `drop` of prompts is emptied for classifier-free guidance.

    Source: Ho & Salimans 2022 (arXiv:2207.12598) algorithm 1, with `eps_loss`.
    """
    alphas = scaled_linear_alphas()

    def loss(progress: float, generator: torch.Generator) -> Tensor:
        picks = torch.multinomial(data.weights, batch, replacement=True, generator=generator)
        x0 = data.latents[picks]
        context = torch.from_numpy(data.contexts[picks.numpy()].astype(np.float32))
        dropped = torch.rand(batch, generator=generator) < drop
        context[dropped] = data.empty
        t = skewed_timesteps(batch, high_share, generator)
        noise = torch.randn(x0.shape, generator=generator)
        noisy = add_noise(x0, noise, alphas[t]).contiguous(memory_format=torch.channels_last)
        predicted = unet(noisy, t, encoder_hidden_states=context, return_dict=False)[0]
        return eps_loss(predicted, noise, alphas[t])

    return loss


@torch.no_grad()
def sample_euler(
    unet: UNet2DConditionModel,
    context: Tensor,
    empty: Tensor,
    noise: Tensor,
    *,
    steps: int = 20,
    cfg: float = 2.0,
) -> Tensor:
    """Latents for contexts: Euler over evenly spaced timesteps with guidance.

    Shapes: context (B, 77, D), empty (77, D), noise (B, 4, h, w) → (B, 4, h, w).
    Source: Karras et al. 2022 (arXiv:2206.00364) algorithm 1 without its correction.
    """
    alphas = scaled_linear_alphas()
    table = ((1 - alphas) / alphas).sqrt()
    times = torch.linspace(999, 0, steps)
    low = times.floor().long()
    high = times.ceil().long()
    sigmas = torch.lerp(table[low].log(), table[high].log(), times - low).exp()
    sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
    both = torch.cat([context, empty.expand_as(context)])
    x = noise * (1 + sigmas[0] ** 2).sqrt()
    for t, sigma, following in zip(times, sigmas, sigmas[1:], strict=False):
        scaled = (x / (1 + sigma**2).sqrt()).repeat(2, 1, 1, 1)
        eps, plain = unet(scaled, t, encoder_hidden_states=both, return_dict=False)[0].chunk(2)
        x = x + (following - sigma) * (plain + cfg * (eps - plain))
    return x
