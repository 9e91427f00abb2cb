"""Nodes of vector-quantised autoencoders: pictures as grids of codes, and back."""

from typing import Annotated

from engine.api import Choice, Image, Latent, RunContext, VqModel, node
from engine.diffusion.vq_autoencoder import decode_codes, encode_codes, open_vq

_CATEGORY = "training/vq autoencoder"


@node("LoadVQAutoencoder", title="Load VQ Autoencoder", category=_CATEGORY, search=("VQ-VAE",))
def load_vq_autoencoder(
    model_name: Annotated[str, Choice(folder="vq_autoencoders")], ctx: RunContext
) -> VqModel:
    """Opens a model that Train VQ Autoencoder made."""
    path = ctx.files.resolve("vq_autoencoders", model_name)
    return open_vq(path, ctx.files.digest(path), model_name)


@node("VQEncode", title="VQ Encode", category=_CATEGORY, search=("VQ-VAE", "codes"))
def vq_encode(pixels: Image, vq_model: VqModel, ctx: RunContext) -> Latent:
    """Turns pictures into a grid of codes; each place is a vector out of the model's book."""
    with ctx.models.use(vq_model) as loaded:
        return {"samples": encode_codes(loaded, pixels)}


@node("VQDecode", title="VQ Decode", category=_CATEGORY, search=("VQ-VAE", "codes"))
def vq_decode(samples: Latent, vq_model: VqModel, ctx: RunContext) -> Image:
    """Turns a grid of codes into pictures."""
    with ctx.models.use(vq_model) as loaded:
        return decode_codes(loaded, samples["samples"])


NODES = [load_vq_autoencoder, vq_encode, vq_decode]
