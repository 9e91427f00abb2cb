"""The inputs that training nodes share, with the words and limits that they have everywhere."""

from pathlib import Path
from typing import Annotated

from engine.api import Float, Int, Text, Toggle
from engine.api.node import Widget
from engine.api.recipe import FileRef
from engine.diffusion.checkpoint import CheckpointParts, open_checkpoint

Seed = Annotated[int, Int(0, min=0, max=2**63 - 1, control_after_generate=False)]
Batch = Annotated[int, Int(8, min=1, max=1024, tooltip="Crops or pictures in one step.")]
Size = Annotated[
    int, Int(64, min=16, max=2048, step=8, tooltip="Side in pixels at which pictures are learned.")
]
Rank = Annotated[
    int, Int(16, min=1, max=1024, tooltip="How much the LoRA can learn; larger files learn more.")
]
TrainText = Annotated[bool, Toggle(False, tooltip="Train the text encoder too.")]
HalfFile = Annotated[bool, Toggle(True, tooltip="Half the file's size (fp16).")]


def name_of(default: str) -> Widget:
    """The name of a result."""
    return Text(default, tooltip="The result's file name. A name that is taken gets a number.")


def steps_of(default: int) -> Widget:
    """The length of a training."""
    return Int(
        default, min=1, max=10_000_000, tooltip="How many steps to train; each sees one batch."
    )


def rate_of(default: float) -> Widget:
    """The learning rate."""
    return Float(
        default,
        min=0.0,
        max=10.0,
        step=1e-6,
        round=False,
        tooltip="The learning rate: lower where the loss jumps, higher where nothing is learned.",
    )


def dropout_of(default: float, tooltip: str) -> Widget:
    """A share of the captions or condition pictures that are left empty."""
    return Float(default, min=0.0, max=1.0, step=0.05, tooltip=tooltip)


def opened(file: FileRef) -> CheckpointParts:
    """The parts of a checkpoint that was trained."""
    return open_checkpoint(Path(file.path), file.digest, file.name)
