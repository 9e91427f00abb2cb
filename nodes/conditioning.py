"""Nodes that make and change conditioning."""

from functools import partial
from typing import Annotated

from engine.api import (
    Choice,
    Clip,
    Conditioning,
    Float,
    Int,
    Mask,
    NodeError,
    RunContext,
    Text,
    node,
)
from engine.api.recipe import Recipe
from engine.diffusion import conditioning_ops, latent_ops
from engine.diffusion.sdxl_text import encode_apart
from engine.diffusion.text import encode
from engine.text.embeddings import find_embedding

_CATEGORY = "conditioning"
_Strength = Annotated[float, Float(1.0, min=0.0, max=10.0, step=0.01)]
_Extent = Annotated[int, Int(64, min=64, max=16384, step=8)]
_Place = Annotated[int, Int(0, min=0, max=16384, step=8)]
_Share = Annotated[float, Float(1.0, min=0, max=1.0, step=0.01)]
_Offset = Annotated[float, Float(0, min=0, max=1.0, step=0.01)]


def present(clip: Recipe | None) -> Recipe:
    """The CLIP, which a checkpoint may lack. Raises: NodeError."""
    if clip is None:
        raise NodeError(
            "The clip input is empty: the checkpoint has no text encoder.",
            hint="Load a checkpoint with a text encoder.",
        )
    return clip


@node(
    "CLIPTextEncode",
    title="CLIP Text Encode (Prompt)",
    category=_CATEGORY,
    aliases=("CLIPEncode",),
    search=("prompt", "text", "CLIPEncode"),
)
def clip_text_encode(
    text: Annotated[str, Text(multiline=True, dynamicPrompts=True)], clip: Clip, ctx: RunContext
) -> Conditioning:
    """Encodes a prompt, with weights such as `(word:1.2)`, for a model to follow."""
    with ctx.models.use(present(clip)) as loaded:
        found = encode(
            loaded, text, find_embedding=partial(find_embedding, ctx.files.resolve), log=ctx.log
        )
    return [(found.embeds, {"pooled_output": found.pooled})]


_Side = Annotated[int, Int(1024, min=0, max=16384)]
_CropPlace = Annotated[int, Int(0, min=0, max=16384)]
_Prompt = Annotated[str, Text(multiline=True, dynamicPrompts=True)]


@node("CLIPTextEncodeSDXL", category="advanced/conditioning")
def clip_text_encode_sdxl(
    clip: Clip,
    width: _Side,
    height: _Side,
    crop_w: _CropPlace,
    crop_h: _CropPlace,
    target_width: _Side,
    target_height: _Side,
    text_g: _Prompt,
    text_l: _Prompt,
    ctx: RunContext,
) -> Conditioning:
    """Encodes a prompt for each of SDXL's two text towers, with the sizes it was trained on."""
    with ctx.models.use(present(clip)) as loaded:
        find = partial(find_embedding, ctx.files.resolve)
        found = encode_apart(loaded, {"g": text_g, "l": text_l}, find_embedding=find, log=ctx.log)
    options = {
        "pooled_output": found.pooled,
        "width": width,
        "height": height,
        "crop_w": crop_w,
        "crop_h": crop_h,
        "target_width": target_width,
        "target_height": target_height,
    }
    return [(found.embeds, options)]


@node("CLIPTextEncodeSDXLRefiner", category="advanced/conditioning")
def clip_text_encode_sdxl_refiner(
    ascore: Annotated[float, Float(6.0, min=0.0, max=1000.0, step=0.01)],
    width: _Side,
    height: _Side,
    text: _Prompt,
    clip: Clip,
    ctx: RunContext,
) -> Conditioning:
    """Encodes a prompt for the SDXL refiner, with the size and the beauty (0 to 10) to aim at."""
    ((embeds, options),) = clip_text_encode(text, clip, ctx=ctx)
    return [(embeds, {**options, "aesthetic_score": ascore, "width": width, "height": height})]


@node("CLIPTextEncodeControlnet", category="_for_testing/conditioning", is_experimental=True)
def clip_text_encode_controlnet(
    clip: Clip, conditioning: Conditioning, text: _Prompt, ctx: RunContext
) -> Conditioning:
    """Encodes a prompt that only the ControlNets of a conditioning read."""
    ((embeds, options),) = clip_text_encode(text, clip, ctx=ctx)
    own = {
        "cross_attn_controlnet": embeds,
        "pooled_output_controlnet": options["pooled_output"],
    }
    return conditioning_ops.with_options(conditioning, own)


