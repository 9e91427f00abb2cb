"""A prompt in API form as a `Graph`; checks its structure only, not its meaning."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast, final

from engine.api.errors import GraphInvalid, Problem

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH = 64  # of lists and objects inside one input value
MAX_INT_BITS = 4096
_SHOWN = 80


@final
@dataclass(frozen=True, slots=True)
class Link:
    """An input that is the output `index` of another node."""

    node_id: str
    index: int


Constant: TypeAlias = Json
Input: TypeAlias = "Json | Link"


@dataclass(slots=True, kw_only=True)
class Node:
    """One node of a prompt. `raw` is its JSON as it came."""

    id: str
    class_type: str
    inputs: dict[str, Input]
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def label(self) -> str:
        """The node as people know it: its title, or its type, and its id."""
        title = self.meta.get("title")
        name = title if isinstance(title, str) and title else self.class_type
        return f"{shorten(name)} ({shorten(self.id)})"

    def is_bare_list(self, name: str) -> bool:
        """Whether an input came as a list that is neither a link nor wrapped as a value."""
        if not isinstance(self.inputs.get(name), list):
            return False
        came: object = self.raw.get("inputs")
        return isinstance(came, dict) and isinstance(cast("Json", came.get(name)), list)

    def links(self) -> list[tuple[str, Link]]:
        """The inputs that are links, by name, in order."""
        return [(n, v) for n, v in self.inputs.items() if type(v) is Link]


@dataclass(slots=True, kw_only=True)
class Graph:
    """The nodes of a prompt by id, in the prompt's order."""

    nodes: dict[str, Node]

    def label(self, node_id: str) -> str:
        """The node as people know it, also when there is none of that id."""
        node = self.nodes.get(node_id)
        return node.label if node else shorten(node_id)

    def to_json(self) -> dict[str, Any]:
        """The prompt in API form."""
        return {node_id: node_to_json(node) for node_id, node in self.nodes.items()}


def node_to_json(node: Node) -> dict[str, Any]:
    """One node in API form."""
    inputs: dict[str, Any] = {}
    for name, value in node.inputs.items():
        if type(value) is Link:
            inputs[name] = [value.node_id, value.index]
        else:
            inputs[name] = wrapped(value)
    out: dict[str, Any] = {"class_type": node.class_type, "inputs": inputs}
    if node.meta:
        out["_meta"] = dict(node.meta)
    return out


def wrapped(value: Json) -> Json:
    """A value as it stands in API form: lists are wrapped, so that they are not read as links."""
    is_mistakable = isinstance(value, list) or (isinstance(value, dict) and "__value__" in value)
    return {"__value__": value} if is_mistakable else value


def parse_prompt(body: object) -> Graph:
    """The graph of a prompt in API form.

    Raises: GraphInvalid with every structural problem; never anything else, whatever `body` is.
    """
    if not isinstance(body, dict):
        raise invalid_prompt(
            "The prompt is not an object of nodes.",
            got=shown(body),
            expected='{"node id": {"class_type": …, "inputs": {…}}}',
        )
    fields = cast("dict[object, object]", body)
    if isinstance(fields.get("nodes"), list):
        raise invalid_prompt(
            "This is an editor document, not a prompt in API form.",
            got='an object with a list of "nodes"',
            expected='{"node id": {"class_type": …, "inputs": {…}}}',
            hint='Send it as "workflow" instead of "prompt", or export it in API form.',
        )
    nodes: dict[str, Node] = {}
    problems: list[Problem] = []
    for node_id, raw in fields.items():
        node = _parse_node(node_id, raw, problems)
        if node is not None:
            nodes[node.id] = node
    if problems:
        codes = {p.code for p in problems}
        raise GraphInvalid(
            f"The prompt is malformed: {problems[0].message}",
            problems=problems,
            code=codes.pop() if len(codes) == 1 else "invalid_prompt",
        )
    return Graph(nodes=nodes)


def invalid_prompt(
    message: str, *, got: str | None = None, expected: str | None = None, hint: str | None = None
) -> GraphInvalid:
    """The refusal of a whole document, with its one problem."""
    problem = Problem(code="invalid_prompt", message=message, got=got, expected=expected, hint=hint)
    return GraphInvalid(message, problems=(problem,), code="invalid_prompt")


