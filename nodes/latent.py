"""Nodes that make and change latents."""

from typing import Annotated

from engine.api import Int, Latent, Mask, node
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


@node("SetLatentNoiseMask", title="Set Latent Noise Mask", category="latent/inpaint")
def set_latent_noise_mask(samples: Latent, mask: Mask) -> Latent:
    """Lets sampling change only what a mask covers."""
    return {**samples, "noise_mask": latent_ops.noise_mask(mask)}


@node("LatentFromBatch", title="Latent From Batch", category="latent/batch")
def latent_from_batch(
    samples: Latent,
    batch_index: Annotated[int, Int(0, min=0, max=63)],
    length: Annotated[int, Int(1, min=1, max=64)],
) -> Latent:
    """Some items of a batch; each keeps the noise it had there."""
    return latent_ops.from_batch(samples, batch_index, length)


NODES = [empty_latent_image, set_latent_noise_mask, latent_from_batch]
