"""Nodes that change how a model works inside, or how its mask is used."""

from collections.abc import Sequence
from typing import Annotated

from engine.api import Choice, Clip, Conditioning, Float, Int, Model, RunContext, Toggle, node
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
from engine.diffusion.deep_shrink import DeepShrink
from engine.diffusion.freeu import freeu_patch
from engine.diffusion.mask_steps import differential_mask
from engine.diffusion.patches import with_scaled_attention
from engine.diffusion.sample import model_parameterization

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


@node("CLIPAttentionMultiply", category=_EXPERIMENTS, is_experimental=True)
def clip_attention_multiply(clip: Clip, q: _Factor, k: _Factor, v: _Factor, out: _Factor) -> Clip:
    """Multiplies parts of the attention of a text encoder."""
    return with_scaled_attention(clip, q, k, v, out)


@node("UNetTemporalAttentionMultiply", category=_EXPERIMENTS, is_experimental=True)
def unet_temporal_attention_multiply(
    model: Model,
    self_structural: _Factor,
    self_temporal: _Factor,
    cross_structural: _Factor,
    cross_temporal: _Factor,
) -> Model:
    """Multiplies what attention within a picture gives; the temporal factors only act in models
    of moving pictures."""
    hooks = (
        *scaled_attention("attn1", 1.0, 1.0, 1.0, self_structural),
        *scaled_attention("attn2", 1.0, 1.0, 1.0, cross_structural),
    )
    return _with_hooks(model, hooks)


@node(
    "CFGNorm", category="advanced/guidance", output_names=("patched_model",), is_experimental=True
)
def cfg_norm(
    model: Model, strength: Annotated[float, Float(1.0, min=0.0, max=100.0, step=0.01)]
) -> Model:
    """Keeps a high cfg from burning out: no place may get stronger than the prompt alone has it."""
    return model.with_hook(guidance.cfg_norm(strength), append=True)


@node(
    "Mahiro",
    title="Mahiro is so cute that she deserves a better guidance function!! (。・ω・。)",
    category="_for_testing",
    output_names=("patched_model",),
    is_experimental=True,
)
def mahiro(model: Model) -> Model:
    """Guidance that leans more on the positive prompt where the negative one opposes it."""
    hook = Hook(
        slot="sampler_post_cfg_function", function=guidance.positive_leap, key="positive_leap"
    )
    return model.with_hook(hook, append=True)


_Method = Annotated[str, Choice(("bicubic", "nearest-exact", "bilinear", "area", "bislerp"))]


@node(
    "PatchModelAddDownscale",
    title="PatchModelAddDownscale (Kohya Deep Shrink)",
    category=_CATEGORY,
    search=("deep shrink", "large pictures"),
)
def patch_model_add_downscale(
    model: Model,
    block_number: Annotated[int, Int(3, min=1, max=32, step=1)],
    downscale_factor: Annotated[float, Float(2.0, min=0.1, max=9.0, step=0.001)],
    start_percent: Annotated[float, Float(0.0, min=0.0, max=1.0, step=0.001)],
    end_percent: Annotated[float, Float(0.35, min=0.0, max=1.0, step=0.001)],
    downscale_after_skip: Annotated[bool, Toggle(True)],
    downscale_method: _Method,
    upscale_method: _Method,
    ctx: RunContext,
) -> Model:
    """Large pictures without doubled shapes: the first steps work on a smaller inside."""
    times = model_parameterization(ctx, model).times
    shrink = DeepShrink(
        block=block_number,
        factor=downscale_factor,
        sigma_start=times.sigma_at(start_percent),
        sigma_end=times.sigma_at(end_percent),
        downscale=downscale_method,
        upscale=upscale_method,
    )
    return _with_hooks(model, shrink.hooks(is_after_skip=downscale_after_skip))


@node("ModelComputeDtype", category="advanced/debug/model")
def model_compute_dtype(
    model: Model, dtype: Annotated[str, Choice(("default", "fp32", "fp16", "bf16"))]
) -> Model:
    """Sets the number type that a model computes in, for this model alone."""
    return model.with_option("precision", None if dtype == "default" else dtype)


@node("TorchCompileModel", category="_for_testing", is_experimental=True)
def torch_compile_model(
    model: Model, backend: Annotated[str, Choice(("inductor", "cudagraphs"))]
) -> Model:
    """Compiles a model: the first step takes minutes, the following ones less time than before.

    Each picture size is compiled anew. Patches inside the network run without it.
    """
    return model.with_option("compile", backend)


NODES = [
    clip_attention_multiply,
    unet_temporal_attention_multiply,
    cfg_norm,
    mahiro,
    patch_model_add_downscale,
    model_compute_dtype,
    torch_compile_model,
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
