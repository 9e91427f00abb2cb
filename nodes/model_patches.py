"""Nodes that change how a model works inside, or how its mask is used."""

from collections.abc import Sequence
from typing import Annotated

from engine.api import Conditioning, Float, Int, Model, RunContext, Toggle, node
from engine.api.node import Widget
from engine.api.recipe import Hook
from engine.diffusion import guidance
from engine.diffusion.attention_guidance import SelfAttentionGuidance, perturbed_attention
from engine.diffusion.attention_patches import (
    HyperTile,
    ReducedAttention,
    Reduction,
    TokenMerging,
    scaled_attention,
)
from engine.diffusion.freeu import freeu_patch
from engine.diffusion.mask_steps import differential_mask

_CATEGORY = "model_patches/unet"


def _scale(default: float) -> Widget:
    return Float(default, min=0.0, max=10.0, step=0.01)


def _with_freeu(
    ctx: RunContext, model: Model, scales: tuple[float, float, float, float], *, is_v2: bool
) -> Model:
    with ctx.models.use(model) as loaded:
        width = loaded.layout.width
    patch = freeu_patch(width, *scales, is_v2=is_v2)
    key = f"freeu:{is_v2}:{width}:{scales}"
    return model.with_hook(Hook(slot="output_block_patch", function=patch, key=key), append=True)


@node("FreeU", category=_CATEGORY)
def freeu(
    model: Model,
    b1: Annotated[float, _scale(1.1)],
    b2: Annotated[float, _scale(1.2)],
    s1: Annotated[float, _scale(0.9)],
    s2: Annotated[float, _scale(0.2)],
    ctx: RunContext,
) -> Model:
    """Strengthens a UNet's backbone and weakens its skip connections: steadier pictures."""
    return _with_freeu(ctx, model, (b1, b2, s1, s2), is_v2=False)


@node("FreeU_V2", category=_CATEGORY)
def freeu_v2(
    model: Model,
    b1: Annotated[float, _scale(1.3)],
    b2: Annotated[float, _scale(1.4)],
    s1: Annotated[float, _scale(0.9)],
    s2: Annotated[float, _scale(0.2)],
    ctx: RunContext,
) -> Model:
    """The second version of FreeU, which follows the picture's structure."""
    return _with_freeu(ctx, model, (b1, b2, s1, s2), is_v2=True)


@node(
    "DifferentialDiffusion",
    title="Differential Diffusion",
    category="_for_testing",
    is_experimental=True,
)
def differential_diffusion(
    model: Model,
    strength: Annotated[float, Float(1.0, min=0.0, max=1.0, step=0.01)] = 1.0,
) -> Model:
    """Repaints the more of a place the brighter its mask is, step by step."""
    hook = Hook(
        slot="denoise_mask_function",
        function=differential_mask(strength),
        key=f"differential:{strength}",
    )
    return model.with_hook(hook)


def _reduced(model: Model, reduction: Reduction) -> Model:
    """Both hooks of a reduction; a dataclass's text is its whole identity."""
    attention, key = ReducedAttention(reduction), repr(reduction)
    before = Hook(slot="attn1_patch", function=attention.before, key=key)
    after = Hook(slot="attn1_output_patch", function=attention.after, key=key)
    return model.with_hook(before, append=True).with_hook(after, append=True)


@node("HyperTile", category=_CATEGORY)
def hyper_tile(
    model: Model,
    tile_size: Annotated[int, Int(256, min=1, max=2048)],
    swap_size: Annotated[int, Int(2, min=1, max=128)],
    max_depth: Annotated[int, Int(0, min=0, max=10)],
    scale_depth: Annotated[bool, Toggle(False)],
) -> Model:
    """Large pictures in less time: a place only looks at its own tile of the picture."""
    tile = max(32, tile_size) // 8
    return _reduced(
        model,
        HyperTile(tile=tile, swaps=swap_size, max_depth=max_depth, is_scaled=scale_depth),
    )


