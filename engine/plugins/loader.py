"""Imports packs into the worker, each on its own: what one pack does wrong, others do not feel.

A pack that hangs or ends the process is the supervisor's part: each pack is announced before its
code runs.
"""

import asyncio
import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any, cast

from engine.api.errors import PluginError
from engine.api.node import NodeType, node_type_of, with_pack
from engine.plugins.class_nodes import class_node, refreshed
from engine.plugins.host_modules import install_host_modules, missing_host_module
from engine.plugins.pack_index import scan_node_names
from engine.plugins.packs import (
    Ledger,
    PackReport,
    PackSource,
    PackState,
    Policy,
    pack_digest,
)
from engine.plugins.registry import NodeRegistry
from engine.plugins.schema_nodes import schema_node

NO_NODES = "It offers no nodes: no NODES, NODE_CLASS_MAPPINGS or comfy_entrypoint."


@dataclass(frozen=True, slots=True, kw_only=True)
class PackLoader:
    """Loads packs into a registry. `on_pack_start` is called before a pack's code runs."""

    registry: NodeRegistry
    ledger: Ledger
    policy: Policy = Policy.LISTED
    on_pack_start: Callable[[str], None] = lambda _name: None
    reports: dict[str, PackReport] = field(default_factory=dict)

    def load_all(self, sources: Sequence[PackSource]) -> tuple[PackReport, ...]:
        """Load what may be loaded; every pack gets a report."""
        return tuple(self.load(source) for source in sources)

    def load(self, source: PackSource) -> PackReport:
        """Load a pack, or load it again: what it registered before is gone first."""
        self.registry.remove_pack(source.name)
        _forget_modules(module_name(source))
        report = self._load(source)
        self.reports[source.name] = report
        return report

    def _load(self, source: PackSource) -> PackReport:
        blank = PackReport(name=source.name, state=PackState.FAILED, path=str(source.path))
        if source.is_disabled:
            return replace(blank, state=PackState.DISABLED, nodes=scan_node_names(source))
        try:
            digest = pack_digest(source)
        except PluginError as error:
            return replace(blank, error=error.message)
        blank = replace(blank, digest=digest.code)
        refusal = self.ledger.judge(source.name, digest.code, self.policy)
        if refusal is not None:
            state, reason = refusal
            hint = f"If you trust it: python3 main.py nodes --allow {source.name}"
            names = scan_node_names(source)
            return replace(blank, state=state, error=reason, hint=hint, nodes=names)
        self.on_pack_start(source.name)
        install_host_modules()
        try:
            module = import_pack(source)
            found = list(_node_types(module, source.name))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a pack's own code
            _forget_modules(module_name(source))
            return _failure(blank, source, error)
        return self._register(replace(blank, state=PackState.LOADED), module, found, digest.version)

    def _register(
        self, report: PackReport, module: ModuleType, found: "list[_Found]", version: str
    ) -> PackReport:
        nodes: list[str] = []
        refused: dict[str, str] = {}
        for name, make, cls in found:
            try:
                node_type = with_pack(make(), report.name, version)
                remake = cls and partial(refreshed, node_type, cls)
                self.registry.add(node_type, remake=remake)
                nodes.append(name)
            except PluginError as error:
                refused[name] = str(error)
            except Exception as error:  # noqa: BLE001 - a class with attributes of its own making
                refused[name] = f"The node {name} cannot be used: {type(error).__name__}: {error}"
        web = getattr(module, "WEB_DIRECTORY", None)
        return replace(
            report,
            error="" if found or web else NO_NODES,
            nodes=tuple(nodes),
            refused=refused,
            web_folder=str(web) if web else None,
        )


_Found = tuple[str, Callable[[], NodeType], type | None]


def import_pack(source: PackSource) -> ModuleType:
    """The module of a pack, freshly executed. Raises: whatever its code raises."""
    name = module_name(source)
    folder = [str(source.path)] if source.path.is_dir() else None
    spec = importlib.util.spec_from_file_location(
        name, source.entry, submodule_search_locations=folder
    )
    if spec is None or spec.loader is None:
        raise PluginError(f"The pack {source.name} has no file that can be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def module_name(source: PackSource) -> str:
    """The name under which a pack is imported; no other pack or library has it."""
    plain = re.sub(r"\W", "_", source.name)
    return f"weft_pack_{plain}_{hashlib.sha256(str(source.path).encode()).hexdigest()[:8]}"


def _forget_modules(name: str) -> None:
    for loaded in list(sys.modules):
        if loaded == name or loaded.startswith(f"{name}."):
            del sys.modules[loaded]


def _node_types(module: ModuleType, pack: str) -> Iterator[_Found]:
    """The node types that a pack offers, in all of its forms, each still to be made."""
    for function in getattr(module, "NODES", ()):
        node_type = node_type_of(function)
        yield node_type.spec.name, partial(_same, node_type), None
    titles = cast(Mapping[str, Any], getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {})
    classes = cast(Mapping[str, type], getattr(module, "NODE_CLASS_MAPPINGS", None) or {})
    for name, cls in classes.items():
        if hasattr(cls, "define_schema"):
            yield name, partial(schema_node, cls, pack=pack), None
        else:
            title = titles.get(name)
            yield str(name), partial(class_node, cls, str(name), title=title, pack=pack), cls
    entrypoint = getattr(module, "comfy_entrypoint", None)
    if entrypoint is not None:
        for cls in asyncio.run(_extension_nodes(entrypoint)):
            made = schema_node(cls, pack=pack)
            yield made.spec.name, partial(_same, made), None


def _same(node_type: NodeType) -> NodeType:
    return node_type


async def _extension_nodes(entrypoint: Callable[[], Any]) -> list[type]:
    extension = entrypoint()
    if inspect.isawaitable(extension):
        extension = await extension
    await extension.on_load()
    return list(await extension.get_node_list())


def _failure(report: PackReport, source: PackSource, error: BaseException) -> PackReport:
    """The report of a pack whose import failed, with what to do about it."""
    text, hint = f"{type(error).__name__}: {error}", ""
    if isinstance(error, ImportError):
        host = missing_host_module(error)
        if host is not None:
            text = f"It imports {host}, a module of the reference engine that Weft has not."
            hint = "The pack cannot be used here yet."
        elif (error.name or "").startswith(module_name(source)):
            text = f"Its own module {error.name} is missing or incomplete: {error}"
        elif isinstance(error, ModuleNotFoundError):
            text = f"It needs the Python package {error.name}, which is not installed."
            hint = "Install what the pack's requirements.txt asks for into Weft's .venv."
    elif isinstance(error, SystemExit):
        text = f"It wanted to end the process (SystemExit: {error.code})."
    lines = "".join(traceback.format_exception(error))
    names = scan_node_names(source)
    return replace(report, error=text, hint=hint, traceback=lines, nodes=names)
