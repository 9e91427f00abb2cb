"""Nodes that write prompts for SD3 and Flux, and that set their guidance and reference pictures."""

from functools import partial
from typing import Annotated

from engine.api import (
    Choice,
    Clip,
    Conditioning,
    Float,
    Image,
    Int,
    Latent,
    RunContext,
    Text,
    node,
)
from engine.diffusion.conditioning_ops import with_options
from engine.diffusion.joint_text import encode_joint
from engine.diffusion.references import to_kontext_size, with_reference
from engine.text.embeddings import find_embedding
from nodes.conditioning import present

_FLUX = "advanced/conditioning/flux"
_Prompt = Annotated[str, Text(multiline=True, dynamicPrompts=True)]
_Guidance = Annotated[float, Float(3.5, min=0.0, max=100.0, step=0.1)]


@node("CLIPTextEncodeSD3", category="advanced/conditioning")
def clip_text_encode_sd3(
    clip: Clip,
    clip_l: _Prompt,
    clip_g: _Prompt,
    t5xxl: _Prompt,
    empty_padding: Annotated[str, Choice(("none", "empty_prompt"))],
    ctx: RunContext,
) -> Conditioning:
    """Encodes a prompt for each of SD3's three text encoders.

    With empty_padding `none` an empty text is left out rather than filled up.
    """
    with ctx.models.use(present(clip)) as loaded:
        found = encode_joint(
            loaded,
            {"l": clip_l, "g": clip_g, "t5xxl": t5xxl},
            "sd3",
            drops_empty=empty_padding == "none",
            find_embedding=partial(find_embedding, ctx.files.resolve),
            log=ctx.log,
        )
    return [(found.embeds, {"pooled_output": found.pooled})]


@node("CLIPTextEncodeFlux", category=_FLUX)
def clip_text_encode_flux(
    clip: Clip, clip_l: _Prompt, t5xxl: _Prompt, guidance: _Guidance, ctx: RunContext
) -> Conditioning:
    """Encodes a prompt for each of Flux's two text encoders, and says how closely to follow it."""
    with ctx.models.use(present(clip)) as loaded:
        find = partial(find_embedding, ctx.files.resolve)
        prompts = {"l": clip_l, "t5xxl": t5xxl}
        found = encode_joint(loaded, prompts, "flux", find_embedding=find, log=ctx.log)
    return [(found.embeds, {"pooled_output": found.pooled, "guidance": guidance})]


_Tokens = Annotated[int, Int(0, min=0, max=10000, step=1)]


@node("T5TokenizerOptions", category="_for_testing/conditioning", is_experimental=True)
def t5_tokenizer_options(clip: Clip, min_padding: _Tokens, min_length: _Tokens) -> Clip:
    """Sets how T5 prompts are filled up: by how many tokens at least, and to which length."""
    padded = present(clip).with_option("t5_min_padding", min_padding)
    return padded.with_option("t5_min_length", min_length)


@node("FluxGuidance", category=_FLUX)
def flux_guidance(conditioning: Conditioning, guidance: _Guidance) -> Conditioning:
    """Says how closely Flux dev follows a prompt; cfg itself stays at 1."""
    return with_options(conditioning, {"guidance": guidance})


@node("FluxDisableGuidance", category=_FLUX)
def flux_disable_guidance(conditioning: Conditioning) -> Conditioning:
    """Gives Flux no guidance at all, for models that were trained without it."""
    return with_options(conditioning, {"guidance": None})


@node("FluxKontextImageScale", category=_FLUX)
def flux_kontext_image_scale(image: Image) -> Image:
    """Scales pictures to the nearest of the sizes that Flux Kontext was trained on."""
    return to_kontext_size(image)


@node("ReferenceLatent", category="advanced/conditioning/edit_models")
def reference_latent(conditioning: Conditioning, latent: Latent | None = None) -> Conditioning:
    """Shows an editing model (Flux Kontext) one picture more; chain it for several."""
    return conditioning if latent is None else with_reference(conditioning, latent["samples"])


@node("FluxKontextMultiReferenceLatentMethod", category=_FLUX, is_experimental=True)
def flux_kontext_multi_reference_latent_method(
    conditioning: Conditioning,
    reference_latents_method: Annotated[str, Choice(("offset", "index", "uxo/uno"))],
) -> Conditioning:
    """Says how several reference pictures are placed: side by side, numbered, diagonally."""
    method = reference_latents_method.partition("/")[0]
    return with_options(conditioning, {"reference_latents_method": method})


NODES = [
    clip_text_encode_sd3,
    clip_text_encode_flux,
    t5_tokenizer_options,
    flux_guidance,
    flux_disable_guidance,
    flux_kontext_image_scale,
    reference_latent,
    flux_kontext_multi_reference_latent_method,
]
