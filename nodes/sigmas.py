"""Nodes that make and cut sigma schedules."""

from typing import Annotated

from engine.api import Choice, Float, Int, Model, RunContext, Sigmas, Toggle, node
from engine.api.node import Widget
from engine.diffusion import schedules
from engine.diffusion.sample import model_parameterization
from nodes.sampling import ScheduleName, Steps

_SCHEDULES = "sampling/custom_sampling/schedulers"
_SIGMAS = "sampling/custom_sampling/sigmas"
_Denoise = Annotated[float, Float(1.0, min=0.0, max=1.0, step=0.01)]


def _fine(default: float, *, min: float = 0.0, max: float, step: float = 0.01) -> Widget:
    return Float(default, min=min, max=max, step=step, round=False)


_SigmaMax = Annotated[float, _fine(14.614642, max=5000.0)]
_SigmaMin = Annotated[float, _fine(0.0291675, max=5000.0)]


@node("BasicScheduler", category=_SCHEDULES)
def basic_scheduler(
    model: Model, scheduler: ScheduleName, steps: Steps, denoise: _Denoise, ctx: RunContext
) -> Sigmas:
    """The sigmas of a model by the name of a schedule."""
    return schedules.schedule(model_parameterization(ctx, model), scheduler, steps, denoise)


@node("KarrasScheduler", category=_SCHEDULES)
def karras_scheduler(
    steps: Steps,
    sigma_max: _SigmaMax,
    sigma_min: _SigmaMin,
    rho: Annotated[float, _fine(7.0, max=100.0)],
) -> Sigmas:
    """Sigmas evenly spaced in a root of sigma."""
    return schedules.karras(steps, sigma_min, sigma_max, rho)


@node("ExponentialScheduler", category=_SCHEDULES)
def exponential_scheduler(steps: Steps, sigma_max: _SigmaMax, sigma_min: _SigmaMin) -> Sigmas:
    """Sigmas evenly spaced in log sigma."""
    return schedules.exponential(steps, sigma_min, sigma_max)


@node("PolyexponentialScheduler", category=_SCHEDULES)
def polyexponential_scheduler(
    steps: Steps,
    sigma_max: _SigmaMax,
    sigma_min: _SigmaMin,
    rho: Annotated[float, _fine(1.0, max=100.0)],
) -> Sigmas:
    """Sigmas along a power of a ramp in log sigma."""
    return schedules.polyexponential(steps, sigma_min, sigma_max, rho)


@node("LaplaceScheduler", category=_SCHEDULES)
def laplace_scheduler(
    steps: Steps,
    sigma_max: _SigmaMax,
    sigma_min: _SigmaMin,
    mu: Annotated[float, _fine(0.0, min=-10.0, max=10.0, step=0.1)],
    beta: Annotated[float, _fine(0.5, max=10.0, step=0.1)],
) -> Sigmas:
    """Sigmas at the quantiles of a Laplace distribution; they do not end in 0."""
    return schedules.laplace(steps, sigma_min, sigma_max, mu, beta)


@node("VPScheduler", category=_SCHEDULES)
def vp_scheduler(
    steps: Steps,
    beta_d: Annotated[float, _fine(19.9, max=5000.0)],
    beta_min: Annotated[float, _fine(0.1, max=5000.0)],
    eps_s: Annotated[float, _fine(0.001, max=1.0, step=0.0001)],
) -> Sigmas:
    """Sigmas of the continuous variance-preserving process."""
    return schedules.variance_preserving(steps, beta_d, beta_min, eps_s)


@node("BetaSamplingScheduler", category=_SCHEDULES)
def beta_sampling_scheduler(
    model: Model,
    steps: Steps,
    alpha: Annotated[float, _fine(0.6, max=50.0)],
    beta: Annotated[float, _fine(0.6, max=50.0)],
    ctx: RunContext,
) -> Sigmas:
    """Sigmas of a model at the quantiles of a Beta distribution."""
    return schedules.beta(model_parameterization(ctx, model), steps, alpha, beta)


@node("SDTurboScheduler", category=_SCHEDULES)
def sd_turbo_scheduler(
    model: Model,
    steps: Annotated[int, Int(1, min=1, max=10)],
    denoise: Annotated[float, Float(1.0, min=0, max=1.0, step=0.01)],
    ctx: RunContext,
) -> Sigmas:
    """The sigmas that SD-Turbo was distilled to."""
    return schedules.sd_turbo(model_parameterization(ctx, model), steps, denoise)


