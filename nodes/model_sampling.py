"""Nodes that change what a model's output means, and how its prompts are combined."""

from typing import Annotated

from engine.api import Choice, Float, Int, Model, Toggle, node
from engine.api.recipe import Hook
from engine.diffusion.guidance import rescale_hook
from engine.diffusion.parameterization import flux_shift

_CATEGORY = "advanced/model"
_Shift = Annotated[float, Float(3.0, min=0.0, max=100.0, step=0.01)]


@node("ModelSamplingDiscrete", category=_CATEGORY)
def model_sampling_discrete(
    model: Model,
    sampling: Annotated[str, Choice(("eps", "v_prediction", "lcm", "x0", "img_to_img"))],
    zsnr: Annotated[bool, Toggle(False)],
) -> Model:
    """Says how a model with discrete times predicts, where its file does not."""
    return model.with_option("sampling", ("discrete", sampling, zsnr))


@node("ModelSamplingSD3", category=_CATEGORY)
def model_sampling_sd3(model: Model, shift: _Shift) -> Model:
    """Flow matching with a shift towards noise."""
    return model.with_option("sampling", ("flow", float(shift), 1000.0))


@node("ModelSamplingAuraFlow", category=_CATEGORY)
def model_sampling_aura_flow(
    model: Model, shift: Annotated[float, Float(1.73, min=0.0, max=100.0, step=0.01)]
) -> Model:
    """Flow matching with a shift, and times from 0 to 1."""
    return model.with_option("sampling", ("flow", float(shift), 1.0))


@node("ModelSamplingStableCascade", category=_CATEGORY)
def model_sampling_stable_cascade(
    model: Model, shift: Annotated[float, Float(2.0, min=0.0, max=100.0, step=0.01)]
) -> Model:
    """The noise levels of Stable Cascade, with a shift towards noise."""
    return model.with_option("sampling", ("cascade", float(shift)))


_Pixels = Annotated[int, Int(1024, min=16, max=16384, step=8)]


@node("ModelSamplingFlux", category=_CATEGORY)
def model_sampling_flux(
    model: Model,
    max_shift: Annotated[float, Float(1.15, min=0.0, max=100.0, step=0.01)],
    base_shift: Annotated[float, Float(0.5, min=0.0, max=100.0, step=0.01)],
    width: _Pixels,
    height: _Pixels,
) -> Model:
    """Flow matching with a shift that grows with the size of the picture."""
    shift = flux_shift(max_shift, base_shift, width, height)
    return model.with_option("sampling", ("flux", shift))


_SigmaMin = Float(0.002, min=0.0, max=1000.0, step=0.001, round=False)


@node("ModelSamplingContinuousEDM", category=_CATEGORY)
def model_sampling_continuous_edm(
    model: Model,
    sampling: Annotated[str, Choice(("v_prediction", "edm", "eps"))],
    sigma_max: Annotated[float, Float(120.0, min=0.0, max=1000.0, step=0.001, round=False)],
    sigma_min: Annotated[float, _SigmaMin],
) -> Model:
    """A model that was trained on all sigmas between two bounds."""
    bounds = (float(sigma_min), float(sigma_max))
    return model.with_option("sampling", ("continuous", sampling, *bounds))


@node("ModelSamplingContinuousV", category=_CATEGORY)
def model_sampling_continuous_v(
    model: Model,
    sampling: Annotated[str, Choice(("v_prediction",))],
    sigma_max: Annotated[float, Float(500.0, min=0.0, max=1000.0, step=0.001, round=False)],
    sigma_min: Annotated[float, Float(0.03, min=0.0, max=1000.0, step=0.001, round=False)],
) -> Model:
    """A v-prediction model whose time is an angle."""
    bounds = (float(sigma_min), float(sigma_max))
    return model.with_option("sampling", ("continuous", "v_angle", *bounds))


@node("RescaleCFG", category=_CATEGORY)
def rescale_cfg(
    model: Model, multiplier: Annotated[float, Float(0.7, min=0.0, max=1.0, step=0.01)]
) -> Model:
    """Keeps a high cfg from burning out: scales the result back to the prompt's own spread."""
    hook = Hook(
        slot="sampler_cfg_function",
        function=rescale_hook(multiplier),
        key=f"rescale_cfg:{multiplier}",
    )
    return model.with_hook(hook)


NODES = [
    model_sampling_discrete,
    model_sampling_sd3,
    model_sampling_aura_flow,
    model_sampling_flux,
    model_sampling_stable_cascade,
    model_sampling_continuous_edm,
    model_sampling_continuous_v,
    rescale_cfg,
]
