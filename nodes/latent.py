"""Nodes that make and change latents."""

from typing import Annotated

from engine.api import Int, Latent, node
from engine.diffusion import latent_ops

_Size = Annotated[int, Int(512, min=16, max=16384, step=8)]


@node(
    "EmptyLatentImage",
    title="Empty Latent Image",
    category="latent",
    aliases=("EmptyLatent",),
    search=("EmptyLatent", "size"),
)
def empty_latent_image(
    width: _Size, height: _Size, batch_size: Annotated[int, Int(1, min=1, max=4096)]
) -> Latent:
    """A latent of zeros to start from."""
    return {"samples": latent_ops.empty(width, height, batch_size)}


NODES = [empty_latent_image]
