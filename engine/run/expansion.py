"""Values that are no JSON inside the sub-graphs of expansions, kept beside the graph.

A node may put anything into the inputs of a sub-graph that it returns (a tensor, a recipe). In the
graph a marker stands for such a value. The marker is made from the key of the node that returned
it, so that the keys of inner nodes say exactly which value it was.
"""

from collections.abc import Mapping
from typing import Any, cast

from engine.api.errors import NodeError
from engine.run.codec import is_json

_MARK = "__weft_value__"


class HeldValues:
    """The values of one run for which markers stand."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def hold(self, expand: Mapping[str, Any], owner: str, source: str) -> dict[str, Any]:
        """The sub-graph with markers; `source` names the call that returned it, by its key.

        Raises: NodeError when it is no sub-graph; `owner` is named.
        """
        return {str(i): self._marked(node, owner, f"{source}/{i}") for i, node in expand.items()}

    def value_of(self, constant: Any) -> Any:
        """The value that a constant stands for: itself, unless it is a marker."""
        if type(constant) is dict and len(constant) == 1 and _MARK in constant:
            return self._values.get(constant[_MARK], constant)
        return constant

    def _marked(self, node: Any, owner: str, place: str) -> dict[str, Any]:
        inputs = node.get("inputs", {}) if isinstance(node, Mapping) else None
        if not isinstance(inputs, Mapping):
            raise NodeError(
                f"{owner} expands into something that is no sub-graph.",
                hint='Give {"id": {"class_type": …, "inputs": {…}}}.',
            )
        marked: dict[str, Any] = {}
        for name, value in cast("Mapping[str, Any]", inputs).items():
            if is_json(value):
                marked[name] = value
            else:
                mark = f"{place}/{name}"
                self._values[mark] = value
                marked[name] = {_MARK: mark}
        return {**cast("Mapping[str, Any]", node), "inputs": marked}
