"""Nodes that take sampling apart: noise, guider, sampler, sigmas."""

from typing import Annotated

from engine.api import (
    Choice,
    Conditioning,
    Float,
    Guider,
    Int,
    Latent,
    Model,
    Noise,
    RunContext,
    Sampler,
    Sigmas,
    Toggle,
    node,
)
from engine.api.node import Widget
from engine.diffusion import guidance
from engine.diffusion import noise as noise_sources
from engine.diffusion.noising import with_noise
from engine.diffusion.sample import sample
from engine.diffusion.samplers import SamplerChoice
from nodes.sampling import Cfg, SamplerName, Seed, with_samples

_CATEGORY = "sampling/custom_sampling"
_GUIDERS = f"{_CATEGORY}/guiders"
_SAMPLERS = f"{_CATEGORY}/samplers"


@node("RandomNoise", category=f"{_CATEGORY}/noise")
def random_noise(noise_seed: Seed) -> Noise:
    """Noise of a seed."""
    return noise_sources.RandomNoise(noise_seed)


@node("DisableNoise", category=f"{_CATEGORY}/noise")
def disable_noise() -> Noise:
    """No noise: sampling starts from the latent as it is."""
    return noise_sources.NoNoise()


@node("AddNoise", title="AddNoise", category="_for_testing/custom_sampling/noise")
def add_noise(
    model: Model, noise: Noise, sigmas: Sigmas, latent_image: Latent, ctx: RunContext
) -> Latent:
    """Adds the noise between the first and the last sigma to a latent."""
    return with_noise(ctx, model, noise, sigmas, latent_image)


@node("BasicGuider", category=_GUIDERS)
def basic_guider(model: Model, conditioning: Conditioning) -> Guider:
    """Follows one prompt, without a negative one."""
    return guidance.Guidance(model=model, groups=(conditioning,))


@node("CFGGuider", category=_GUIDERS)
def cfg_guider(model: Model, positive: Conditioning, negative: Conditioning, cfg: Cfg) -> Guider:
    """Follows one prompt and moves away from another."""
    return guidance.Guidance(model=model, groups=(positive, negative), cfg=cfg)


@node("DualCFGGuider", category=_GUIDERS)
def dual_cfg_guider(
    model: Model,
    cond1: Conditioning,
    cond2: Conditioning,
    negative: Conditioning,
    cfg_conds: Cfg,
    cfg_cond2_negative: Cfg,
    style: Annotated[str, Choice(("regular", "nested"))],
) -> Guider:
    """Two scales: from the second prompt to the first, and from the negative one to the second."""
    return guidance.Guidance(
        model=model,
        groups=(cond1, cond2, negative),
        cfg=cfg_conds,
        combine=guidance.dual(cfg_conds, cfg_cond2_negative, is_nested=style == "nested"),
    )


@node("PerpNegGuider", category="_for_testing", is_experimental=True)
def perp_neg_guider(
    model: Model,
    positive: Conditioning,
    negative: Conditioning,
    empty_conditioning: Conditioning,
    cfg: Cfg,
    neg_scale: Annotated[float, Float(1.0, min=0.0, max=100.0, step=0.01)],
) -> Guider:
    """Takes away only what of the negative prompt does not oppose the positive one."""
    return guidance.Guidance(
        model=model,
        groups=(positive, negative, empty_conditioning),
        cfg=cfg,
        combine=guidance.perpendicular(cfg, neg_scale),
    )


@node("SamplerCustom", category=_CATEGORY, output_names=("output", "denoised_output"))
def sampler_custom(
    model: Model,
    add_noise: Annotated[bool, Toggle(True)],
    noise_seed: Seed,
    cfg: Cfg,
    positive: Conditioning,
    negative: Conditioning,
    sampler: Sampler,
    sigmas: Sigmas,
    latent_image: Latent,
    ctx: RunContext,
) -> tuple[Latent, Latent]:
    """Samples with a sampler and sigmas of one's own."""
    kind = noise_sources.RandomNoise if add_noise else noise_sources.NoNoise
    guider = guidance.Guidance(model=model, groups=(positive, negative), cfg=cfg)
    return _sampled(ctx, kind(noise_seed), guider, sampler, sigmas, latent_image)


@node("SamplerCustomAdvanced", category=_CATEGORY, output_names=("output", "denoised_output"))
def sampler_custom_advanced(
    noise: Noise,
    guider: Guider,
    sampler: Sampler,
    sigmas: Sigmas,
    latent_image: Latent,
    ctx: RunContext,
) -> tuple[Latent, Latent]:
    """Samples with noise, guider, sampler and sigmas of one's own."""
    return _sampled(ctx, noise, guider, sampler, sigmas, latent_image)


