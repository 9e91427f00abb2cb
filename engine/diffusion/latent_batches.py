"""Batches of pictures and latents cut, joined and parted. Never changes its inputs."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.latent_ops import from_batch, noise_mask, repeated, resized

if TYPE_CHECKING:
    from engine.api.types import LatentDict

AXES = {"x": -1, "y": -2, "t": -3}


def cut(latent: "LatentDict", axis: str, index: int, amount: int) -> "LatentDict":
    """A stretch of a latent along an axis, in cells; it ends where the latent ends.

    A negative index counts from the end. What starts outside is moved to the nearest cell.
    """
    samples: Tensor = latent["samples"]
    size = samples.shape[AXES[axis]]
    start = min(index, size - 1) if index >= 0 else max(index + size, 0)
    return resized(latent, samples.narrow(AXES[axis], start, min(amount, size - start)).clone())


def concatenated(first: "LatentDict", second: "LatentDict", axis: str) -> "LatentDict":
    """Two latents one after the other along an axis; with a minus the second comes first.

    Raises: NodeError, when their other sides differ.
    """
    a: Tensor = first["samples"]
    b = repeated(second["samples"], len(a))
    along = AXES[axis.removeprefix("-")] % a.ndim
    if a.ndim != b.ndim or any(
        x != y for n, (x, y) in enumerate(zip(a.shape, b.shape, strict=True)) if n != along
    ):
        raise NodeError(
            f"The latents do not fit along {axis}: their shapes are {list(a.shape)} and "
            f"{list(second['samples'].shape)}.",
            hint="Their other sides must be equal.",
        )
    return resized(first, torch.cat([b, a] if axis.startswith("-") else [a, b], dim=along))


def with_seed_behaviour(latent: "LatentDict", *, is_fixed: bool) -> "LatentDict":
    """Fixed, all items get the noise of the first one; else each gets its own."""
    result: Any = {k: v for k, v in latent.items() if k != "batch_index"}
    if is_fixed:
        first = (latent.get("batch_index") or [0])[0]
        result["batch_index"] = [first] * len(latent["samples"])
    return result


def rebatched_images(batches: Sequence[Tensor], size: int) -> list[Tensor]:
    """The same pictures in batches of a size; one of another shape begins a new batch."""
    items = [item for batch in batches for item in batch]
    return [
        torch.stack(same[start : start + size])
        for _, group in groupby(items, key=lambda item: item.shape)
        for same in [list(group)]
        for start in range(0, len(same), size)
    ]


def rebatched_latents(batches: Sequence["LatentDict"], size: int) -> "list[LatentDict]":
    """The same latents in batches of a size, with their masks and the numbers of their noise.

    One of another shape, or with a mask where the others have none, begins a new batch.
    """
    items: list[Any] = []
    for batch in batches:
        items += [from_batch(_whole(batch), n, 1) for n in range(len(batch["samples"]))]
    return [
        _joined(same[start : start + size])
        for _, group in groupby(items, key=_shapes)
        for same in [list(group)]
        for start in range(0, len(same), size)
    ]


def _whole(latent: "LatentDict") -> "LatentDict":
    """With one mask for each item."""
    mask = latent.get("noise_mask")
    if mask is None:
        return latent
    masks = repeated(noise_mask(mask), len(latent["samples"]))
    return {**latent, "noise_mask": masks}  # pyright: ignore[reportReturnType] - packs' keys stay


def _shapes(latent: "LatentDict") -> tuple[object, ...]:
    mask = latent.get("noise_mask")
    return latent["samples"].shape[1:], None if mask is None else mask.shape[1:]


def _joined(items: Sequence[Any]) -> Any:
    result = {**items[0], "samples": torch.cat([item["samples"] for item in items])}
    result["batch_index"] = [n for item in items for n in item["batch_index"]]
    if "noise_mask" in result:
        result["noise_mask"] = torch.cat([noise_mask(item["noise_mask"]) for item in items])
    return result
