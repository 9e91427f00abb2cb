"""One sampling run: noise, schedule, mask and denoiser brought together for a sampler."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.conditioning_batch import Entry, Target, fit_batch, resolve
from engine.diffusion.control_link import Controls, control_recipes
from engine.diffusion.controlnet import LoadedControl, check_control
from engine.diffusion.denoiser import GuidedDenoiser, MaskedDenoiser, NetworkApply
from engine.diffusion.finite import check_finite
from engine.diffusion.gligen import LoadedGligen, gligen_recipes
from engine.diffusion.guidance import Guidance
from engine.diffusion.latent_ops import check_channels
from engine.diffusion.network import LoadedDenoiser
from engine.diffusion.noise import SEED_LIMIT, NoiseMaker, NoiseSource, initial_noise
from engine.diffusion.parameterization import Parameterization, parameterization
from engine.diffusion.preview import FACTORS, latent_preview
from engine.diffusion.samplers import SAMPLERS, SamplerChoice
from engine.diffusion.schedules import schedule

if TYPE_CHECKING:
    from engine.api.context import RunContext
    from engine.api.recipe import Recipe
    from engine.api.types import LatentDict
    from engine.diffusion.network import Denoiser

SAMPLING_HINT = "Check the schedule and cfg; on a GPU try --precision fp32."
INPUT_HINT = "Look at the node that made it: there something went wrong first."


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What a run gives: the latent where it stopped, and the last prediction of the clean one."""

    samples: Tensor
    denoised: Tensor


def parameterization_of(loaded: "Denoiser", recipe: "Recipe") -> Parameterization:
    """The parameterization of a loaded model, as its recipe's `sampling` option changes it."""
    sampling = recipe.option("sampling") or loaded.sampling
    return parameterization(loaded.parameterization_name, loaded.alphas_cumprod, sampling)


def model_parameterization(ctx: "RunContext", recipe: "Recipe") -> Parameterization:
    """The same for a model that is not loaded yet."""
    with ctx.models.use(recipe) as loaded:
        return parameterization_of(loaded, recipe)


def sampler_sigmas(
    model: Parameterization, sampler: str, name: str, steps: int, denoise: float = 1.0
) -> Tensor:
    """The schedule as KSampler runs it: some samplers leave out the second-last level."""
    if not SAMPLERS[sampler].drops_second_last:
        return schedule(model, name, steps, denoise)
    if denoise <= 0.0:
        return torch.zeros(0)
    total = steps if denoise > 0.9999 else int(steps / denoise)
    full = schedule(model, name, total + 1)
    return torch.cat([full[:-2], full[-1:]])[-(steps + 1) :]


def step_range(sigmas: Tensor, start: int, end: int | None, *, ends_clean: bool) -> Tensor:
    """The part of a schedule between two steps; empty if it starts past the end.

    `ends_clean`: whatever noise is left at the end is removed in its last step.
    """
    if end is not None and end < len(sigmas) - 1:
        sigmas = sigmas[: end + 1]
        if ends_clean:
            sigmas = torch.cat([sigmas[:-1], sigmas.new_zeros(1)])
    return sigmas[start:] if start < len(sigmas) - 1 else sigmas.new_zeros(0)


def sample(
    ctx: "RunContext",
    guidance: Guidance,
    sampler: SamplerChoice,
    sigmas: Tensor,
    latent: "LatentDict",
    source: NoiseMaker,
) -> Sampled:
    """Samples a latent from `sigmas[0]` to `sigmas[-1]`, starting with the noise of a source.

    Raises: NodeError (shapes that do not fit, NaN), Cancelled.
    """
    samples = latent["samples"]
    if len(sigmas) == 0:
        return Sampled(samples=samples, denoised=samples)
    check_finite(sigmas, "The schedule holds", SAMPLING_HINT)
    check_finite(samples, "The latent that came in holds", INPUT_HINT)
    for number, group in enumerate(guidance.groups):
        for embeds, _ in group:
            name = "negative" if 0 < number == len(guidance.groups) - 1 else "positive"
            check_finite(embeds, f"The {name} conditioning that came in holds", INPUT_HINT)
    for change in guidance.model.hooks_of("guidance"):
        guidance = change(guidance)
    with ExitStack() as stack:
        loaded = stack.enter_context(ctx.models.use(guidance.model))
        controls: dict[str, LoadedControl] = {}
        for key, recipe in control_recipes(guidance.groups).items():
            controls[key] = stack.enter_context(ctx.models.use(recipe))
            _check_control(controls[key], loaded, recipe.files[0].name)
        gligens = {
            key: stack.enter_context(ctx.models.use(recipe))
            for key, recipe in gligen_recipes(guidance.groups).items()
        }
        run = _Run(
            ctx=ctx,
            loaded=loaded,
            controls=controls,
            gligens=gligens,
            guidance=guidance,
            sampler=sampler,
            sigmas=sigmas,
        )
        return run.sampled(latent, source)