def _sampled(
    ctx: RunContext,
    source: Noise,
    guider: guidance.Guidance,
    sampler: SamplerChoice,
    sigmas: Sigmas,
    latent: Latent,
) -> tuple[Latent, Latent]:
    result = sample(ctx, guider, sampler, sigmas, latent, source)
    return with_samples(latent, result), {**latent, "samples": result.denoised}


# Samplers with options ----------------------------------------------------------------------------


def _number(default: float, *, max: float = 100.0) -> Widget:
    return Float(default, min=0.0, max=max, step=0.01, round=False)


_Eta = Annotated[float, _number(1.0)]
_SNoise = Annotated[float, _number(1.0)]
_Device = Annotated[str, Choice(("gpu", "cpu"), tooltip="Noise is always made on the CPU.")]


@node("KSamplerSelect", category=_SAMPLERS)
def ksampler_select(sampler_name: SamplerName) -> Sampler:
    """A sampler by its name."""
    return SamplerChoice(name=sampler_name)


@node("SamplerEulerAncestral", category=_SAMPLERS)
def sampler_euler_ancestral(eta: _Eta, s_noise: _SNoise) -> Sampler:
    """Euler ancestral with its amount of noise."""
    return SamplerChoice(name="euler_ancestral", options={"eta": eta, "s_noise": s_noise})


@node("SamplerEulerAncestralCFGPP", title="SamplerEulerAncestralCFG++", category=_SAMPLERS)
def sampler_euler_ancestral_cfg_pp(
    eta: Annotated[float, _number(1.0, max=1.0)], s_noise: Annotated[float, _number(1.0, max=10.0)]
) -> Sampler:
    """Euler ancestral with CFG++."""
    return SamplerChoice(name="euler_ancestral_cfg_pp", options={"eta": eta, "s_noise": s_noise})


@node("SamplerLMS", category=_SAMPLERS)
def sampler_lms(order: Annotated[int, Int(4, min=1, max=100)]) -> Sampler:
    """Linear multistep of an order."""
    return SamplerChoice(name="lms", options={"order": order})


@node("SamplerPNDM", category=_SAMPLERS, search=("PLMS",))
def sampler_pndm(
    skip_prk: Annotated[
        bool, Toggle(True, tooltip="Leave the Runge-Kutta warm-up out, as Stable Diffusion does.")
    ],
) -> Sampler:
    """PNDM: multistep with or without its Runge-Kutta warm-up."""
    return SamplerChoice(name="pndm", options={"skip_prk": skip_prk})


@node("SamplerDPMPP_2S_Ancestral", category=_SAMPLERS)
def sampler_dpmpp_2s_ancestral(eta: _Eta, s_noise: _SNoise) -> Sampler:
    """DPM++ 2S ancestral with its amount of noise."""
    return SamplerChoice(name="dpmpp_2s_ancestral", options={"eta": eta, "s_noise": s_noise})


@node("SamplerDPMPP_SDE", category=_SAMPLERS)
def sampler_dpmpp_sde(
    eta: _Eta, s_noise: _SNoise, r: Annotated[float, _number(0.5)], noise_device: _Device
) -> Sampler:
    """DPM++ SDE with its amount of noise and inner point."""
    return SamplerChoice(name="dpmpp_sde", options={"eta": eta, "s_noise": s_noise, "r": r})


@node("SamplerDPMPP_2M_SDE", category=_SAMPLERS)
def sampler_dpmpp_2m_sde(
    solver_type: Annotated[str, Choice(("midpoint", "heun"))],
    eta: _Eta,
    s_noise: _SNoise,
    noise_device: _Device,
) -> Sampler:
    """DPM++ 2M SDE with its amount of noise and kind of correction."""
    options = {"eta": eta, "s_noise": s_noise, "solver_type": solver_type}
    return SamplerChoice(name="dpmpp_2m_sde", options=options)


@node("SamplerDPMPP_3M_SDE", category=_SAMPLERS)
def sampler_dpmpp_3m_sde(eta: _Eta, s_noise: _SNoise, noise_device: _Device) -> Sampler:
    """DPM++ 3M SDE with its amount of noise."""
    return SamplerChoice(name="dpmpp_3m_sde", options={"eta": eta, "s_noise": s_noise})


