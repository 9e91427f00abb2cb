"""The loss of pictures that a training never sees: whether it learns, or learns by heart."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from engine.api.errors import NodeError
from engine.diffusion.training.data.batches import Batches, BatchOptions
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.loop import Loss

_SEED = 0
_DRAWS = 16  # each measurement sees at least so many pictures, the same one more than once


@dataclass(frozen=True, kw_only=True)
class HeldBack:
    """Measures a mean loss: always the same pictures, noise and timesteps, so that measurements
    differ by the weights alone."""

    loss: Loss
    calls: int
    data: Batches | None = None

    @torch.no_grad()
    def __call__(self) -> float:
        if self.data is not None:
            self.data.rewind()
        generator = torch.Generator().manual_seed(_SEED)
        with torch.random.fork_rng(devices=[]):
            losses = [float(self.loss(0.0, generator)) for _ in range(self.calls)]
        return sum(losses) / len(losses)


def over_dataset(
    loss_on: Callable[[Batches], Loss], dataset: Dataset, options: BatchOptions
) -> HeldBack:
    """A measurement over whole epochs of a dataset, drawn as in training but without chance."""
    crop = "center" if options.crop == "random" else options.crop
    steady = replace(
        options, crop=crop, flip=False, caption_dropout=0.0, shuffle_tags=False, seed=_SEED
    )
    data = Batches(dataset, steady)
    calls = calls_for(len(dataset)) * data.batches_per_epoch
    return HeldBack(loss=loss_on(data), data=data, calls=calls)


def calls_for(seen: int) -> int:
    """How many calls see enough pictures, when each sees `seen`."""
    return max(1, -(-_DRAWS // seen))


def require_apart(training: Dataset, validation: Dataset) -> None:
    """Raises: NodeError, where pictures are in both, or the second cannot be measured."""
    validation.require()
    trained = {e.digest for e in training.examples}
    both = [e.path.name for e in validation.examples if e.digest in trained]
    if both:
        raise NodeError(
            f"{len(both)} of the {len(validation)} pictures to validate with are trained on too, "
            f"such as {both[0]}: their loss would say nothing.",
            hint="Split the pictures with Split Dataset.",
        )
