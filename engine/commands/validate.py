"""`python3 main.py validate workflow.json`: check without running, all problems at once."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from engine.api.errors import GraphInvalid
from engine.cli import describe_problems
from engine.launch_flags import add_folder_flags, add_run_flags, config_of
from engine.local import Weft


def main(argv: Sequence[str]) -> int:
    """Check one workflow; 0 when nothing is wrong with it."""
    parser = argparse.ArgumentParser(prog="main.py validate", description=__doc__)
    parser.add_argument("workflow", type=Path)
    parser.add_argument("--json", action="store_true", help="problems as JSON")
    add_folder_flags(parser)
    add_run_flags(parser)
    options = parser.parse_args(argv)
    with Weft(config_of(options)) as weft:
        try:
            problems = list(weft.load(options.workflow).problems())
        except GraphInvalid as error:
            problems = list(error.problems)
    errors = [p for p in problems if p.severity == "error"]
    if options.json:
        sys.stdout.write(json.dumps([asdict(p) for p in problems], indent=2, default=str) + "\n")
    else:
        title = f"{options.workflow}: {len(errors)} errors, {len(problems) - len(errors)} warnings."
        sys.stdout.write(describe_problems(GraphInvalid(title, problems=problems)) + "\n")
    return 1 if errors else 0
