"""The editor's document (LiteGraph 0.4 and schema 1) as typed pieces; converts nothing.

Reads what a conversion needs and passes over the rest; anything malformed is a `GraphInvalid` that
says where.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from engine.api.errors import GraphInvalid
from engine.graph.prompt import invalid_prompt, is_plain_text, shorten, shown

MAX_SLOTS = 2048  # of one node
SUBGRAPH_INPUT = "-10"
SUBGRAPH_OUTPUT = "-20"
SET_NODE = "SetNode"  # of a widely used pack: names the link into it


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """An input of a node in the file; `widget` names the widget that it replaces, if any."""

    name: str
    type: str
    link: str | None
    widget: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNode:
    """A node in the file. `mode` 2 is muted, 4 bypassed."""

    id: str
    type: str
    mode: int
    title: str | None
    inputs: tuple[Slot, ...]
    output_types: tuple[str, ...]
    values: tuple[Any, ...]
    named_values: Mapping[str, Any] | None
    proxies: tuple[tuple[str, str], ...]  # promoted widgets: (inner node id, widget name)

    @property
    def is_muted(self) -> bool:
        return self.mode == 2

    @property
    def text(self) -> str:
        """The first widget's value, where that is a text."""
        value = self.values[0] if self.values else None
        return value if isinstance(value, str) else ""

    @property
    def is_bypassed(self) -> bool:
        return self.mode == 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLink:
    """A link in the file: from an output of `origin` to an input of `target`."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One level of nodes and links: the document itself or the inside of a subgraph.

    `input_names` are the subgraph's own inputs; `results` are the links into its outputs by slot;
    `named_links` are those into a SetNode by its name.
    """

    nodes: Mapping[str, FileNode]
    links: Mapping[str, FileLink]
    input_names: tuple[str, ...]
    results: Mapping[int, str]
    named_links: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """An editor document: its top level and its subgraph definitions by type id."""

    top: Sheet
    subgraphs: Mapping[str, Sheet]


def is_workflow(body: object) -> bool:
    """Whether a JSON value is an editor document rather than a prompt in API form."""
    if not isinstance(body, dict):
        return False
    return isinstance(cast("dict[str, object]", body).get("nodes"), list)


def read_document(body: object) -> Document:
    """The document of a workflow file. Raises: GraphInvalid."""
    if not is_workflow(body):
        raise _broken("The workflow", body, 'an object with a list of "nodes"')
    fields = _object(body, "The workflow")
    definitions = _object(fields.get("definitions") or {}, "definitions")
    subgraphs: dict[str, Sheet] = {}
    for number, raw in enumerate(
        _list(definitions.get("subgraphs") or [], "definitions.subgraphs")
    ):
        where = f"Subgraph {number}"
        definition = _object(raw, where)
        subgraphs[_text(definition.get("id"), f"The id of {where}")] = _sheet(definition, where)
    return Document(top=_sheet(fields, "The workflow"), subgraphs=subgraphs)


def _sheet(fields: Mapping[str, Any], where: str) -> Sheet:
    nodes: dict[str, FileNode] = {}
    for number, raw in enumerate(_list(fields.get("nodes") or [], f"The nodes of {where}")):
        node = _node(raw, f"node {number} of {where}")
        if node.id in nodes:
            raise _broken(f"The id of node {number} of {where}", node.id, "an id of its own")
        nodes[node.id] = node
    links: dict[str, FileLink] = {}
    results: dict[int, str] = {}
    raw_links: object = fields.get("links") or []
    if isinstance(raw_links, dict):  # some writers keep links by id
        raw_links = list(cast("dict[str, object]", raw_links).values())
    for number, raw in enumerate(_list(raw_links, f"The links of {where}")):
        if raw is None:
            continue
        link_id, link = _link(raw, f"link {number} of {where}")
        links[link_id] = link
        if link.target == SUBGRAPH_OUTPUT:
            results[link.target_slot] = link_id
    inputs = _slots(fields.get("inputs") or [], f"The inputs of {where}")
    return Sheet(
        nodes=nodes,
        links=links,
        input_names=tuple(_name(i, f"an input of {where}") for i in inputs),
        results=results,
        named_links={
            str(node.values[0]): link
            for node in nodes.values()
            if node.type == SET_NODE
            and node.values
            and node.inputs
            and (link := node.inputs[0].link)
        },
    )


