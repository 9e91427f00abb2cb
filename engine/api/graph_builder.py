"""Builds the sub-graph that a node gives in place of its own result (`NodeOutput.expand`)."""

from collections.abc import Mapping
from itertools import count
from typing import Any, cast


def is_link(value: object) -> bool:
    """Whether an input value of a prompt is a link `[node id, output index]`."""
    if not isinstance(value, list) or len(cast(list[object], value)) != 2:
        return False
    node_id, index = cast(list[object], value)
    return isinstance(node_id, str) and type(index) in (int, float)


class GraphNode:
    """One node of a sub-graph that is being built."""

    def __init__(self, id: str, class_type: str, inputs: Mapping[str, Any]) -> None:
        self.id = id
        self.class_type = class_type
        self.inputs = {k: v for k, v in inputs.items() if v is not None}
        self.display_id: str | None = None

    def out(self, index: int) -> list[Any]:
        """A link to one of its outputs."""
        return [self.id, index]

    def set_input(self, name: str, value: Any) -> None:
        """Set an input; None removes it."""
        if value is None:
            self.inputs.pop(name, None)
        else:
            self.inputs[name] = value

    def get_input(self, name: str) -> Any:
        """The value of an input, or None."""
        return self.inputs.get(name)

    def set_override_display_id(self, display_id: str) -> None:
        """Show the progress of this node on another node of the user's graph."""
        self.display_id = display_id

    def to_json(self) -> dict[str, Any]:
        """The node in API form."""
        node: dict[str, Any] = {"class_type": self.class_type, "inputs": dict(self.inputs)}
        return node if self.display_id is None else {**node, "override_display_id": self.display_id}


class GraphBuilder:
    """Collects nodes; `finalize()` is what goes into `expand`, `node.out(0)` into `result`.

    Ids are local to one expansion: the engine puts the id of the expanded node before them. Two
    builders whose nodes go into one expansion need different prefixes.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._numbers = count(1)
        self._nodes: dict[str, GraphNode] = {}

    def node(self, class_type: str, id: str | None = None, **inputs: Any) -> GraphNode:
        """Add a node, or get the one that already has this id."""
        full = self._prefix + (str(next(self._numbers)) if id is None else id)
        if full not in self._nodes:
            self._nodes[full] = GraphNode(full, class_type, inputs)
        return self._nodes[full]

    def lookup_node(self, id: str) -> GraphNode | None:
        """The node that was added under this id, or None."""
        return self._nodes.get(self._prefix + id)

    def replace_node_output(self, node_id: str, index: int, new_value: Any) -> None:
        """Put a value, or None for nothing, wherever an output of a node is used."""
        old = [node_id, index]
        for node in self._nodes.values():
            for name in [n for n, value in node.inputs.items() if value == old]:
                node.set_input(name, new_value)

    def remove_node(self, id: str) -> None:
        """Take a node out again. Raises: KeyError."""
        del self._nodes[id]

    def finalize(self) -> dict[str, dict[str, Any]]:
        """The sub-graph in API form."""
        return {node_id: node.to_json() for node_id, node in self._nodes.items()}
