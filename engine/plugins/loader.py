"""Imports packs into the worker, each on its own: what one pack does wrong, others do not feel.

A pack that hangs or ends the process is the supervisor's part: each pack is announced before its
code runs.
"""

import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from engine.api.errors import PluginError, StorageError
from engine.api.node import NodeType, node_type_of, with_pack
from engine.plugins.class_nodes import class_node, refreshed
from engine.plugins.host_modules import install_host_modules, missing_host_module
from engine.plugins.pack_calls import completed
from engine.plugins.pack_index import scan_node_names, unavailable_nodes
from engine.plugins.pack_sources import FreshSourceLoader, forget_modules, use_fresh_sources
from engine.plugins.packs import (
    Ledger,
    PackReport,
    PackSource,
    PackState,
    Policy,
    find_packs,
    pack_digest,
    read_ledger,
)
from engine.plugins.registry import NodeRegistry
from engine.plugins.schema_nodes import schema_node

NO_NODES = "It offers no nodes: no NODES, NODE_CLASS_MAPPINGS or comfy_entrypoint."


@dataclass(frozen=True, slots=True, kw_only=True)
class PackLoader:
    """Loads the packs of some folders into a registry.

    `on_pack_start` is called before a pack's code runs. `state_dir` holds the allow list.
    """

    registry: NodeRegistry
    folders: tuple[Path, ...]
    state_dir: Path
    policy: Policy = Policy.LISTED
    on_pack_start: Callable[[str], None] = lambda _name: None
    reports: dict[str, PackReport] = field(default_factory=dict)

    def load_all(self) -> tuple[PackReport, ...]:
        """Load what may be loaded; every pack gets a report.

        Called again, it takes in what was added, saved, allowed or removed; a pack that is loaded
        and did not change is left alone.
        """
        ledger = self._ledger()
        sources = find_packs(self.folders)
        for gone in self.reports.keys() - {s.name for s in sources}:
            self._drop(self.reports[gone])
        for source in sources:
            self._load_one(source, ledger)
        return tuple(self.reports.values())

    def unavailable(self) -> Mapping[str, str]:
        """Node types of packs that cannot be used, each with a sentence for validation."""
        return unavailable_nodes(self.reports.values())

    def _ledger(self) -> Ledger:
        try:
            return read_ledger(self.state_dir)
        except StorageError as error:
            return Ledger(damage=str(error))

    def _load_one(self, source: PackSource, ledger: Ledger) -> None:
        before = self.reports.get(source.name)
        report = self._judge(source, ledger)
        if report.state is PackState.LOADED:
            if before is not None and _is_same_pack(before, report):
                return
            self.on_pack_start(source.name)
        if before is not None:
            self._drop(before)
        if report.state is PackState.LOADED:
            report = load_pack(source, self.registry)
        if before is not None and report.state is PackState.FAILED:  # a file that cannot be read
            report = replace(report, nodes=tuple(sorted({*report.nodes, *before.nodes})))
        self.reports[source.name] = report

    def _judge(self, source: PackSource, ledger: Ledger) -> PackReport:
        """The report of a pack before its code runs: LOADED when it may be loaded."""
        blank = PackReport(name=source.name, state=PackState.LOADED, path=str(source.path))
        if source.is_disabled:
            return replace(blank, state=PackState.DISABLED, nodes=scan_node_names(source))
        try:
            digest = pack_digest(source)
        except PluginError as error:
            return replace(blank, state=PackState.FAILED, error=error.message)
        blank = replace(blank, digest=digest.code, version=digest.version)
        refusal = ledger.judge(source.name, digest.code, self.policy)
        if refusal is None:
            return blank
        state, reason = refusal
        hint = f"If you trust it: python3 main.py nodes --allow {source.name}"
        names = scan_node_names(source)
        return replace(blank, state=state, error=reason, hint=hint, nodes=names)

    def _drop(self, report: PackReport) -> None:
        """Forget a pack: its node types and its modules."""
        del self.reports[report.name]
        self.registry.remove_pack(report.name)
        forget_modules(Path(report.path))


