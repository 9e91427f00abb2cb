"""`python3 main.py models`: list the model files, or get, add, find and verify more of them."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import cast

from engine.api.errors import EngineError

# Word after `models` -> module and function; imported when asked for, since some load torch.
WORDS = {
    "list": ("engine.commands.models_list", "main"),
    "scan": ("engine.commands.models_scan", "scan_main"),
    "add": ("engine.commands.models_scan", "add_main"),
    "remove": ("engine.commands.models_scan", "remove_main"),
    "get": ("engine.commands.models_get", "main"),
    "verify": ("engine.commands.models_verify", "main"),
}


def main(argv: Sequence[str]) -> int:
    """Do what the first word says; without one, list. Raises: EngineError."""
    word, *rest = argv if argv and not argv[0].startswith("-") else ("list", *argv)
    if word not in WORDS:
        raise EngineError(
            f"There is no 'models {word}'.", hint=f"Words after models: {', '.join(WORDS)}."
        )
    module, name = WORDS[word]
    command = cast(Callable[[Sequence[str]], int], vars(import_module(module))[name])
    return command(rest)