def _parse_node(node_id: object, raw: object, problems: list[Problem]) -> Node | None:
    if not isinstance(node_id, str) or not is_plain_text(node_id):
        problems.append(_malformed(None, "A node id is no valid text.", shown(node_id), "a text"))
        return None
    if not isinstance(raw, dict):
        message = f"Node {shorten(node_id)} is not an object."
        problems.append(
            _malformed(node_id, message, shown(raw), '{"class_type": …, "inputs": {…}}')
        )
        return None
    fields = cast("dict[str, Any]", raw)
    class_type = fields.get("class_type")
    if not isinstance(class_type, str) or not class_type or not is_plain_text(class_type):
        message = f"Node {shorten(node_id)} has no class_type."
        problems.append(
            _malformed(
                node_id,
                message,
                shown(class_type),
                "the name of a node type",
                code="missing_node_type",
            )
        )
        return None
    inputs: object = fields.get("inputs", {})
    if not isinstance(inputs, dict):
        message = f"The inputs of node {shorten(node_id)} are not an object."
        problems.append(_malformed(node_id, message, shown(inputs), '{"input name": value}'))
        return None
    meta: object = fields.get("_meta")
    return Node(
        id=node_id,
        class_type=class_type,
        inputs=_parse_inputs(node_id, cast("dict[object, Any]", inputs), problems),
        meta=cast("dict[str, Any]", meta) if isinstance(meta, dict) else {},
        raw=fields,
    )


def _parse_inputs(
    node_id: str, inputs: Mapping[object, Any], problems: list[Problem]
) -> dict[str, Input]:
    parsed: dict[str, Input] = {}
    for name, value in inputs.items():
        if not isinstance(name, str) or not is_plain_text(name):
            message = f"Node {shorten(node_id)} has an input whose name is no valid text."
            problems.append(_malformed(node_id, message, shown(name), "a text"))
            continue
        link = as_link(value)
        if link is not None:
            parsed[name] = link
            continue
        constant = _unwrapped(value)
        if not (constant is None or isinstance(constant, str | float | bool)):
            fault = _fault_of(constant)
            if fault:
                message = f"Input {shorten(name)} of node {shorten(node_id)} {fault}."
                problems.append(_malformed(node_id, message, shown(value), None, input_name=name))
        parsed[name] = constant
    return parsed


def _unwrapped(value: object) -> Json:
    """The value that came, see `wrapped`."""
    if isinstance(value, dict) and "__value__" in value:
        return cast("dict[str, Json]", value)["__value__"]
    return cast("Json", value)


def as_link(value: object) -> Link | None:
    """The link that a JSON value is, `[node id, output index]`, or None."""
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    if len(items) != 2:
        return None
    node_id, index = items
    if type(node_id) is str:
        if type(index) is int:
            return Link(node_id, index)
        if type(index) is float and index.is_integer():
            return Link(node_id, int(index))
    return None


def _malformed(
    node_id: str | None,
    message: str,
    got: str | None,
    expected: str | None,
    *,
    code: str = "invalid_prompt",
    input_name: str | None = None,
) -> Problem:
    return Problem(
        code=code,
        message=message,
        node_id=node_id,
        input_name=input_name,
        got=got,
        expected=expected,
    )


def _fault_of(value: object) -> str | None:
    """Why a value cannot be an input at all: too deep, too large, or no JSON; None if it can."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                fields = cast("dict[object, object]", item)
                if not all(isinstance(k, str) for k in fields):
                    return "holds an object whose keys are not texts"
                below.extend(fields.values())
            elif isinstance(item, list):
                below.extend(cast("list[object]", item))
            elif isinstance(item, bool | str) or item is None:
                continue
            elif isinstance(item, int):
                if item.bit_length() > MAX_INT_BITS:
                    return "holds a number with too many digits"
            elif isinstance(item, float):
                if not math.isfinite(item):
                    return "holds a number that is not finite"
            else:
                return "holds a value that is no JSON"
        if not below:
            return None
        level = below
    return f"is nested deeper than {MAX_DEPTH} levels"


# Text for people ----------------------------------------------------------------------------------


def is_plain_text(text: str) -> bool:
    """Whether a text can be written as UTF-8 (no lone surrogates)."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shorten(text: str, limit: int = _SHOWN) -> str:
    """A text in one short line that can always be written."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "�" for c in text)


def shown(value: object) -> str:
    """A value of unknown kind as people see it in a message; never long, never an exception."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{shorten(value)}"'
    if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
        return "a huge number"
    if isinstance(value, int | float):
        return shorten(str(value))
    if isinstance(value, list):
        items = cast("list[object]", value)
        if len(items) <= 4 and not any(isinstance(i, list | dict) for i in items):
            return f"[{', '.join(shown(i) for i in items)}]"
        return f"a list of {len(items)}"
    if isinstance(value, dict):
        return f"an object of {len(cast('dict[object, object]', value))}"
    return f"a {type(value).__name__}"