@node("SamplerDPMAdaptative", category=_SAMPLERS)
def sampler_dpm_adaptive(
    order: Annotated[int, Int(3, min=2, max=3)],
    rtol: Annotated[float, _number(0.05)],
    atol: Annotated[float, _number(0.0078)],
    h_init: Annotated[float, _number(0.05)],
    pcoeff: Annotated[float, _number(0.0)],
    icoeff: Annotated[float, _number(1.0)],
    dcoeff: Annotated[float, _number(0.0)],
    accept_safety: Annotated[float, _number(0.81)],
    eta: Annotated[float, _number(0.0)],
    s_noise: _SNoise,
) -> Sampler:
    """DPM-Solver with steps as long as the error allows."""
    options = {
        "order": order,
        "rtol": rtol,
        "atol": atol,
        "h_init": h_init,
        "pcoeff": pcoeff,
        "icoeff": icoeff,
        "dcoeff": dcoeff,
        "accept_safety": accept_safety,
        "eta": eta,
        "s_noise": s_noise,
    }
    return SamplerChoice(name="dpm_adaptive", options=options)


@node("SamplerER_SDE", category=_SAMPLERS)
def sampler_er_sde(
    solver_type: Annotated[str, Choice(("ER-SDE", "Reverse-time SDE", "ODE"))],
    max_stage: Annotated[int, Int(3, min=1, max=3)],
    eta: _Eta,
    s_noise: _SNoise,
) -> Sampler:
    """ER-SDE with its kind of process and number of stages."""
    options = {
        "solver_type": solver_type,
        "max_stage": max_stage,
        "eta": eta,
        "s_noise": s_noise,
    }
    return SamplerChoice(name="er_sde", options=options)


@node("SamplerEulerCFGpp", title="SamplerEulerCFG++", category="_for_testing", is_experimental=True)
def sampler_euler_cfg_pp(version: Annotated[str, Choice(("regular",))]) -> Sampler:
    """Euler with CFG++, for a cfg around 1."""
    return SamplerChoice(name="euler_cfg_pp")


@node("SamplerLCMUpscale", category=_SAMPLERS)
def sampler_lcm_upscale(
    scale_ratio: Annotated[float, Float(1.0, min=0.1, max=20.0, step=0.01)],
    scale_steps: Annotated[int, Int(-1, min=-1, max=1000, step=1)],
    upscale_method: Annotated[
        str, Choice(("bislerp", "nearest-exact", "bilinear", "area", "bicubic"))
    ],
) -> Sampler:
    """LCM that makes the picture larger on the way; -1 takes half of the steps for that."""
    options = {
        "scale_ratio": scale_ratio,
        "scale_steps": scale_steps,
        "upscale_method": upscale_method,
    }
    return SamplerChoice(name="lcm_upscale", options=options)


@node("SamplerSASolver", title="SamplerSASolver", category=_SAMPLERS)
def sampler_sa_solver(
    model: Model,
    eta: Annotated[float, Float(1.0, min=0.0, max=10.0, step=0.01, round=False)],
    sde_start_percent: Annotated[float, Float(0.2, min=0.0, max=1.0, step=0.001)],
    sde_end_percent: Annotated[float, Float(0.8, min=0.0, max=1.0, step=0.001)],
    s_noise: _SNoise,
    predictor_order: Annotated[int, Int(3, min=1, max=6)],
    corrector_order: Annotated[int, Int(4, min=0, max=6)],
    use_pece: bool,
    simple_order_2: bool,
) -> Sampler:
    """SA-Solver with its amount of noise, the part of the process that gets it, and its orders."""
    options = {
        "eta": eta,
        "sde_start_percent": sde_start_percent,
        "sde_end_percent": sde_end_percent,
        "s_noise": s_noise,
        "predictor_order": predictor_order,
        "corrector_order": corrector_order,
        "use_pece": use_pece,
        "simple_order_2": simple_order_2,
    }
    return SamplerChoice(name="sa_solver", options=options)


NODES = [
    sampler_euler_cfg_pp,
    sampler_lcm_upscale,
    sampler_sa_solver,
    random_noise,
    disable_noise,
    add_noise,
    basic_guider,
    cfg_guider,
    dual_cfg_guider,
    perp_neg_guider,
    sampler_custom,
    sampler_custom_advanced,
    ksampler_select,
    sampler_euler_ancestral,
    sampler_euler_ancestral_cfg_pp,
    sampler_lms,
    sampler_pndm,
    sampler_dpmpp_2s_ancestral,
    sampler_dpmpp_sde,
    sampler_dpmpp_2m_sde,
    sampler_dpmpp_3m_sde,
    sampler_dpm_adaptive,
    sampler_er_sde,
]
