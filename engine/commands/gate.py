"""`check`, the fast gate, and `test`, all that this machine can run."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from engine.cli import say
from engine.setup import ROOT, VENV

BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
TYPESCRIPT = "typescript@5.9.3"  # checks the types in the page's JSDoc; a tool, never shipped
IS_FAST = "not slow and not e2e and not gpu and not browser"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something outside Python that some tests use: its mark, and how to get it."""

    name: str
    mark: str
    is_here: bool
    how: str
    install: tuple[str, ...] = ()


def main(argv: Sequence[str]) -> int:
    """Run `check` or `test`; 0 when everything is green."""
    name, *rest = argv
    return check() if name == "check" else test(rest)


def check() -> int:
    """Lint, format, types, layers and fast tests; two at a time, each one's output whole."""
    report, code = _checks(with_tests=True)
    sys.stdout.write(report + "\n")
    return code


def _checks(*, with_tests: bool) -> tuple[str, int]:
    """What the steps of `check` said, and 0 if all are green."""
    steps: dict[str, list[str]] = {
        "lint": [str(BIN / "ruff"), "check", "."],
        "format": [str(BIN / "ruff"), "format", "--check", "."],
        "types": [str(BIN / "basedpyright"), "--level", "error"],
        "layers": [str(BIN / "lint-imports"), "--no-cache"],
    }
    if with_tests:
        steps["tests"] = [sys.executable, "-m", "pytest", "-x", "-n", "2", "-m", IS_FAST]
    if shutil.which("node"):
        steps["web tests"] = ["node", "--test", "tests/web/"]
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda item: (item[0], *_run(item[1])), steps.items()))
    lines = [
        f"{output if code else ''}{'failed' if code else 'ok':7}{step} ({seconds:.0f} s)"
        for step, code, seconds, output in results
    ]
    lines.append(f"{time.monotonic() - started:.0f} s in all")
    return "\n".join(lines), 1 if any(code for _, code, _, _ in results) else 0


def test(argv: Sequence[str]) -> int:
    """All tests that this machine can run; says what was left out and how to add it."""
    parser = argparse.ArgumentParser(prog="main.py test")
    parser.add_argument("--require-all", action="store_true", help="what is left out is a failure")
    parser.add_argument("--install", action="store_true", help="install what is missing")
    options, more = parser.parse_known_args(argv)
    missing = [need for need in _needs() if not need.is_here]
    if options.install:
        for need in missing:
            if need.install:
                say(f"Installing {need.name} …")
                subprocess.run([*need.install], check=False)
        missing = [need for need in _needs() if not need.is_here]
    marks = " and ".join(f"not {need.mark}" for need in missing)
    selection = ["-m", marks] if marks else []
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--durations=8",
        "-n",
        "2",
        "--dist",
        "worksteal",
        *selection,
        *more,
    ]
    say(f"== {' '.join(command[1:])}")
    # Two test processes share the cores: more threads would only wait for each other.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    with ThreadPoolExecutor(1) as pool:
        checks = None if more else pool.submit(_checks, with_tests=False)
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if checks:
        report, checks_code = checks.result()
        sys.stdout.write(report + "\n")
        code = code or checks_code
    left_out = [need for need in missing if need.mark != "gpu"]
    for need in missing:
        say(f"Left out: tests marked '{need.mark}', since {need.name} is not here. {need.how}")
    if options.require_all and left_out:
        say("Everything was required, so this is a failure.")
        return 1
    return code


def _needs() -> list[Need]:
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    can_apt = is_root and shutil.which("apt-get") is not None
    can_npm = is_root and shutil.which("npm") is not None
    apt = ("sh", "-c", "apt-get update -qq && apt-get install -y -qq chromium >/dev/null")
    return [
        Need(
            name="Chromium",
            mark="browser",
            is_here=any(shutil.which(n) for n in ("chromium", "chromium-browser", "google-chrome")),
            how="Debian and Ubuntu: sudo apt-get install chromium",
            install=apt if can_apt else (),
        ),
        Need(
            name="Node.js",
            mark="node",
            is_here=shutil.which("node") is not None,
            how="The tests of the page's modules need it: https://nodejs.org",
        ),
        Need(
            name="TypeScript",
            mark="tsc",
            is_here=shutil.which("tsc") is not None,
            how=f"With Node.js: npm install -g {TYPESCRIPT}",
            install=("npm", "install", "-g", "--silent", TYPESCRIPT) if can_npm else (),
        ),
        Need(
            name="an NVIDIA GPU",
            mark="gpu",
            is_here=shutil.which("nvidia-smi") is not None,
            how="Run the tests on a machine that has one.",
        ),
    ]


def _run(command: Sequence[str]) -> tuple[int, float, str]:
    started = time.monotonic()
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        errors="replace",
        check=False,
    )
    return result.returncode, time.monotonic() - started, result.stdout
