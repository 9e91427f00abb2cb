"""All that a training run must remember to go on exactly where it stopped, in one atomic file."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from engine.api.errors import CorruptFile

Tensors = dict[str, torch.Tensor]


@dataclass(slots=True, kw_only=True)
class TrainState:
    """Position of a run and its running averages; the loop changes it in place.

    Units: `elapsed_s` is training time over all sittings.
    """

    step: int = 0
    elapsed_s: float = 0.0
    average: Tensors = field(default_factory=dict)
    generator: torch.Generator = field(default_factory=torch.Generator)


def write_atomically(payload: object, path: Path) -> None:
    """Saves with torch so that a crash leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(payload, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def save_state(
    path: Path, state: TrainState, net: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Writes weights, optimizer, averages, random state and position to one file."""
    write_atomically(
        {
            "step": state.step,
            "elapsed_s": state.elapsed_s,
            "average": state.average,
            "generator": state.generator.get_state(),
            "net": net.state_dict(),
            "optimizer": optimizer.state_dict(),
        },
        path,
    )


def load_state(
    path: Path, state: TrainState, net: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> bool:
    """Fills the state, the net and the optimizer from a file; False where there is none.

    Raises: CorruptFile when the file cannot be read or belongs to another network.
    """
    if not path.exists():
        return False
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        state.generator.set_state(saved["generator"])
        state.step, state.elapsed_s = int(saved["step"]), float(saved["elapsed_s"])
        state.average = saved["average"]
    except (RuntimeError, KeyError, ValueError, EOFError) as error:
        raise CorruptFile(
            f"The training state {path} cannot be resumed: {error}",
            hint="Delete it to start this stage again, or use the settings it was made with.",
        ) from error
    return True
