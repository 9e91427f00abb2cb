"""Module names of the reference engine that packs import, answered by modules of our own.

A meta-path finder that knows a table and nothing else; the worker's loader installs it, so that
no other process ever sees these names.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Host module -> our module with the same names; None is an empty package.
PROVIDED: Mapping[str, str | None] = {
    "comfy_api": None,
    "comfy_api.latest": "engine.plugins.schema_api.latest",
    "comfy_api.latest.io": "engine.plugins.schema_api.io",
    "comfy_api.latest.ui": "engine.plugins.schema_api.ui",
    "comfy_execution": None,
    "comfy_execution.graph": "engine.plugins.execution_api",
    "comfy_execution.graph_utils": "engine.plugins.execution_api",
}

# Host modules that Weft does not offer, so that a pack's failure can be explained.
KNOWN_HOST_ROOTS = frozenset(
    (
        "app", "comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution",
        "comfy_extras", "execution", "folder_paths", "latent_preview", "node_helpers", "nodes",
        "protocol", "server",
    )
)  # fmt: skip


class HostModules(MetaPathFinder, Loader):
    """Finds and makes the modules of a table like `PROVIDED`."""

    def __init__(self, provided: Mapping[str, str | None]) -> None:
        self._provided = provided

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._provided:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in self._provided)
        return ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        source = self._provided[module.__name__]
        if source is not None:
            public = vars(importlib.import_module(source))
            module.__dict__.update({k: v for k, v in public.items() if not k.startswith("__")})
            if "__getattr__" in public:
                module.__dict__["__getattr__"] = public["__getattr__"]


def install_host_modules() -> None:
    """Answer the host's module names in this process from now on; packs import late, too."""
    if not any(isinstance(finder, HostModules) for finder in sys.meta_path):
        sys.meta_path.append(HostModules(PROVIDED))


def remove_host_modules() -> None:
    """Forget the host's module names, as if no pack had been loaded."""
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, HostModules)]
    for name in PROVIDED:
        sys.modules.pop(name, None)


def missing_host_module(error: ImportError) -> str | None:
    """The host module whose absence made an import fail, if it was that."""
    name = error.name or ""
    return name if name.partition(".")[0] in KNOWN_HOST_ROOTS else None