@node("AlignYourStepsScheduler", category=_SCHEDULES)
def align_your_steps_scheduler(
    model_type: Annotated[str, Choice(tuple(schedules.ALIGNED))],
    steps: Annotated[int, Int(10, min=1, max=10000)],
    denoise: _Denoise,
) -> Sigmas:
    """Published optimal sigmas for a model family."""
    return schedules.align_your_steps(model_type, steps, denoise)


@node("PNDMScheduler", category=_SCHEDULES, search=("PLMS", "leading"))
def pndm_scheduler(
    model: Model,
    steps: Annotated[int, Int(50, min=1, max=1000)],
    denoise: _Denoise,
    steps_offset: Annotated[int, Int(1, min=0, max=100)],
    set_alpha_to_one: Annotated[
        bool,
        Toggle(False, tooltip="End at no noise at all, not at the smallest that was trained."),
    ],
    ctx: RunContext,
) -> Sigmas:
    """The sigmas that Stable Diffusion's PNDM used: every n-th timestep, shifted by one."""
    whole = schedules.leading(
        model_parameterization(ctx, model), steps, steps_offset, ends_in_zero=set_alpha_to_one
    )
    return schedules.split_denoise(whole, denoise)[1] if denoise < 1 else whole


@node("SplitSigmas", category=_SIGMAS, output_names=("high_sigmas", "low_sigmas"))
def split_sigmas(
    sigmas: Sigmas, step: Annotated[int, Int(0, min=0, max=10000)]
) -> tuple[Sigmas, Sigmas]:
    """Cuts a schedule at a step."""
    return schedules.split_at(sigmas, step)


@node("SplitSigmasDenoise", category=_SIGMAS, output_names=("high_sigmas", "low_sigmas"))
def split_sigmas_denoise(sigmas: Sigmas, denoise: _Denoise) -> tuple[Sigmas, Sigmas]:
    """Cuts off the last share of a schedule."""
    return schedules.split_denoise(sigmas, denoise)


@node("FlipSigmas", category=_SIGMAS)
def flip_sigmas(sigmas: Sigmas) -> Sigmas:
    """Turns a schedule round, to add noise in place of removing it."""
    return schedules.flipped(sigmas)


@node("SetFirstSigma", category=_SIGMAS)
def set_first_sigma(
    sigmas: Sigmas, sigma: Annotated[float, _fine(136.0, max=20000.0, step=0.001)]
) -> Sigmas:
    """Replaces the first sigma of a schedule."""
    return schedules.with_first(sigmas, sigma)


@node("SamplingPercentToSigma", category=_SIGMAS, output_names=("sigma_value",))
def sampling_percent_to_sigma(
    model: Model,
    sampling_percent: Annotated[float, Float(0.0, min=0.0, max=1.0, step=0.0001)],
    return_actual_sigma: bool,
    ctx: RunContext,
) -> float:
    """The sigma of a model at a share of the sampling process.

    With `return_actual_sigma` the ends are the model's largest sigma and its smallest.
    """
    model_sampling = model_parameterization(ctx, model)
    return schedules.sigma_at(model_sampling, sampling_percent, is_actual=return_actual_sigma)


@node("ExtendIntermediateSigmas", title="ExtendIntermediateSigmas", category=_SIGMAS)
def extend_intermediate_sigmas(
    sigmas: Sigmas,
    steps: Annotated[int, Int(2, min=1, max=100)],
    start_at_sigma: Annotated[float, _fine(-1.0, min=-1.0, max=20000.0)],
    end_at_sigma: Annotated[float, _fine(12.0, max=20000.0)],
    spacing: Annotated[str, Choice(tuple(schedules.EASING))],
) -> Sigmas:
    """Divides each step that begins between two sigmas into several."""
    return schedules.extended(sigmas, steps, start_at_sigma, end_at_sigma, spacing)


NODES = [
    extend_intermediate_sigmas,
    basic_scheduler,
    karras_scheduler,
    exponential_scheduler,
    polyexponential_scheduler,
    laplace_scheduler,
    vp_scheduler,
    beta_sampling_scheduler,
    sd_turbo_scheduler,
    align_your_steps_scheduler,
    pndm_scheduler,
    split_sigmas,
    split_sigmas_denoise,
    flip_sigmas,
    set_first_sigma,
    sampling_percent_to_sigma,
]
