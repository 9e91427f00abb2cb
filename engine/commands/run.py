"""`python3 main.py run workflow.json`: run a workflow without a server and print its files."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine.api import events
from engine.api.errors import EngineError
from engine.cli import say
from engine.launch_flags import add_folder_flags, add_run_flags, config_of
from engine.local import OnEvent, Result, RunFailed, Weft


def main(argv: Sequence[str], name: str = "run", also: OnEvent = lambda _: None) -> int:
    """Run one workflow; prints the path of each file it made, one a line.

    `name` is that of the command; `also` is told of each event.
    """
    parser = argparse.ArgumentParser(prog=f"main.py {name}", description=__doc__)
    parser.add_argument("workflow", type=Path, help="API form, editor form, or a picture of either")
    parser.add_argument(
        "--set", action="append", default=[], metavar="ID.INPUT=VALUE", help="change an input"
    )
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="ID.INPUT=VALUES",
        help="an axis of a grid: 3.cfg=2,4,8 or 3.cfg=1-10[5]; up to three of them",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="save files there")
    parser.add_argument("--explain", action="store_true", help="say of each node why it ran")
    add_folder_flags(parser)
    add_run_flags(parser)
    options = parser.parse_args(argv)
    config = config_of(options)
    if options.output:
        config = replace(config, output_override=options.output.absolute())
    with Weft(config) as weft:
        say(weft.precision)
        workflow = weft.load(options.workflow)
        for setting in options.set:
            key, equals, value = setting.partition("=")
            if not equals:
                raise EngineError(
                    f"--set {setting}: no '='.", hint='For example: --set 6.text="a red circle"'
                )
            workflow.set(key, value)
        if options.grid:
            workflow = workflow.grid(dict(map(_axis, options.grid)))
        for problem in workflow.problems():
            if problem.severity == "warning":
                say(f"Warning: {problem.message} {problem.hint or ''}".rstrip())
        with _ProgressBar() as bar:

            def on_event(event: events.RunEvent) -> None:
                bar.show(event)
                also(event)

            try:
                result = workflow.run(on_event=on_event)
            except RunFailed as error:
                bar.close()
                _show(error.made, with_reasons=options.explain)
                raise
    _show(result, with_reasons=options.explain)
    return 0


def _show(result: Result, *, with_reasons: bool) -> None:
    """Print the files that a run made, and what nodes show."""
    if with_reasons:
        explain(result)
    for node_id, shown in result.outputs.items():
        for text in shown.get("text", ()):
            say(f"[{node_id}] {text}")
    for path in result.files:
        sys.stdout.write(f"{path}\n")


def _axis(text: str) -> tuple[str, str]:
    key, equals, values = text.partition("=")
    if not equals:
        raise EngineError(f"--grid {text}: no '='.", hint="For example: --grid 3.cfg=2,4,8")
    return key, values


def explain(result: Result) -> None:
    """Say of each node whether it ran or was cached, how long it took, and why."""
    for node_id, record in result.records.items():
        title = result.titles.get(node_id, "")
        say(f"{node_id:>6} {title:28} {record.state:7} {record.seconds:7.3f} s  {record.reason}")


class _ProgressBar:
    """One bar on the terminal, for the node that is running."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._node = ""

    def __enter__(self) -> "_ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, event: events.RunEvent) -> None:
        if isinstance(event, events.LogLine):
            say(event.text)
        if not isinstance(event, events.NodeProgress):
            return
        if self._bar is None or event.node_id != self._node:
            if self._bar is not None:
                self._bar.close()
            self._bar = tqdm(
                total=event.maximum, desc=f"node {event.display_id}", leave=False, disable=None
            )
            self._node = event.node_id
        self._bar.n = int(event.value)
        self._bar.refresh()
