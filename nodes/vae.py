"""Nodes between pictures and latents."""

from typing import Annotated

from engine.api import Image, Int, Latent, Mask, NodeError, RunContext, Vae, node
from engine.api.recipe import Recipe
from engine.diffusion import latent_ops
from engine.diffusion import vae as autoencoder

_TESTING = "_for_testing"
_Overlap = Annotated[int, Int(64, min=0, max=4096, step=32)]
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
    hidden, grown = latent_ops.inpaint_pixels(pixels, mask, grow_mask_by)
    with ctx.models.use(_present(vae)) as loaded:
        return {"samples": autoencoder.encode(loaded, hidden), "noise_mask": grown}


NODES = [vae_decode, vae_encode, vae_decode_tiled, vae_encode_tiled, vae_encode_for_inpaint]
