"""`python3 main.py train builtin`: train the built-in model from nothing, or go on with it."""

from collections.abc import Sequence

from engine.cli import USAGE_ERROR, say


def main(argv: Sequence[str]) -> int:
    """Run a training recipe; resumes where an earlier run stopped."""
    if not argv or argv[0] != "builtin":
        say("usage: main.py train builtin [--help]")
        return USAGE_ERROR
    from engine.diffusion.training import builtin  # torch is loaded only for this command

    return builtin.main(list(argv[1:]))
