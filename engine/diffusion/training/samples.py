"""Sample pictures of a model in training: always the same prompts and seeds."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engine.api.recipe import Recipe
from engine.diffusion import vae as autoencoder
from engine.diffusion.controlnet import LoadedControl
from engine.diffusion.guidance import Guidance
from engine.diffusion.noise import RandomNoise
from engine.diffusion.sample import sample, sampler_sigmas
from engine.diffusion.samplers import SamplerChoice
from engine.diffusion.training.base import Base
from engine.diffusion.training.denoising import Encode
from engine.diffusion.training.settings import SampleSettings

NOTHING: Mapping[str, Any] = {}


def sample_pictures(
    base: Base,
    encode: Encode,
    settings: SampleSettings,
    *,
    options: Mapping[str, Any] = NOTHING,
    controls: Mapping[str, LoadedControl] = NOTHING,
) -> Tensor:
    """One picture for each prompt with the present weights.

    `options` are put into every conditioning; `controls` are the live ControlNets of those in it,
    by the keys of their recipes. Shapes: (N, H, W, 3) 0..1.
    """
    loaded = base.denoiser
    side = (settings.size_px or loaded.native_size) // loaded.latent.factor
    latent = torch.zeros(1, loaded.latent.channels, side, side)
    with torch.no_grad():
        negative = _conditioning(encode, "", options)
        positives = [_conditioning(encode, prompt, options) for prompt in settings.prompts]
    sigmas = sampler_sigmas(base.parameterization, "euler", "normal", settings.steps)
    pictures: list[Tensor] = []
    for positive in positives:
        guidance = Guidance(model=base.model, groups=(positive, negative), cfg=settings.cfg)
        result = sample(
            _Sampling(pool=_OwnPool(base, controls)),  # pyright: ignore[reportArgumentType] - all it needs
            guidance,
            SamplerChoice(name="euler"),
            sigmas,
            {"samples": latent},
            RandomNoise(settings.seed),
        )
        with base.pool.use(base.vae) as vae:
            pictures.append(autoencoder.decode(vae, result.samples))
    return torch.cat(pictures)


def _conditioning(
    encode: Encode, text: str, options: Mapping[str, Any]
) -> list[tuple[Tensor, dict[str, Any]]]:
    context = encode([text])
    return [(context.embeds.cpu(), {"pooled_output": context.pooled.cpu(), **options})]


@dataclass(frozen=True)
class _OwnPool:
    """Gives the denoiser and the ControlNets in training instead of loaded ones."""

    base: Base
    controls: Mapping[str, LoadedControl]

    @contextmanager
    def use(self, recipe: Recipe) -> Iterator[Any]:
        yield self.controls.get(recipe.key, self.base.denoiser)


@dataclass(frozen=True, kw_only=True)
class _Sampling:
    """What a sampling run asks of its context; it reports nothing."""

    pool: _OwnPool
    wants_previews: bool = field(default=False)

    @property
    def models(self) -> _OwnPool:
        return self.pool

    def progress(self, value: float, maximum: float, preview: Any = None) -> None: ...

    def check_cancelled(self) -> None: ...

    def log(self, message: str) -> None: ...
