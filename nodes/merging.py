"""Nodes that mix the weights of two models or text encoders."""

from typing import Annotated

from engine.api import Clip, Float, Model, node
from engine.diffusion.patches import added, merged, merged_blocks, subtracted

_CATEGORY = "advanced/model_merging"
_Ratio = Annotated[float, Float(1.0, min=0.0, max=1.0, step=0.01)]
_Multiplier = Annotated[float, Float(1.0, min=-10.0, max=10.0, step=0.01)]


@node("ModelMergeSimple", category=_CATEGORY)
def model_merge_simple(model1: Model, model2: Model, ratio: _Ratio) -> Model:
    """Mixes two models; at a ratio of 1 the first one stays."""
    return merged(model1, model2, ratio)


@node("ModelMergeAdd", category=_CATEGORY)
def model_merge_add(model1: Model, model2: Model) -> Model:
    """Adds a difference of models to a model."""
    return added(model1, model2)


@node("ModelMergeSubtract", category=_CATEGORY)
def model_merge_subtract(model1: Model, model2: Model, multiplier: _Multiplier) -> Model:
    """The difference of two models."""
    return subtracted(model1, model2, multiplier)


@node("ModelMergeBlocks", category=_CATEGORY, rename={"first": "input"})
def model_merge_blocks(
    model1: Model, model2: Model, first: _Ratio, middle: _Ratio, out: _Ratio
) -> Model:
    """Mixes two models, with a ratio of its own for each third of the network."""
    return merged_blocks(model1, model2, {"input": first, "middle": middle, "out": out})


@node("CLIPMergeSimple", category=_CATEGORY)
def clip_merge_simple(clip1: Clip, clip2: Clip, ratio: _Ratio) -> Clip:
    """Mixes two text encoders; at a ratio of 1 the first one stays."""
    return merged(clip1, clip2, ratio)


@node("CLIPMergeAdd", category=_CATEGORY)
def clip_merge_add(clip1: Clip, clip2: Clip) -> Clip:
    """Adds a difference of text encoders to a text encoder."""
    return added(clip1, clip2)


@node("CLIPMergeSubtract", category=_CATEGORY)
def clip_merge_subtract(clip1: Clip, clip2: Clip, multiplier: _Multiplier) -> Clip:
    """The difference of two text encoders."""
    return subtracted(clip1, clip2, multiplier)


NODES = [
    model_merge_simple,
    model_merge_add,
    model_merge_subtract,
    model_merge_blocks,
    clip_merge_simple,
    clip_merge_add,
    clip_merge_subtract,
]
