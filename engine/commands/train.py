"""`python3 main.py train WORKFLOW.json`: run a workflow that trains, numbers on the terminal.

`train builtin` trains the built-in model from nothing, or goes on with it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from engine.api import events
from engine.cli import USAGE_ERROR, say
from engine.commands import run

SAY_EVERY_S = 10.0


def main(argv: Sequence[str]) -> int:
    """Run a training; goes on where an earlier run stopped."""
    if not argv:
        say("usage: main.py train WORKFLOW.json [--help] | main.py train builtin [--help]")
        return USAGE_ERROR
    if argv[0] != "builtin":
        return run.main(argv, "train", Numbers(say))
    from engine.diffusion.training import builtin  # torch is loaded only for this command

    return builtin.main(list(argv[1:]))


class Numbers:
    """Says step, loss, rate and time left of the training nodes, every `every_s` and at the end."""

    def __init__(self, say: Callable[[str], None], every_s: float = SAY_EVERY_S) -> None:
        self._say = say
        self._every_s = every_s
        self._said_s = float("-inf")

    def __call__(self, event: events.RunEvent) -> None:
        if not isinstance(event, events.NodeShown | events.NodeFinished):
            return
        now = time.monotonic()
        is_end = isinstance(event, events.NodeFinished)
        for told in (event.ui or {}).get("training", ()):
            is_last = told["step"] == told["steps"]
            if is_end if is_last else now - self._said_s >= self._every_s:
                self._said_s = now
                self._say(line_of(event.display_id, told))


def line_of(node_id: str, told: dict[str, Any]) -> str:
    """One line of numbers."""
    return (
        f"node {node_id}: step {told['step']} of {told['steps']}, loss {told['loss']:.4f}, "
        f"rate {told['lr']:.2e}, {told['seconds_left']:.0f} s left"
    )