def _node(raw: object, where: str) -> FileNode:
    fields = _object(raw, where)
    node_id = _id(fields.get("id"), f"The id of {where}")
    where = f"node {shorten(node_id)}"
    values: object = fields.get("widgets_values")
    named: object = fields.get("widgets_values_named")
    if isinstance(values, dict):  # some packs save their widgets by name
        named, values = named or cast("dict[str, object]", values), None
    mode: object = fields.get("mode", 0)
    title: object = fields.get("title")
    outputs = _slots(fields.get("outputs") or [], f"The outputs of {where}")
    inputs = _slots(fields.get("inputs") or [], f"The inputs of {where}")
    properties: object = fields.get("properties")
    return FileNode(
        id=node_id,
        type=_text(fields.get("type"), f"The type of {where}"),
        mode=mode if isinstance(mode, int) else 0,
        title=title if isinstance(title, str) and title else None,
        inputs=tuple(_slot(i, f"an input of {where}") for i in inputs),
        output_types=tuple(_type_of(_object(o, f"an output of {where}")) for o in outputs),
        values=tuple(_list(values or [], f"The widgets_values of {where}")),
        named_values=cast("dict[str, Any]", named) if isinstance(named, dict) else None,
        proxies=_proxies(properties),
    )


def _proxies(properties: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(properties, dict):
        return ()
    found: object = cast("dict[str, object]", properties).get("proxyWidgets")
    pairs: list[tuple[str, str]] = []
    listed = cast("list[object]", found) if isinstance(found, list) else []
    for raw in listed[:MAX_SLOTS]:
        pair = cast("list[object]", raw) if isinstance(raw, list) else []
        if len(pair) >= 2 and isinstance(pair[1], str):
            pairs.append((str(pair[0]), pair[1]))
    return tuple(pairs)


def _slot(raw: object, where: str) -> Slot:
    fields = _object(raw, where)
    link: object = fields.get("link")
    widget: object = fields.get("widget")
    widget_name: object = (
        cast("dict[str, object]", widget).get("name") if isinstance(widget, dict) else None
    )
    return Slot(
        name=_name(raw, where),
        type=_type_of(fields),
        link=None if link is None else _id(link, f"The link of {where}"),
        widget=widget_name if isinstance(widget_name, str) else None,
    )


def _link(raw: object, where: str) -> tuple[str, FileLink]:
    if isinstance(raw, list):
        items = cast("list[object]", raw)
        if len(items) < 5:
            raise _broken(where, items, "[id, from, slot, to, slot, type]")
        link_id, origin, origin_slot, target, target_slot = items[:5]
    else:
        fields = _object(raw, where)
        link_id, origin, origin_slot, target, target_slot = (
            fields.get(k) for k in ("id", "origin_id", "origin_slot", "target_id", "target_slot")
        )
    return _id(link_id, f"The id of {where}"), FileLink(
        origin=_id(origin, f"The origin of {where}"),
        origin_slot=_index(origin_slot, f"The origin slot of {where}"),
        target=_id(target, f"The target of {where}"),
        target_slot=_index(target_slot, f"The target slot of {where}"),
    )


# Fields -------------------------------------------------------------------------------------------


def _broken(where: str, got: object, expected: str) -> GraphInvalid:
    return invalid_prompt(
        f"{where} is {shown(got)}; expected {expected}.",
        got=shown(got),
        expected=expected,
        hint="The workflow file is damaged: save it again in the editor that made it.",
    )


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _broken(where, value, "an object")
    return cast("dict[str, Any]", value)


def _list(value: object, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise _broken(where, value, "a list")
    return cast("list[Any]", value)


def _slots(value: object, where: str) -> Sequence[Any]:
    found = _list(value, where)
    if len(found) > MAX_SLOTS:
        raise _broken(where, found, f"at most {MAX_SLOTS}")
    return found


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value or not is_plain_text(value):
        raise _broken(where, value, "a text")
    return value


def _name(raw: object, where: str) -> str:
    """The name of a slot; reroutes have none."""
    name: object = _object(raw, where).get("name")
    return "" if name == "" else _text(name, f"The name of {where}")


def _type_of(fields: Mapping[str, Any]) -> str:
    """A slot's type; old files say 0 for any and -1 for an event, and list a COMBO's choices."""
    kind: object = fields.get("type")
    if isinstance(kind, str):
        return kind
    return "COMBO" if isinstance(kind, list) else "*"


def _id(value: object, where: str) -> str:
    """Ids are numbers in files and texts at run time."""
    if isinstance(value, str) and value and is_plain_text(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 64:
        return str(value)
    raise _broken(where, value, "a number or a text")


def _index(value: object, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31:
        return value
    raise _broken(where, value, "a slot number")