def _is_same_pack(before: PackReport, now: PackReport) -> bool:
    """Whether a pack is loaded already, with these very files."""
    loaded = before.state is PackState.LOADED
    return loaded and (before.path, before.version) == (now.path, now.version)


_Found = tuple[str, Callable[[], NodeType], type | None]  # label, maker, class to ask again


def load_pack(source: PackSource, registry: NodeRegistry) -> PackReport:
    """Import a pack and register its nodes, whether it is allowed or not."""
    report = PackReport(name=source.name, state=PackState.FAILED, path=str(source.path))
    install_host_modules()
    try:
        digest = pack_digest(source)
        report = replace(report, digest=digest.code, version=digest.version)
        module = import_pack(source)
        found = list(_node_types(module, source.name))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a pack's own code
        forget_modules(source.path)
        return _failure(report, source, error)
    report = replace(report, state=PackState.LOADED)
    return _register(registry, report, module, found, digest.version)


def _register(
    registry: NodeRegistry,
    report: PackReport,
    module: ModuleType,
    found: "list[_Found]",
    version: str,
) -> PackReport:
    nodes: list[str] = []
    refused: dict[str, str] = {}
    for label, make, cls in found:
        name = label
        try:
            node_type = with_pack(make(), report.name, version)
            name = node_type.spec.name
            remake = cls and partial(refreshed, node_type, cls)
            registry.add(node_type, remake=remake)
            nodes.append(name)
        except PluginError as error:
            refused[name] = str(error)
        except Exception as error:  # noqa: BLE001 - a class with attributes of its own making
            refused[name] = f"The node {name} cannot be used: {type(error).__name__}: {error}"
    web = _web_folder(module, Path(report.path))
    return replace(
        report,
        error="" if found or web else NO_NODES,
        nodes=tuple(nodes),
        refused=refused,
        web_folder=web,
    )


def _web_folder(module: ModuleType, pack: Path) -> str | None:
    """The folder with a pack's scripts for the editor; one outside the pack does not count."""
    declared = getattr(module, "WEB_DIRECTORY", None)
    if not isinstance(declared, str):
        return None
    folder = (pack / declared).resolve()
    return str(folder) if folder.is_dir() and folder.is_relative_to(pack.resolve()) else None


def import_pack(source: PackSource) -> ModuleType:
    """The module of a pack, freshly executed. Raises: whatever its code raises."""
    name = module_name(source)
    folder = [str(source.path)] if source.path.is_dir() else None
    loader = FreshSourceLoader(name, str(source.entry))
    spec = importlib.util.spec_from_file_location(
        name, source.entry, loader=loader, submodule_search_locations=folder
    )
    assert spec is not None, "a loader was given"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    use_fresh_sources(source.path)
    loader.exec_module(module)
    return module


def module_name(source: PackSource) -> str:
    """The name under which a pack is imported; no other pack or library has it."""
    plain = re.sub(r"\W", "_", source.name)
    return f"weft_pack_{plain}_{hashlib.sha256(str(source.path).encode()).hexdigest()[:8]}"


def _node_types(module: ModuleType, pack: str) -> Iterator[_Found]:
    """The node types that a pack offers, in all of its forms, each still to be made."""
    for function in getattr(module, "NODES", ()):
        yield getattr(function, "__name__", str(function)), partial(node_type_of, function), None
    titles = cast(Mapping[str, Any], getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {})
    classes = cast(Mapping[str, type], getattr(module, "NODE_CLASS_MAPPINGS", None) or {})
    for name, cls in classes.items():
        if hasattr(cls, "define_schema"):
            yield str(name), partial(schema_node, cls, pack=pack), None
        else:
            title = titles.get(name)
            yield str(name), partial(class_node, cls, str(name), title=title, pack=pack), cls
    entrypoint = getattr(module, "comfy_entrypoint", None)
    if entrypoint is not None:
        for cls in completed(_extension_nodes(entrypoint)):
            yield cls.__name__, partial(schema_node, cls, pack=pack), None


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
            text = f"It imports {host}, a module of the reference engine that Weft does not offer."
            if not isinstance(error, ModuleNotFoundError):
                text = f"It imports a part of {host} that Weft does not offer: {error.msg}."
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
