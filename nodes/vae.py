"""Nodes between pictures and latents."""

from engine.api import Image, Latent, NodeError, RunContext, Vae, node
from engine.api.recipe import Recipe
from engine.diffusion import vae as vae_module


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
        return vae_module.decode(loaded, samples["samples"])


@node("VAEEncode", title="VAE Encode", category="latent")
def vae_encode(pixels: Image, vae: Vae, ctx: RunContext) -> Latent:
    """Turns pictures into a latent."""
    with ctx.models.use(_present(vae)) as loaded:
        return {"samples": vae_module.encode(loaded, pixels)}


NODES = [vae_decode, vae_encode]
