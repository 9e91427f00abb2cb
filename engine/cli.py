"""Picks the command, makes the environment ready, and turns expected errors into words."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from engine import setup
from engine.api.errors import EngineError, GraphInvalid

USAGE_ERROR = 2


@dataclass(frozen=True, slots=True)
class Command:
    """A command of main.py: `module` has `main(argv) -> exit code`; tests need more packages."""

    module: str
    help: str
    for_tests: bool = False


COMMANDS = {
    "serve": Command("engine.commands.serve", "start the server (what main.py does by itself)"),
    "run": Command("engine.commands.run", "run a workflow file and print the files it made"),
    "validate": Command("engine.commands.validate", "check a workflow file, all problems at once"),
    "nodes": Command("engine.commands.nodes", "list node types; allow or forbid packs"),
    "models": Command("engine.commands.models", "list model files; scan, add, get, verify more"),
    "pack": Command("engine.commands.pack", "make or check a node pack"),
    "train": Command("engine.commands.train", "run a workflow that trains, or train builtin"),
    "setup": Command("engine.commands.serve", "only make the environment ready"),
    "check": Command("engine.commands.gate", "the fast gate: lint, types, layers, tests", True),
    "test": Command("engine.commands.gate", "all tests that this machine can run", True),
}


def main(argv: Sequence[str]) -> int:
    """Run one command line; gives the exit code (0 good, 1 failed, 2 wrong usage)."""
    arguments = list(argv)
    is_named = bool(arguments) and arguments[0] in COMMANDS
    name = arguments.pop(0) if is_named else "serve"
    command = COMMANDS[name]
    if arguments and not is_named and not arguments[0].startswith("-"):
        say(f"There is no command '{arguments[0]}'. Commands: {', '.join(COMMANDS)}.")
        return USAGE_ERROR
    try:
        if not setup.is_inside() or not setup.is_ready(for_tests=command.for_tests):
            _check_usage(name, arguments)
            setup.ensure(_torch_choice(arguments), say, for_tests=command.for_tests)
            if not setup.is_inside():
                return setup.restart_inside(argv)
        if name == "setup":
            return 0
        module = importlib.import_module(command.module)
        return module.main([name, *arguments] if command.for_tests else arguments)
    except GraphInvalid as error:
        say(describe_problems(error))
    except EngineError as error:
        say(f"{error.message}\n{error.hint}".rstrip())
    except KeyboardInterrupt:
        say("Stopped.")
    return 1


def say(text: str) -> None:
    """A line for the person at the terminal."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def describe_problems(error: GraphInvalid) -> str:
    """All problems of a refused prompt, one line each, with what to do."""
    lines = [error.message]
    for problem in error.problems:
        place = f"node {problem.node_id}" if problem.node_id else "workflow"
        if problem.node_type:
            place += f" ({problem.node_type})"
        if problem.input_name:
            place += f", input {problem.input_name}"
        hint = f" {problem.hint}" if problem.hint else ""
        lines.append(f"  {problem.severity}: {place}: {problem.message}{hint}")
    return "\n".join(lines)


def _check_usage(name: str, arguments: Sequence[str]) -> None:
    """Let wrong flags of the server end the process before anything is downloaded."""
    if name == "serve":
        importlib.import_module("engine.launch_flags").parse_serve(arguments)


def _torch_choice(arguments: Sequence[str]) -> setup.TorchChoice:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--torch", default="auto", choices=["auto", "cpu", "cuda", "rocm", "keep"])
    return parser.parse_known_args(arguments)[0].torch
