"""The loss that all fine-tuning methods share: noise is added to latents, the network undoes it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

from engine.diffusion.training.base import Base
from engine.diffusion.training.data.batches import Batches, Draw
from engine.diffusion.training.data.cache import LatentCache
from engine.diffusion.training.objectives import (
    ObjectiveSettings,
    add_noise,
    draw_noise,
    draw_timesteps,
    item_losses,
    min_snr_weight,
    target_of,
    with_prior,
)
from engine.diffusion.training.text_context import Context

Encode = Callable[[Sequence[str]], Context]


@dataclass(frozen=True, kw_only=True)
class Noisy:
    """What a network is asked in one step, and the pictures that it comes from.

    Shapes: x and clean (B, C, h, w), t (B,), context (B, T, D), y (B, adm).
    """

    x: Tensor
    t: Tensor
    context: Tensor
    y: Tensor | None
    clean: Tensor
    draws: tuple[Draw, ...]
    data: Batches


Predict = Callable[[Noisy, torch.Generator], Tensor]
"""The raw output for noisy latents, with gradients. Shapes: → (B, C, h, w)."""


class Latents:
    """Encoded pictures; each is encoded alone, so that its latent never depends on its company.

    What no chance changes is kept on disk under `folder`.
    """

    def __init__(self, base: Base, data: Batches, folder: Path | None) -> None:
        self._base = base
        self._data = data
        recipe = repr((base.vae.weights_identity, base.pool.precision, base.device.type))
        is_kept = folder is not None and data.options.crop != "random"
        self._cache = LatentCache(folder, recipe) if folder is not None and is_kept else None

    def moments(self, draws: tuple[Draw, ...]) -> Tensor:
        """Mean and log-variance. Shapes: (B, 2 C, h, w) float32 on the CPU."""

        def make(positions: Sequence[int]) -> dict[str, Tensor]:
            pixels = [self._data.read((draws[i],)).pixels for i in positions]
            return {"moments": torch.cat([self._base.moments(one) for one in pixels])}

        if self._cache is None:
            return make(range(len(draws)))["moments"]
        return self._cache.get_all([d.key for d in draws], make)["moments"]


@dataclass(frozen=True, kw_only=True)
class DenoisingLoss:
    """The loss of one fresh batch, for the loop.

    Source: Rombach et al. 2022 (arXiv:2112.10752) eq. 2 and 3.
    """

    base: Base
    data: Batches
    latents: Latents
    settings: ObjectiveSettings
    encode: Encode
    predict: Predict | None = None

    def __call__(self, progress: float, generator: torch.Generator) -> Tensor:
        base, settings = self.base, self.settings
        draws = self.data.draw()
        x0 = base.denoiser.latent.entered(posterior_sample(self.latents.moments(draws), generator))
        noise = draw_noise(x0.shape, settings.offset_noise, generator)
        t = draw_timesteps(len(x0), len(base.alphas), settings, generator)
        alpha = base.alphas.cpu()[t]
        context = self.encode([d.text for d in draws])
        sizes = torch.tensor([d.placing.time_ids for d in draws])
        y = base.vector(context.pooled, sizes)
        noisy = Noisy(
            x=add_noise(x0, noise, alpha),
            t=t,
            context=context.embeds,
            y=y,
            clean=x0,
            draws=draws,
            data=self.data,
        )
        if self.predict is not None:
            predicted = self.predict(noisy, generator)
        else:
            predicted = base.predict(noisy.x, t, noisy.context, y)
        target = target_of(base.prediction, x0, noise, alpha).to(predicted.device)
        losses = item_losses(predicted, target, self._masks(draws, predicted))
        if settings.min_snr or settings.snr_floor:
            gamma = settings.min_snr or math.inf
            weight = min_snr_weight(base.prediction, alpha, gamma, settings.snr_floor)
            losses = losses * weight.to(losses.device)
        return with_prior(losses, [d.example.is_class for d in draws], settings.prior_weight)

    def _masks(self, draws: tuple[Draw, ...], like: Tensor) -> Tensor | None:
        masks = self.data.masks(draws)
        if masks is None:
            return None
        return F.interpolate(masks, like.shape[-2:], mode="area").to(like.device)


def posterior_sample(moments: Tensor, generator: torch.Generator) -> Tensor:
    """A latent drawn from its Gaussian. Shapes: (B, 2 C, h, w) → (B, C, h, w).

    Source: Kingma & Welling 2014 (arXiv:1312.6114) section 2.4.
    """
    mean, logvar = moments.chunk(2, 1)
    noise = torch.randn(mean.shape, generator=generator)
    return mean + noise * (0.5 * logvar.clamp(-30, 20)).exp()
