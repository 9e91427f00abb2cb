"""Event files for TensorBoard, by the package tensorboardX where it is installed."""

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.api.errors import EngineError
from engine.diffusion.training.loop import Step

PACKAGE = "tensorboardX"


def require_board() -> None:
    """Raises: EngineError, where the package is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise EngineError(
            f"Event files for TensorBoard need the package {PACKAGE}, which is not installed.",
            hint=f"pip install {PACKAGE}, or switch tensorboard off in Training Records.",
        )


@dataclass(slots=True)
class Board:
    """Writes the numbers and pictures of one run; steps done again replace those before them."""

    folder: Path
    _writer: Any = None

    def add(self, step: Step, validation: float | None, pictures: Tensor | None) -> None:
        """Shapes: pictures (N, H, W, 3) 0..1."""
        if self._writer is None:
            module = importlib.import_module(PACKAGE)
            self._writer = module.SummaryWriter(
                str(self.folder),
                purge_step=step.number,
                # files are named by the second: another sitting may be in the same one
                filename_suffix=f".{step.number}",
            )
        self._writer.add_scalar("loss/training", step.loss, step.number)
        self._writer.add_scalar("learning_rate", step.lr, step.number)
        if validation is not None:
            self._writer.add_scalar("loss/validation", validation, step.number)
        for number, picture in enumerate(() if pictures is None else pictures):
            image = picture.clamp(0, 1).cpu().numpy()
            self._writer.add_image(f"samples/{number + 1}", image, step.number, dataformats="HWC")

    def close(self) -> None:
        """Writes what is still on its way."""
        if self._writer is not None:
            self._writer.close()
