"""An editor document as a prompt in API form, as the editor itself would send it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from engine.api.errors import GraphInvalid, Problem
from engine.graph.catalogue import Catalogue
from engine.graph.document import (
    SET_NODE,
    SUBGRAPH_INPUT,
    Document,
    FileNode,
    Sheet,
    is_workflow,
    read_document,
)
from engine.graph.prompt import invalid_prompt, shorten, wrapped
from engine.graph.typecheck import fits
from engine.graph.widgets import widget_values

__all__ = ["is_workflow", "to_prompt"]

MAX_NODES = 100_000  # after subgraphs are unfolded
MAX_NESTING = 32

_OWN_INPUT = "-1"  # in `proxyWidgets`: the subgraph's own input instead of an inner node
_PRIMITIVE = "PrimitiveNode"
# Nodes that only the editor knows: they never run.
_NOTES = frozenset({"Note", "MarkdownNote", "Label (rgthree)", "Bookmark (rgthree)"})
_GET = "GetNode"  # gives what the SetNode of the same name gets
_PASS_THROUGH = frozenset({"Reroute", "Reroute (rgthree)", SET_NODE})
_VIRTUAL = _PASS_THROUGH | _NOTES | {_PRIMITIVE, _GET}


@dataclass(frozen=True, slots=True)
class _Output:
    """A link's true origin: an output of a node that runs."""

    node_id: str
    slot: int


@dataclass(frozen=True, slots=True)
class _Value:
    """A link's true origin: a value, from a primitive or a promoted widget."""

    value: Any


_Muted = _Output("", -1)  # a link from a node that is muted: the input is left out
_Source: TypeAlias = "_Output | _Value | None"


@dataclass(slots=True, kw_only=True, eq=False)
class _Scope:
    """One unfolded level: a sheet with the subgraph node that it stands for."""

    sheet: Sheet
    prefix: str = ""
    outer: "_Scope | None" = None
    instance: FileNode | None = None
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])  # promoted, by input name
    overrides: Mapping[tuple[str, str], Any] = field(default_factory=dict[tuple[str, str], Any])
    children: dict[str, "_Scope"] = field(default_factory=dict[str, "_Scope"])


def to_prompt(body: object, catalogue: Catalogue) -> dict[str, Any]:
    """The prompt in API form of an editor document, with titles under `_meta`.

    Muted nodes are left out, bypassed ones pass their inputs on by type, reroutes, primitives and
    notes vanish, subgraphs unfold (`10:3` is node 3 inside node 10).
    Raises: GraphInvalid when the document is damaged.
    """
    document = read_document(body)
    conversion = _Conversion(document, catalogue)
    return conversion.prompt()


class _Conversion:
    def __init__(self, document: Document, catalogue: Catalogue) -> None:
        self.document = document
        self.catalogue = catalogue
        self._known: dict[tuple[int, str], _Source] = {}

    def prompt(self) -> dict[str, Any]:
        scopes = self._unfold()
        prompt: dict[str, Any] = {}
        for scope in scopes:
            for node in scope.sheet.nodes.values():
                if self._runs(node):
                    prompt[scope.prefix + node.id] = self._node(scope, node)
        return prompt

    def _runs(self, node: FileNode) -> bool:
        if node.is_muted or node.is_bypassed or node.type in self.document.subgraphs:
            return False
        return node.type not in _VIRTUAL or node.type in self.catalogue

    def _is_pass_through(self, node: FileNode) -> bool:
        return node.type in _PASS_THROUGH and node.type not in self.catalogue

    def _unfold(self) -> list[_Scope]:
        """The document and every subgraph node that runs, level by level."""
        self._check_size()
        scopes = [_Scope(sheet=self.document.top)]
        for scope in scopes:  # grows while it is read
            for node in self._subgraph_nodes(scope.sheet):
                child = _inside(scope, node, self.document.subgraphs[node.type])
                scope.children[node.id] = child
                scopes.append(child)
        return scopes

    def _subgraph_nodes(self, sheet: Sheet) -> list[FileNode]:
        """The nodes of a sheet that unfold."""
        nodes = [n for n in sheet.nodes.values() if n.type in self.document.subgraphs]
        return [n for n in nodes if not (n.is_muted or n.is_bypassed)]

    def _check_size(self) -> None:
        """Refuse subgraphs that unfold into too much, without unfolding them."""
        subgraphs = self.document.subgraphs
        inner = {i: Counter(n.type for n in self._subgraph_nodes(s)) for i, s in subgraphs.items()}
        level = Counter(n.type for n in self._subgraph_nodes(self.document.top))
        count = len(self.document.top.nodes)
        for _ in range(MAX_NESTING):
            count += sum(n * len(subgraphs[i].nodes) for i, n in level.items())
            below: Counter[str] = Counter()
            for i, times in level.items():
                for j, each in inner[i].items():
                    below[j] += times * each
            level = below
        if level or count > MAX_NODES:
            raise invalid_prompt(
                "The workflow's subgraphs unfold without end.",
                got=f"more than {MAX_NODES} nodes or {MAX_NESTING} levels",
                expected="subgraphs that do not contain themselves",
            )

    def _node(self, scope: _Scope, node: FileNode) -> dict[str, Any]:
        spec = self.catalogue.get(node.type)
        inputs = {
            name: scope.overrides.get((node.id, name), value)
            for name, value in widget_values(node, spec).items()
        }
        inputs = {n: wrapped(v) for n, v in inputs.items()}
        for slot in node.inputs:
            if slot.link is None:
                continue
            name = slot.widget or slot.name
            source = self._source(scope, slot.link)
            if source is _Muted:
                inputs.pop(name, None)
            elif isinstance(source, _Output):
                inputs[name] = [source.node_id, source.slot]
            elif source is not None:
                inputs[name] = wrapped(source.value)
        title = node.title or (spec.title if spec else node.type)
        return {"class_type": node.type, "inputs": inputs, "_meta": {"title": title}}

    def _source(self, scope: _Scope, link_id: str) -> _Source:
        """Where a link really comes from; each link is followed once."""
        passed: list[tuple[int, str]] = []
        on_way: set[tuple[int, str]] = set()
        result: _Source = None
        step: tuple[_Scope, str] | None = (scope, link_id)
        while step is not None:
            place = (id(step[0]), step[1])
            if place in on_way:
                raise _circle(step[0], step[1])
            if place in self._known:
                result = self._known[place]
                break
            on_way.add(place)
            passed.append(place)
            result, step = self._follow(*step)
        for place in passed:
            self._known[place] = result
        return result

    def _follow(self, scope: _Scope, link_id: str) -> tuple[_Source, tuple[_Scope, str] | None]:
        """One step along a link against its direction: its source, or the next link to follow."""
        link = scope.sheet.links.get(link_id)
        if link is None:
            return None, None
        if link.origin == SUBGRAPH_INPUT and scope.outer and scope.instance:
            return _outside(scope, scope.outer, scope.instance, link.origin_slot)
        node = scope.sheet.nodes.get(link.origin)
        if node is None:
            return None, None
        if node.type == _PRIMITIVE:
            return (_Value(node.values[0]) if node.values else None), None
        if node.type == _GET and node.type not in self.catalogue:
            return None, _named_link(scope, node)
        if node.is_muted:
            return _Muted, None
        if node.is_bypassed or self._is_pass_through(node):
            through = _passed_through(node, link.origin_slot)
            return None, (scope, through) if through else None
        child = scope.children.get(node.id)
        if child is not None:
            inner = child.sheet.results.get(link.origin_slot)
            return None, (child, inner) if inner else None
        return _Output(scope.prefix + node.id, link.origin_slot), None


