"""Nodes between pictures and latents."""

from typing import Annotated

import torch

from engine.api import (
    Conditioning,
    Image,
    Int,
    Latent,
    Mask,
    NodeError,
    RunContext,
    Toggle,
    Vae,
    node,
)
from engine.api.recipe import Recipe
from engine.diffusion import latent_ops
from engine.diffusion import vae as autoencoder
from engine.diffusion.conditioning_ops import with_options

_TESTING = "_for_testing"
_Overlap = Annotated[
    int,
    Int(
        64,
        min=0,
        max=4096,
        step=32,
        tooltip="Pixels that neighbouring tiles share. Below a quarter of the tile, and with tiles "
        "below 256, seams may be seen.",
    ),
]
_Temporal = Annotated[
    int, Int(64, min=8, max=4096, step=4, tooltip="For video VAEs; without effect on pictures.")
]
_TemporalOverlap = Annotated[
    int, Int(8, min=4, max=4096, step=4, tooltip="For video VAEs; without effect on pictures.")
]


def _present(vae: Recipe | None) -> Recipe:
    if vae is None:
        raise NodeError(
            "The vae input is empty: the checkpoint has no VAE.", hint="Add a VAELoader node."
        )
    return vae


@node("VAEDecode", title="VAE Decode", category="latent", search=("picture",))
def vae_decode(samples: Latent, vae: Vae, ctx: RunContext) -> Image:
    """Turns a latent into pictures."""
    with ctx.models.use(_present(vae)) as loaded:
        latent_ops.check_channels(samples["samples"], loaded.latent_channels, "VAE")
        return autoencoder.decode(loaded, samples["samples"])


@node("VAEEncode", title="VAE Encode", category="latent")
def vae_encode(pixels: Image, vae: Vae, ctx: RunContext) -> Latent:
    """Turns pictures into a latent."""
    with ctx.models.use(_present(vae)) as loaded:
        return {"samples": autoencoder.encode(loaded, pixels)}


@node("VAEDecodeTiled", title="VAE Decode (Tiled)", category=_TESTING)
def vae_decode_tiled(
    samples: Latent,
    vae: Vae,
    tile_size: Annotated[int, Int(512, min=64, max=4096, step=32)],
    overlap: _Overlap,
    temporal_size: _Temporal,
    temporal_overlap: _TemporalOverlap,
    ctx: RunContext,
) -> Image:
    """Turns a latent into pictures, tile by tile, with less memory."""
    with ctx.models.use(_present(vae)) as loaded:
        latent_ops.check_channels(samples["samples"], loaded.latent_channels, "VAE")
        return autoencoder.decode_tiled(
            loaded,
            samples["samples"],
            tile=tile_size,
            overlap=overlap,
            on_tile=ctx.check_cancelled,
        )


@node("VAEEncodeTiled", title="VAE Encode (Tiled)", category=_TESTING)
def vae_encode_tiled(
    pixels: Image,
    vae: Vae,
    tile_size: Annotated[int, Int(512, min=64, max=4096, step=64)],
    overlap: _Overlap,
    temporal_size: _Temporal,
    temporal_overlap: _TemporalOverlap,
    ctx: RunContext,
) -> Latent:
    """Turns pictures into a latent, tile by tile, with less memory."""
    with ctx.models.use(_present(vae)) as loaded:
        encoded = autoencoder.encode_tiled(
            loaded, pixels, tile=tile_size, overlap=overlap, on_tile=ctx.check_cancelled
        )
    return {"samples": encoded}


@node("VAEEncodeForInpaint", title="VAE Encode (for Inpainting)", category="latent/inpaint")
def vae_encode_for_inpaint(
    pixels: Image,
    vae: Vae,
    mask: Mask,
    grow_mask_by: Annotated[int, Int(6, min=0, max=64, step=1)],
    ctx: RunContext,
) -> Latent:
    """Turns pictures into a latent with what a mask covers left grey, to be painted."""
    pixels, cut = latent_ops.cut_for_inpaint(pixels, mask)
    with ctx.models.use(_present(vae)) as loaded:
        samples = autoencoder.encode(loaded, latent_ops.hidden(pixels, cut))
    return {"samples": samples, "noise_mask": latent_ops.grown(cut, grow_mask_by)}


@node(
    "InpaintModelConditioning",
    category="conditioning/inpaint",
    output_names=("positive", "negative", "latent"),
)
def inpaint_model_conditioning(
    positive: Conditioning,
    negative: Conditioning,
    vae: Vae,
    pixels: Image,
    mask: Mask,
    noise_mask: Annotated[bool, Toggle(True, tooltip="Keep what the mask leaves out exactly.")],
    ctx: RunContext,
) -> tuple[Conditioning, Conditioning, Latent]:
    """Shows an inpainting model the picture and where to paint."""
    pixels, cut = latent_ops.cut_for_inpaint(pixels, mask)
    with ctx.models.use(_present(vae)) as loaded:
        shown = autoencoder.encode(loaded, latent_ops.hidden(pixels, cut))
        latent: Latent = {"samples": autoencoder.encode(loaded, pixels)}
    if noise_mask:
        latent["noise_mask"] = cut
    options = {"concat_latent_image": shown, "concat_mask": cut}
    first, second = (with_options(c, options) for c in (positive, negative))
    return first, second, latent


@node(
    "InstructPixToPixConditioning",
    category="conditioning/instructpix2pix",
    output_names=("positive", "negative", "latent"),
)
def instruct_pix_to_pix_conditioning(
    positive: Conditioning, negative: Conditioning, vae: Vae, pixels: Image, ctx: RunContext
) -> tuple[Conditioning, Conditioning, Latent]:
    """Shows an InstructPix2Pix model the picture that it is to change."""
    with ctx.models.use(_present(vae)) as loaded:
        shown = autoencoder.encode(loaded, pixels)
    options = {"concat_latent_image": shown}
    first, second = (with_options(c, options) for c in (positive, negative))
    return first, second, {"samples": torch.zeros_like(shown)}


NODES = [
    vae_decode,
    vae_encode,
    vae_decode_tiled,
    vae_encode_tiled,
    vae_encode_for_inpaint,
    inpaint_model_conditioning,
    instruct_pix_to_pix_conditioning,
]