@node("CLIPSetLastLayer", title="CLIP Set Last Layer", category=_CATEGORY, search=("clip skip",))
def clip_set_last_layer(
    clip: Clip, stop_at_clip_layer: Annotated[int, Int(-1, min=-24, max=-1, step=1)]
) -> Clip:
    """Takes text from an earlier layer (clip skip): -1 is the last one."""
    return clip.with_option("clip_skip", stop_at_clip_layer)


@node("ConditioningCombine", title="Conditioning (Combine)", category=_CATEGORY)
def conditioning_combine(
    conditioning_1: Conditioning, conditioning_2: Conditioning
) -> Conditioning:
    """Follows two prompts at once: their predictions are averaged."""
    return [*conditioning_1, *conditioning_2]


@node("ConditioningConcat", title="Conditioning (Concat)", category=_CATEGORY)
def conditioning_concat(
    conditioning_to: Conditioning, conditioning_from: Conditioning
) -> Conditioning:
    """Reads one prompt after the other, as one long text."""
    return conditioning_ops.concat(conditioning_to, conditioning_from)


@node("ConditioningAverage", category=_CATEGORY)
def conditioning_average(
    conditioning_to: Conditioning,
    conditioning_from: Conditioning,
    conditioning_to_strength: Annotated[float, Float(1.0, min=0.0, max=1.0, step=0.01)],
) -> Conditioning:
    """Mixes two prompts; at 1 only the first one counts."""
    return conditioning_ops.average(conditioning_to, conditioning_from, conditioning_to_strength)


@node("ConditioningSetArea", title="Conditioning (Set Area)", category=_CATEGORY)
def conditioning_set_area(
    conditioning: Conditioning,
    width: _Extent,
    height: _Extent,
    x: _Place,
    y: _Place,
    strength: _Strength,
) -> Conditioning:
    """Limits a prompt to a rectangle, in pixels."""
    area = tuple(side // latent_ops.FACTOR for side in (height, width, y, x))
    options = {"area": area, "strength": strength, "set_area_to_bounds": False}
    return conditioning_ops.with_options(conditioning, options)


@node(
    "ConditioningSetAreaPercentage",
    title="Conditioning (Set Area with Percentage)",
    category=_CATEGORY,
)
def conditioning_set_area_percentage(
    conditioning: Conditioning,
    width: _Share,
    height: _Share,
    x: _Offset,
    y: _Offset,
    strength: _Strength,
) -> Conditioning:
    """Limits a prompt to a rectangle, as shares of the picture."""
    area = ("percentage", height, width, y, x)
    options = {"area": area, "strength": strength, "set_area_to_bounds": False}
    return conditioning_ops.with_options(conditioning, options)


@node("ConditioningSetAreaStrength", category=_CATEGORY)
def conditioning_set_area_strength(conditioning: Conditioning, strength: _Strength) -> Conditioning:
    """Sets how much a prompt counts beside others."""
    return conditioning_ops.with_options(conditioning, {"strength": strength})


@node("ConditioningSetMask", title="Conditioning (Set Mask)", category=_CATEGORY)
def conditioning_set_mask(
    conditioning: Conditioning,
    mask: Mask,
    strength: _Strength,
    set_cond_area: Annotated[str, Choice(("default", "mask bounds"))],
) -> Conditioning:
    """Limits a prompt to a mask."""
    return conditioning_ops.masked(
        conditioning, mask, strength, sets_area=set_cond_area != "default"
    )


@node("ConditioningSetTimestepRange", category="advanced/conditioning")
def conditioning_set_timestep_range(
    conditioning: Conditioning,
    start: Annotated[float, Float(0.0, min=0.0, max=1.0, step=0.001)],
    end: Annotated[float, Float(1.0, min=0.0, max=1.0, step=0.001)],
) -> Conditioning:
    """Limits a prompt to a part of the sampling process: 0 is its start, 1 its end."""
    options = {"start_percent": start, "end_percent": end}
    return conditioning_ops.with_options(conditioning, options)


@node("ConditioningZeroOut", category="advanced/conditioning")
def conditioning_zero_out(conditioning: Conditioning) -> Conditioning:
    """Replaces a prompt by zeros."""
    return conditioning_ops.zeroed(conditioning)


NODES = [
    clip_text_encode,
    clip_text_encode_sdxl,
    clip_text_encode_sdxl_refiner,
    clip_text_encode_controlnet,
    clip_set_last_layer,
    conditioning_combine,
    conditioning_concat,
    conditioning_average,
    conditioning_set_area,
    conditioning_set_area_percentage,
    conditioning_set_area_strength,
    conditioning_set_mask,
    conditioning_set_timestep_range,
    conditioning_zero_out,
]