@dataclass(frozen=True, kw_only=True)
class _Run:
    ctx: "RunContext"
    loaded: "Denoiser"
    controls: Mapping[str, LoadedControl]
    gligens: Mapping[str, LoadedGligen]
    guidance: Guidance
    sampler: SamplerChoice
    sigmas: Tensor

    def sampled(self, latent: "LatentDict", source: NoiseMaker) -> Sampled:
        loaded, device = self.loaded, self.loaded.device
        samples = fixed_empty_latent(latent["samples"], loaded.latent.channels)
        check_channels(samples, loaded.latent.channels, "model")
        noise = source.generate_noise({**latent, "samples": samples})
        model = parameterization_of(loaded, self.guidance.model)
        sigmas = self.sigmas.to(device)
        clean = samples.to(device, torch.float32)
        if bool(clean.any()):
            clean = loaded.latent.entered(clean)
        noise = noise.to(device, torch.float32)
        denoise = self._denoiser(model, clean, latent.get("noise_mask"), noise, source.seed)
        x = model.noised(clean, noise, sigmas[0], is_start=model.is_largest(float(sigmas[0])))
        progress = _Progress(ctx=self.ctx, total=len(sigmas) - 1, preview=self._preview())
        self.ctx.check_cancelled()
        with torch.no_grad():
            x = self.sampler.sample(
                denoise, x, sigmas, noise=NoiseSource(x, source.seed), on_step=progress.on_step
            )
        check_finite(x, "Sampling gave", SAMPLING_HINT)
        x = model.finished(x, sigmas[-1])
        denoised = x if progress.denoised is None else progress.denoised
        left = loaded.latent.left
        return Sampled(samples=left(x).cpu(), denoised=left(denoised).cpu())

    def _denoiser(
        self, model: Parameterization, clean: Tensor, mask: Tensor | None, noise: Tensor, seed: int
    ) -> GuidedDenoiser | MaskedDenoiser:
        loaded, recipe = self.loaded, self.guidance.model
        if mask is not None:
            mask = fitted_noise_mask(mask, clean.shape).to(clean.device)
        target = Target(
            model=model,
            latent=clean,
            noise_mask=mask,
            extra_channels=loaded.in_channels - loaded.latent.channels,
            context_dim=loaded.context_dim,
            adm_channels=loaded.adm_channels,
            space=loaded.latent,
            is_joint=loaded.is_joint,
            extras=loaded.extra_conditions,
            vector=loaded.vector,
            has_noise_level=loaded.has_noise_level,
            embed_statistics=loaded.embed_statistics,
            seed=seed,
        )
        groups = resolve(self.guidance.groups, target)
        if self.sampler.spec.resizes:
            _check_resizable(mask, [entry for group in groups for entry in group])
        wrappers = recipe.hooks_of("unet_function_wrapper")
        denoise = GuidedDenoiser(
            model=model,
            apply=NetworkApply(
                network=loaded,
                model=model,
                controls=Controls(model=model, loaded=self.controls),
                wrapper=wrappers[-1] if wrappers else None,
                generator=after_noise(clean, seed),
                gligens=self.gligens,
            ),
            guidance=self.guidance,
            groups=groups,
            most_cells=loaded.most_cells,
        )
        if mask is None:
            return denoise
        if self.sampler.spec.has_random_inpaint:
            noise = initial_noise(clean.cpu(), seed + 1).to(clean.device)
        hooks = recipe.hooks_of("denoise_mask_function")
        return MaskedDenoiser(
            inner=denoise,
            mask=mask,
            latent=clean,
            noise=noise,
            hook=hooks[-1] if hooks else None,
            sigmas=self.sigmas,
        )

    def _preview(self) -> "Callable[[Tensor], Tensor] | None":
        if not self.ctx.wants_previews:
            return None
        factors = self.loaded.latent_rgb_factors or FACTORS.get(self.loaded.family)
        return lambda x: latent_preview(x, factors)


@dataclass(kw_only=True)
class _Progress:
    """Reports each step, keeps the last prediction."""

    ctx: "RunContext"
    total: int
    preview: Callable[[Tensor], Tensor] | None
    denoised: Tensor | None = None

    def on_step(self, index: int, x: Tensor, denoised: Tensor) -> None:
        check_finite(denoised, f"Step {index + 1} of {self.total} gave", SAMPLING_HINT)
        self.denoised = denoised
        picture = self.preview(denoised) if self.preview else None
        self.ctx.progress(index + 1, self.total, picture)


def _check_control(control: LoadedControl, loaded: "Denoiser", name: str) -> None:
    """Raises: NodeError, where a ControlNet does not fit a UNet, or misses its kind of pictures."""
    if isinstance(loaded, LoadedDenoiser):
        check_control(control.layout, loaded.layout, name)
    if control.layout.control_types is not None and control.control_type is None:
        raise NodeError(
            f"The ControlNet {name} is for several kinds of pictures, and was not told which.",
            hint="Put SetUnionControlNetType between its loader and Apply ControlNet.",
        )


def _check_resizable(noise_mask: Tensor | None, entries: Sequence[Entry]) -> None:
    """Raises: NodeError, where something only fits the latent's first size."""
    fixed = {
        "a noise mask": noise_mask is not None,
        "an area": any(e.area is not None for e in entries),
        "a mask on a prompt": any(e.mask is not None for e in entries),
        "a picture beside the latent": any(e.concat is not None for e in entries),
    }
    for what, is_there in fixed.items():
        if is_there:
            raise NodeError(
                f"This sampler changes the latent's size, but {what} has a fixed one.",
                hint="Take another sampler, or leave that out.",
            )


def fitted_noise_mask(mask: Tensor, shape: torch.Size) -> Tensor:
    """A noise mask (H, W), (B, H, W) or (B, 1, H, W) in a latent's shape (B, 1, h, w)."""
    mask = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    if mask.shape[-2:] != shape[-2:]:
        mask = F.interpolate(mask, shape[-2:], mode="bilinear")
    return fit_batch(mask, shape[0])


def fixed_empty_latent(samples: Tensor, channels: int) -> Tensor:
    """An empty latent with the model's number of channels; other latents as they are."""
    if samples.shape[1] == channels or bool(samples.any()):
        return samples
    return samples.new_zeros(samples.shape[0], channels, *samples.shape[2:])


def after_noise(latent: Tensor, seed: int) -> torch.Generator:
    """A generator of a seed that has drawn a latent's noise, as hooks find it there."""
    generator = torch.Generator().manual_seed(seed % SEED_LIMIT)
    torch.randn(latent.shape, generator=generator)
    return generator
