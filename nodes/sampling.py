"""The KSampler nodes."""

from typing import Annotated

from engine.api import Choice, Conditioning, Float, Int, Latent, Model, RunContext, node
from engine.api.types import LatentDict
from engine.diffusion.guidance import Guidance
from engine.diffusion.noise import NoNoise, RandomNoise
from engine.diffusion.sample import (
    Sampled,
    model_parameterization,
    sample,
    sampler_sigmas,
    step_range,
)
from engine.diffusion.samplers import OTHER_NAMES, SAMPLER_NAMES, SamplerChoice
from engine.diffusion.schedules import SCHEDULE_NAMES

Seed = Annotated[int, Int(0, min=0, max=2**64 - 1, control_after_generate=True)]
Steps = Annotated[int, Int(20, min=1, max=10000)]
Cfg = Annotated[float, Float(8.0, min=0.0, max=100.0, step=0.1, round=0.01)]
SamplerName = Annotated[str, Choice(SAMPLER_NAMES, other_names=dict(OTHER_NAMES))]
ScheduleName = Annotated[str, Choice(SCHEDULE_NAMES)]


def with_samples(latent: LatentDict, result: Sampled) -> Latent:
    """The latent with new samples; its mask and other keys stay."""
    return {**latent, "samples": result.samples}


@node(
    "KSampler",
    category="sampling",
    search=("sample", "generate", "PNDM", "K-LMS", "Euler a", "DPM", "DDIM"),
)
def ksampler(
    model: Model,
    seed: Seed,
    steps: Steps,
    cfg: Cfg,
    sampler_name: SamplerName,
    scheduler: ScheduleName,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    denoise: Annotated[float, Float(1.0, min=0.0, max=1.0, step=0.01)],
    ctx: RunContext,
) -> Latent:
    """Samples a latent: starts from seeded noise and follows the prompts.

    What courses call PNDM is pndm (with the schedule ddim_uniform), K-LMS is lms, Euler a is
    euler_ancestral, DPM is dpm_2 and the names that begin with dpmpp.
    """
    sigmas = sampler_sigmas(
        model_parameterization(ctx, model), sampler_name, scheduler, steps, denoise
    )
    guidance = Guidance(model=model, groups=(positive, negative), cfg=cfg)
    result = sample(
        ctx,
        guidance,
        SamplerChoice(name=sampler_name),
        sigmas,
        latent_image,
        RandomNoise(seed),
    )
    return with_samples(latent_image, result)


_EnableFirst = Annotated[str, Choice(("enable", "disable"))]
_DisableFirst = Annotated[str, Choice(("disable", "enable"))]


@node("KSamplerAdvanced", title="KSampler (Advanced)", category="sampling")
def ksampler_advanced(
    model: Model,
    add_noise: _EnableFirst,
    noise_seed: Seed,
    steps: Steps,
    cfg: Cfg,
    sampler_name: SamplerName,
    scheduler: ScheduleName,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    start_at_step: Annotated[int, Int(0, min=0, max=10000)],
    end_at_step: Annotated[int, Int(10000, min=0, max=10000)],
    return_with_leftover_noise: _DisableFirst,
    ctx: RunContext,
) -> Latent:
    """Samples a part of a schedule, so that several samplers can share it.

    A multistep sampler loses its history where it is split.
    """
    whole = sampler_sigmas(model_parameterization(ctx, model), sampler_name, scheduler, steps)
    sigmas = step_range(
        whole, start_at_step, end_at_step, ends_clean=return_with_leftover_noise == "disable"
    )
    result = sample(
        ctx,
        Guidance(model=model, groups=(positive, negative), cfg=cfg),
        SamplerChoice(name=sampler_name),
        sigmas,
        latent_image,
        RandomNoise(noise_seed) if add_noise == "enable" else NoNoise(noise_seed),
    )
    return with_samples(latent_image, result)


NODES = [ksampler, ksampler_advanced]
