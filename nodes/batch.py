"""Nodes that cut, join and part batches of pictures and latents."""

from typing import Annotated, Any

from engine.api import Choice, Image, Int, Latent, node
from engine.diffusion import latent_batches, latent_ops

_BatchSize = Annotated[int, Int(1, min=1, max=4096)]
_Side = Annotated[int, Int(1024, min=16, max=16384, step=16)]
_Axis = Choice(tuple(latent_batches.AXES))
_SignedAxis = Choice(tuple(f"{sign}{axis}" for axis in latent_batches.AXES for sign in ("", "-")))


@node(
    "RebatchImages",
    title="Rebatch Images",
    category="image/batch",
    takes_lists=True,
    list_outputs=(0,),
)
def rebatch_images(images: Image, batch_size: _BatchSize) -> Image:
    """Parts and joins batches of pictures so that each has a size."""
    lists: Any = latent_batches.rebatched_images(*_lists(images, batch_size))
    return lists


@node(
    "RebatchLatents",
    title="Rebatch Latents",
    category="latent/batch",
    takes_lists=True,
    list_outputs=(0,),
)
def rebatch_latents(latents: Latent, batch_size: _BatchSize) -> Latent:
    """Parts and joins batches of latents so that each has a size; each item keeps its noise."""
    lists: Any = latent_batches.rebatched_latents(*_lists(latents, batch_size))
    return lists


def _lists(items: Any, sizes: Any) -> tuple[list[Any], int]:
    """A node that takes lists gets each input as a list, also the size."""
    return items, sizes[0]


@node("LatentCut", category="latent/advanced")
def latent_cut(
    samples: Latent,
    dim: Annotated[str, _Axis],
    index: Annotated[int, Int(0, min=-16384, max=16384, step=1)],
    amount: Annotated[int, Int(1, min=1, max=16384, step=1)],
) -> Latent:
    """Takes a stretch out of a latent, in cells of the latent."""
    return latent_batches.cut(samples, dim, index, amount)


@node("LatentConcat", category="latent/advanced")
def latent_concat(samples1: Latent, samples2: Latent, dim: Annotated[str, _SignedAxis]) -> Latent:
    """Puts two latents one after the other; with a minus the second comes first."""
    return latent_batches.concatenated(samples1, samples2, dim)


@node("LatentBatchSeedBehavior", category="latent/advanced")
def latent_batch_seed_behavior(
    samples: Latent,
    seed_behavior: Annotated[str, Choice(("random", "fixed"), default="fixed")],
) -> Latent:
    """Gives all items of a batch the same noise, or each its own."""
    return latent_batches.with_seed_behaviour(samples, is_fixed=seed_behavior == "fixed")


@node("EmptySD3LatentImage", category="latent/sd3")
def empty_sd3_latent_image(width: _Side, height: _Side, batch_size: _BatchSize) -> Latent:
    """A latent of zeros with the 16 channels of newer families."""
    return {"samples": latent_ops.empty(width, height, batch_size, channels=16)}


NODES = [
    rebatch_images,
    rebatch_latents,
    latent_cut,
    latent_concat,
    latent_batch_seed_behavior,
    empty_sd3_latent_image,
]