@node("TomePatchModel", category=_CATEGORY)
def tome_patch_model(
    model: Model, ratio: Annotated[float, Float(0.3, min=0.0, max=1.0, step=0.01)]
) -> Model:
    """Large pictures in less time: a share of the places is merged with others like them."""
    return _reduced(model, TokenMerging(ratio=ratio))


@node("PerturbedAttentionGuidance", category=_CATEGORY)
def perturbed_attention_guidance(
    model: Model,
    scale: Annotated[float, Float(3.0, min=0.0, max=100.0, step=0.01, round=0.01)],
) -> Model:
    """Steadier shapes: away from what the model sees with its attention switched off."""
    return model.with_hook(perturbed_attention(scale), append=True)


@node(
    "SelfAttentionGuidance",
    title="Self-Attention Guidance",
    category="_for_testing",
    is_experimental=True,
)
def self_attention_guidance(
    model: Model,
    scale: Annotated[float, Float(0.5, min=-2.0, max=5.0, step=0.01)],
    blur_sigma: Annotated[float, Float(2.0, min=0.0, max=10.0, step=0.1)],
) -> Model:
    """Finer details: away from what the model sees when its centre of attention is blurred."""
    watch, guide = SelfAttentionGuidance(scale, blur_sigma).hooks()
    model = model.with_option("disable_cfg1_optimization", True)
    return model.with_hook(watch).with_hook(guide, append=True)


@node(
    "PerpNeg",
    title="Perp-Neg (DEPRECATED by PerpNegGuider)",
    category="_for_testing",
    is_experimental=True,
    is_deprecated=True,
)
def perp_neg(
    model: Model,
    empty_conditioning: Conditioning,
    neg_scale: Annotated[float, Float(1.0, min=0.0, max=100.0, step=0.01)],
) -> Model:
    """Takes away only what of the negative prompt does not oppose the positive one."""
    return model.with_hook(guidance.perp_neg_hook(empty_conditioning, neg_scale))


@node("Epsilon Scaling", category=_CATEGORY)
def epsilon_scaling(
    model: Model,
    scaling_factor: Annotated[float, Float(1.005, min=0.5, max=1.5, step=0.001)],
) -> Model:
    """Divides the predicted noise by a number, against errors that add up over the steps."""
    return model.with_hook(guidance.epsilon_scaling(scaling_factor), append=True)


@node(
    "CFGZeroStar",
    category="advanced/guidance",
    output_names=("patched_model",),
)
def cfg_zero_star(model: Model) -> Model:
    """Guidance for flow models that scales the negative prediction to fit the positive one."""
    hook = Hook(slot="sampler_cfg_function", function=guidance.zero_star, key="cfg_zero_star")
    return model.with_hook(hook)


_EXPERIMENTS = "_for_testing/attention_experiments"
_Factor = Annotated[float, _scale(1.0)]


def _with_hooks(model: Model, hooks: Sequence[Hook]) -> Model:
    for hook in hooks:
        model = model.with_hook(hook, append=True)
    return model


@node("UNetSelfAttentionMultiply", category=_EXPERIMENTS, is_experimental=True)
def unet_self_attention_multiply(
    model: Model, q: _Factor, k: _Factor, v: _Factor, out: _Factor
) -> Model:
    """Multiplies parts of the attention of the picture to itself."""
    return _with_hooks(model, scaled_attention("attn1", q, k, v, out))


@node("UNetCrossAttentionMultiply", category=_EXPERIMENTS, is_experimental=True)
def unet_cross_attention_multiply(
    model: Model, q: _Factor, k: _Factor, v: _Factor, out: _Factor
) -> Model:
    """Multiplies parts of the attention of the picture to the text."""
    return _with_hooks(model, scaled_attention("attn2", q, k, v, out))


NODES = [
    cfg_zero_star,
    unet_self_attention_multiply,
    unet_cross_attention_multiply,
    freeu,
    freeu_v2,
    differential_diffusion,
    hyper_tile,
    tome_patch_model,
    perturbed_attention_guidance,
    self_attention_guidance,
    perp_neg,
    epsilon_scaling,
]
