"""What a training run tells: lines for a terminal; a curve, numbers and pictures for a node."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.diffusion.training.loop import Step

if TYPE_CHECKING:
    from torch import Tensor

Report = Callable[[str], None]
MAX_POINTS = 500  # of a curve; then every second one goes
SMOOTHING = 0.95


@dataclass(slots=True)
class StepLines:
    """Tells the mean loss of every `every` steps as a line of text."""

    report: Report
    every: int = 100
    _recent: list[float] = field(default_factory=list)
    _is_first: bool = True

    def __call__(self, step: Step) -> None:
        if self._is_first and step.number > 1:
            self.report(f"resumed at step {step.number - 1}")
        self._is_first = False
        self._recent.append(step.loss)
        if step.number % self.every == 0:
            mean = sum(self._recent) / len(self._recent)
            self.report(
                f"step {step.number} ({step.progress:.1%}) loss {mean:.4f} lr {step.lr:.2e}"
            )
            self._recent.clear()


@dataclass(slots=True)
class Curve:
    """The losses of a run, thinned to at most `MAX_POINTS`; part of what resumes.

    `points` are (step, mean loss of the steps since the point before, learning rate); `validation`
    are (step, loss of the pictures held back), `own` the same of those that are learned.
    """

    points: list[tuple[int, float, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    own: list[tuple[int, float]] = field(default_factory=list)
    every: int = 1
    smoothed: float = 0.0
    _count: int = 0
    _sum: float = 0.0

    def add(self, step: Step) -> None:
        weight = min(SMOOTHING, step.number / (step.number + 5))
        self.smoothed = (
            step.loss if step.number == 1 else step.loss + weight * (self.smoothed - step.loss)
        )
        self._sum += step.loss
        self._count += 1
        if self._count >= self.every:
            self.points.append((step.number, self._sum / self._count, step.lr))
            self._sum, self._count = 0.0, 0
        if len(self.points) > MAX_POINTS:
            self.points = self.points[1::2]
            self.every *= 2

    @property
    def best(self) -> tuple[int, float] | None:
        """The step whose validation loss is the lowest, and that loss."""
        return min(self.validation, key=lambda point: point[1], default=None)

    @property
    def waited(self) -> int:
        """How many measurements ago the best one was."""
        return sum(step > self.best[0] for step, _ in self.validation) if self.best else 0

    def rows(self) -> list[tuple[int, float | None, float | None, float | None]]:
        """Step, loss, learning rate and validation loss, for a table."""
        losses = {n: loss for n, loss, _ in self.points}
        rates = {n: lr for n, _, lr in self.points}
        measured = dict(self.validation)
        steps = sorted({*losses, *measured})
        return [(n, losses.get(n), rates.get(n), measured.get(n)) for n in steps]

    def state(self) -> Any:
        points = [list(point) for point in self.points]
        measured = [[list(point) for point in course] for course in (self.validation, self.own)]
        return [points, *measured, self.every, self.smoothed, self._count, self._sum]

    def load_state(self, state: Any) -> None:
        points, validation, own, self.every, self.smoothed, self._count, self._sum = state
        self.points = [(int(n), float(loss), float(lr)) for n, loss, lr in points]
        self.validation = [(int(n), float(loss)) for n, loss in validation]
        self.own = [(int(n), float(loss)) for n, loss in own]


def thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """At most `MAX_POINTS` of the points, the last among them."""
    return points[:: -max(1, -(-len(points) // MAX_POINTS))][::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What is told after a step; `notes` are what goes wrong, with remedies.

    Shapes: pictures (N, H, W, 3) 0..1, one for each sample prompt.
    """

    step: int
    steps: int
    loss: float
    smoothed: float
    lr: float
    seconds_left: float
    curve: Curve
    notes: Sequence[str] = ()
    pictures: "Tensor | None" = None


Watch = Callable[[Telling], None]