def _inside(scope: _Scope, node: FileNode, sheet: Sheet) -> _Scope:
    """The level below a subgraph node, with the values that its promoted widgets hold."""
    values: dict[str, Any] = {}
    overrides: dict[tuple[str, str], Any] = {}
    promoted = tuple((_OWN_INPUT, s.name) for s in node.inputs if s.widget)
    for places in (node.proxies, promoted):
        if places and len(places) == len(node.values):
            for (inner, name), value in zip(places, node.values):
                if value is None:
                    continue  # the inner widget has the value
                if inner == _OWN_INPUT:
                    values[name] = value
                else:
                    overrides[inner, name] = value
            break
    values.update(node.named_values or {})
    values.update({n: v for (inner, n), v in scope.overrides.items() if inner == node.id})
    return _Scope(
        sheet=sheet,
        prefix=f"{scope.prefix}{node.id}:",
        outer=scope,
        instance=node,
        values=values,
        overrides=overrides,
    )


def _outside(
    scope: _Scope, outer: _Scope, instance: FileNode, slot: int
) -> tuple[_Source, tuple[_Scope, str] | None]:
    """What a subgraph's input `slot` is given: the link or the promoted value of its node."""
    names = scope.sheet.input_names
    name = names[slot] if slot < len(names) else None
    by_name = [s for s in instance.inputs if s.name == name]
    by_slot = instance.inputs[slot : slot + 1] if name is None else ()
    for item in (*by_name, *by_slot):
        if item.link is not None:
            return None, (outer, item.link)
        for key in (item.name, item.widget or item.name):
            if key in scope.values:
                return _Value(scope.values[key]), None
    return None, None


def _named_link(scope: _Scope, getter: FileNode) -> tuple[_Scope, str] | None:
    """The link into the SetNode of the same name, on this level or further out."""
    level: _Scope | None = scope
    while level is not None:
        link = level.sheet.named_links.get(getter.text)
        if link is not None:
            return level, link
        level = level.outer
    return None


def _passed_through(node: FileNode, slot: int) -> str | None:
    """The link that a bypassed node or a reroute puts in place of its output `slot`."""
    if node.type in _PASS_THROUGH:
        return node.inputs[0].link if node.inputs else None
    wanted = node.output_types[slot] if slot < len(node.output_types) else "*"
    for item in _candidates(node, slot):
        if item[0] == wanted:
            return item[1]
    for item in _candidates(node, slot):
        if fits(item[0], wanted):
            return item[1]
    return None


def _candidates(node: FileNode, slot: int) -> Iterator[tuple[str, str | None]]:
    """Type and link of the node's inputs, the one beside the output first."""
    for item in (*node.inputs[slot : slot + 1], *node.inputs):
        yield item.type, item.link


def _circle(scope: _Scope, link_id: str) -> GraphInvalid:
    origin = scope.sheet.links[link_id].origin
    message = f"Links run in a circle through node {shorten(scope.prefix + origin)}."
    problem = Problem(
        code="dependency_cycle",
        message=message,
        node_id=scope.prefix + origin,
        expected="links without a circle",
        hint="Remove one of the links between the reroutes or bypassed nodes.",
    )
    return GraphInvalid(message, problems=(problem,), code="dependency_cycle")
