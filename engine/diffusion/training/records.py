"""What a training leaves beside its result: snapshots, a sheet of its samples, its curve."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from engine.diffusion.grid_sheet import draw_sheet
from engine.diffusion.image_ops import to_pil
from engine.diffusion.training.report import Curve
from engine.diffusion.training.result_files import (
    RUN_KEY,
    find_target,
    run_of,
    write_bytes,
    write_result,
)
from engine.text.grid_page import GridTable

_COLUMNS = 10  # of the sheet; of more steps some are left out


@dataclass(frozen=True, kw_only=True)
class Records:
    """The files of one run; `folder` holds what goes when it is finished."""

    result: Path
    folder: Path
    run: str

    def keep(
        self, step: int, kept: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> None:
        """A snapshot beside the result, of which the newest `kept` stay. Raises: StorageError."""
        name = f"{self.result.stem}-step{step:06}{self.result.suffix}"
        target = find_target(self.result.with_name(name), self._mark(step))
        if not target.is_finished:
            write_result(target.path, tensors, {**metadata, RUN_KEY: self._mark(step)})
        own = sorted(
            path
            for path in self.result.parent.glob(f"{_literal(self.result.stem)}-step*")
            if path.suffix == self.result.suffix and (run_of(path) or "").startswith(self._mark(""))
        )
        for path in own[:-kept]:
            path.unlink()

    def _mark(self, step: int | str) -> str:
        return f"{self.run} step {step}"

    def keep_pictures(self, step: int, pictures: Tensor) -> None:
        """Sample pictures, for the sheet. Shapes: (N, H, W, 3) 0..1. Raises: StorageError."""
        for number, picture in enumerate(pictures):
            image = to_pil(picture)
            write_bytes(self._picture(step, number), lambda file, i=image: i.save(file, "PNG"))

    def _picture(self, step: int, number: int) -> Path:
        return self.folder / "samples" / f"{step:08}-{number}.png"

    def write_sheet(self, prompts: Sequence[str]) -> None:
        """All samples by step and prompt as one picture: the result's preview.

        Raises: StorageError.
        """
        steps = sorted({int(path.name[:8]) for path in self.folder.glob("samples/*.png")})
        if not steps:
            return
        steps = _some(steps)
        count = len(list(self.folder.glob(f"samples/{steps[-1]:08}-*.png")))
        table = GridTable(
            title=self.result.stem,
            axes=(
                ("step", [str(step) for step in steps]),
                ("", [prompts[n] if n < len(prompts) else str(n + 1) for n in range(count)]),
            ),
            files={},
        )
        cells = {(x, y): self._picture(s, y) for x, s in enumerate(steps) for y in range(count)}
        sheet = draw_sheet(table, cells)
        write_bytes(sheet_of(self.result), lambda file: sheet.save(file, "PNG"))

    def write_curve(self, curve: Curve) -> None:
        """The numbers as a table. Raises: StorageError."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("step", "loss", "learning_rate", "validation_loss"))
        writer.writerows(curve.rows())
        data = text.getvalue().encode()
        write_bytes(self.result.with_suffix(".csv"), lambda file: file.write(data))


def sheet_of(result: Path) -> Path:
    """Where the sheet of a result's samples lies: where previews of models are looked for."""
    return result.with_name(f"{result.stem}.preview.png")


def _some(steps: Sequence[int]) -> list[int]:
    """At most so many as a sheet has columns, evenly spaced, first and last among them."""
    if len(steps) <= _COLUMNS:
        return list(steps)
    return [steps[round(n * (len(steps) - 1) / (_COLUMNS - 1))] for n in range(_COLUMNS)]


def _literal(name: str) -> str:
    """A name without meaning for glob."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
