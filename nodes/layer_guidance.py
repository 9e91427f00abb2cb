"""Nodes that guide diffusion transformers by leaving out some of their layers."""

from typing import Annotated

from engine.api import Float, Model, RunContext, Text, node
from engine.api.node import Widget
from engine.diffusion.layer_guidance import (
    SkippedLayers,
    layer_numbers,
    skip_for_negative,
    skip_guidance,
)
from engine.diffusion.sample import model_parameterization

_CATEGORY = "advanced/guidance"
_Layers = Annotated[str, Text("7, 8, 9", multiline=False)]
_Scale = Annotated[float, Float(3.0, min=0.0, max=10.0, step=0.1)]


def _share(default: float) -> Widget:
    return Float(default, min=0.0, max=1.0, step=0.001)


def _skipped(
    ctx: RunContext, model: Model, double: str, single: str, start: float, end: float
) -> SkippedLayers:
    times = model_parameterization(ctx, model).times
    return SkippedLayers(
        double=layer_numbers(double),
        single=layer_numbers(single),
        sigma_start=times.sigma_at(start),
        sigma_end=times.sigma_at(end),
    )


@node("SkipLayerGuidanceSD3", category=_CATEGORY, is_experimental=True)
def skip_layer_guidance_sd3(
    model: Model,
    layers: _Layers,
    scale: _Scale,
    start_percent: Annotated[float, _share(0.01)],
    end_percent: Annotated[float, _share(0.15)],
    ctx: RunContext,
) -> Model:
    """Guides SD3.5 away from what it sees without some of its layers: better bodies and hands."""
    skipped = _skipped(ctx, model, layers, "", start_percent, end_percent)
    return model.with_hook(skip_guidance(skipped, scale), append=True)


@node("SkipLayerGuidanceDiT", category=_CATEGORY, is_experimental=True)
def skip_layer_guidance_dit(
    model: Model,
    double_layers: _Layers,
    single_layers: _Layers,
    scale: _Scale,
    start_percent: Annotated[float, _share(0.01)],
    end_percent: Annotated[float, _share(0.15)],
    rescaling_scale: Annotated[float, Float(0.0, min=0.0, max=10.0, step=0.01)],
    ctx: RunContext,
) -> Model:
    """Guides any diffusion transformer away from what it sees without some of its layers."""
    skipped = _skipped(ctx, model, double_layers, single_layers, start_percent, end_percent)
    if not skipped:
        return model
    return model.with_hook(skip_guidance(skipped, scale, rescaling_scale), append=True)


@node("SkipLayerGuidanceDiTSimple", category=_CATEGORY, is_experimental=True)
def skip_layer_guidance_dit_simple(
    model: Model,
    double_layers: _Layers,
    single_layers: _Layers,
    start_percent: Annotated[float, _share(0.0)],
    end_percent: Annotated[float, _share(1.0)],
    ctx: RunContext,
) -> Model:
    """Leaves layers out of the negative prompt's prediction, so that cfg guides away from them."""
    skipped = _skipped(ctx, model, double_layers, single_layers, start_percent, end_percent)
    return model.with_hook(skip_for_negative(skipped), append=True) if skipped else model


NODES = [skip_layer_guidance_sd3, skip_layer_guidance_dit, skip_layer_guidance_dit_simple]
