"""All that a training run must remember to go on exactly where it stopped, in one atomic file."""

import errno
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from engine.api.errors import CorruptFile, StorageError
from engine.api.whole_file import write_whole

Tensors = dict[str, torch.Tensor]


class Stateful(Protocol):
    """What feeds a run and must resume with it: the order of data, random augmentation."""

    def state(self) -> Any:
        """A JSON-like value."""
        ...

    def load_state(self, state: Any) -> None: ...


@dataclass(slots=True, kw_only=True)
class TrainState:
    """Position of a run and its running averages; the loop changes it in place.

    Units: `elapsed_s` is training time over all sittings.
    """

    step: int = 0
    elapsed_s: float = 0.0
    average: Tensors = field(default_factory=dict)
    generator: torch.Generator = field(default_factory=torch.Generator)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """The live parts of a run that its state file holds."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None = None
    data: Stateful | None = None

    def trained(self) -> Tensors:
        """The weights that learn, and all buffers."""
        frozen = {name for name, p in self.net.named_parameters() if not p.requires_grad}
        return {k: v for k, v in self.net.state_dict().items() if k not in frozen}


def write_atomically(payload: object, path: Path) -> None:
    """Saves with torch so that a crash leaves the old file or the new one, never half of one.

    Raises: StorageError (disk full …); the old file is still there then.
    """
    try:
        write_whole(path, lambda file: torch.save(payload, file))
    except (OSError, RuntimeError) as error:  # torch's writer hides the disk's own error
        raise _not_written(path, error) from error


def _not_written(path: Path, error: Exception) -> StorageError:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full else str(getattr(cause, "strerror", None) or error)
    return StorageError(
        f"The training state {path} cannot be written: {reason}.",
        hint="Free some space or allow writing there, then run it again: it goes on from the "
        "last state that was written.",
    )


def save_state(path: Path, state: TrainState, trainee: Trainee) -> None:
    """Writes weights, optimizer, averages, random state, data order and position to one file.

    Raises: StorageError.
    """
    scaler, data = trainee.scaler, trainee.data
    write_atomically(
        {
            "step": state.step,
            "elapsed_s": state.elapsed_s,
            "average": state.average,
            "generator": state.generator.get_state(),
            "global_generator": torch.get_rng_state(),
            "net": trainee.trained(),
            "optimizer": trainee.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "data": data.state() if data else None,
        },
        path,
    )


def load_state(path: Path, state: TrainState, trainee: Trainee) -> bool:
    """Fills the state, the net and the optimizer from a file; False where there is none.

    Raises: CorruptFile when the file cannot be read or belongs to another network.
    """
    if not path.exists():
        return False
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["net"].keys() != trainee.trained().keys():
            raise ValueError("it belongs to another network")
        trainee.net.load_state_dict(saved["net"], strict=False)
        trainee.optimizer.load_state_dict(saved["optimizer"])
        state.generator.set_state(saved["generator"])
        torch.set_rng_state(saved["global_generator"])
        state.step, state.elapsed_s = int(saved["step"]), float(saved["elapsed_s"])
        device = next(iter(trainee.net.parameters())).device
        state.average = {name: value.to(device) for name, value in saved["average"].items()}
        if trainee.scaler is not None:
            trainee.scaler.load_state_dict(saved["scaler"])
        if trainee.data is not None:
            trainee.data.load_state(saved["data"])
    except (RuntimeError, KeyError, ValueError, EOFError, TypeError) as error:
        raise CorruptFile(
            f"The training state {path} cannot be resumed: {error}",
            hint="Delete it to start this stage again, or use the settings it was made with.",
        ) from error
    return True
