"""Imports the source files of packs as they are, never from bytecode caches.

A pack is allowed by the digest of its sources; a `__pycache__` that came with it, or one that is
as old as a file saved within the same second, would run something else.
"""

import importlib
import os
import sys
from importlib.abc import PathEntryFinder
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from pathlib import Path
from types import CodeType


class FreshSourceLoader(SourceFileLoader):
    """Compiles a source file whenever it is imported."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class PackPathHook:
    """Finds modules below pack folders with loaders that keep no bytecode."""

    def __init__(self) -> None:
        self._roots: set[str] = set()
        self._open = FileFinder.path_hook(
            (ExtensionFileLoader, EXTENSION_SUFFIXES), (FreshSourceLoader, SOURCE_SUFFIXES)
        )

    def add(self, folder: Path) -> None:
        """Take over a folder and what lies below it."""
        self._roots |= {str(folder.absolute()), os.path.realpath(folder)}

    def __call__(self, path: str) -> PathEntryFinder:
        if not any(Path(path).is_relative_to(root) for root in self._roots):
            raise ImportError(f"{path} belongs to no pack", path=path)
        return self._open(path)


def use_fresh_sources(folder: Path) -> None:
    """Import whatever lies below a pack's folder from its sources, from now on."""
    hook = next((h for h in sys.path_hooks if isinstance(h, PackPathHook)), None)
    if hook is None:
        hook = PackPathHook()
        sys.path_hooks.insert(0, hook)
    hook.add(folder)
    for path in list(sys.path_importer_cache):
        if Path(path).is_relative_to(folder):
            del sys.path_importer_cache[path]
    importlib.invalidate_caches()


def forget_modules(pack: Path) -> None:
    """Drop the modules of a pack, also those that it imported by a path of its own."""
    roots = (str(pack), os.path.realpath(pack))
    for name, module in list(sys.modules.items()):
        file: object = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and any(file == r or file.startswith(r + os.sep) for r in roots):
            del sys.modules[name]
