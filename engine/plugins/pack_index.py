"""Which node types a pack has, read from its source text without running it."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from engine.plugins.packs import PackReport, PackSource, PackState, pack_files

MAX_SOURCE_BYTES = 2_000_000
_MAPPING = "NODE_CLASS_MAPPINGS"


def scan_node_names(source: PackSource) -> tuple[str, ...]:
    """The node types that a pack seems to have, in alphabetical order.

    Seen are literal `NODE_CLASS_MAPPINGS`, `@node("name")` and `node_id="name"`; names that are
    made up while the pack runs are not.
    """
    names: set[str] = set()
    for _, path in pack_files(source):
        if path.suffix == ".py":
            names.update(_names_in(path))
    return tuple(sorted(names))


def unavailable_nodes(reports: Iterable[PackReport]) -> Mapping[str, str]:
    """Node types that exist but cannot be used, each with a sentence that says why and what to do.

    It is what validation says of an unknown node type.
    """
    sentences: dict[str, str] = {}
    for report in reports:
        for name, reason in report.refused.items():
            sentences[name] = reason
        if report.state is not PackState.LOADED:
            sentences.update({n: _sentence(n, report) for n in report.nodes})
    return sentences


def _sentence(node: str, report: PackReport) -> str:
    allow = f"python3 main.py nodes --allow {report.name}"
    why = {
        PackState.NOT_ALLOWED: f"which is not allowed yet. If you trust it: {allow}",
        PackState.CHANGED: f"which changed since it was allowed. If you trust the change: {allow}",
        PackState.QUARANTINED: f"which is in quarantine ({report.error}). To try it again: {allow}",
        PackState.DISABLED: "which is switched off. Remove .disabled from its name to use it.",
    }.get(report.state, f"which could not be loaded: {report.error}")
    return f"The node type {node} is in the pack {report.name}, {why}"


def _names_in(path: Path) -> Iterator[str]:
    try:
        if path.stat().st_size > MAX_SOURCE_BYTES:
            return
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for item in ast.walk(tree):
        if isinstance(item, ast.Assign | ast.AnnAssign):
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            for target in targets:
                yield from _assigned(target, item.value)
        elif isinstance(item, ast.Call):
            yield from _called(item)


def _assigned(target: ast.expr, value: ast.expr | None) -> Iterator[str]:
    if isinstance(target, ast.Name) and target.id == _MAPPING:
        yield from _keys(value)
    elif isinstance(target, ast.Subscript) and _is_mapping(target.value):
        yield from _text(target.slice)


def _called(call: ast.Call) -> Iterator[str]:
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr == "update":
        if _is_mapping(function.value) and call.args:
            yield from _keys(call.args[0])
    elif isinstance(function, ast.Name | ast.Attribute):
        name = function.id if isinstance(function, ast.Name) else function.attr
        if name == "node" and call.args:
            yield from _text(call.args[0])
        for keyword in call.keywords:
            if name == "Schema" and keyword.arg == "node_id":
                yield from _text(keyword.value)
            elif name == "node" and keyword.arg == "aliases":
                yield from _texts(keyword.value)


def _is_mapping(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id == _MAPPING


def _keys(value: ast.expr | None) -> Iterator[str]:
    """The keys of a dict, or of `{c.__name__: c for c in (A, B)}`."""
    if isinstance(value, ast.Dict):
        for key in value.keys:
            if key is not None:
                yield from _text(key)
    elif isinstance(value, ast.DictComp) and isinstance(value.key, ast.Attribute):
        classes = value.generators[0].iter
        if value.key.attr == "__name__" and isinstance(classes, ast.Tuple | ast.List):
            yield from (c.id for c in classes.elts if isinstance(c, ast.Name))


def _texts(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.Tuple | ast.List):
        for item in value.elts:
            yield from _text(item)


def _text(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
