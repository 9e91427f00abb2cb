"""Reading a prompt (the graph in API form) backwards, from a node that saves to what made it."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

Prompt = Mapping[str, Any]  # {id: {"class_type", "inputs"}}


def inputs_of(prompt: Prompt, node_id: str) -> Mapping[str, Any]:
    """The inputs of a node; empty when there is no such node."""
    node = prompt.get(node_id)
    inputs = node.get("inputs") if isinstance(node, Mapping) else None
    return inputs if isinstance(inputs, Mapping) else {}


def class_of(prompt: Prompt, node_id: str) -> str:
    """The class type of a node; empty when there is no such node."""
    node = prompt.get(node_id)
    return str(node.get("class_type", "")) if isinstance(node, Mapping) else ""


def source_of(value: object) -> str | None:
    """The id of the node that a linked input comes from; None for a constant."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], int):
        return str(value[0])
    return None


def upstream(
    prompt: Prompt, node_id: str, *, without: Collection[str] = (), only: Collection[str] = ()
) -> Iterator[str]:
    """The nodes that a node's inputs come from, nearest first, each once; not the node itself.

    `without` names inputs that are not followed; `only`, if given, those that are.
    """
    waiting, seen = [node_id], {node_id}
    for here in waiting:  # grows as it goes
        for name, value in inputs_of(prompt, here).items():
            source = source_of(value)
            if source is None or source in seen or name in without or (only and name not in only):
                continue
            seen.add(source)
            waiting.append(source)
            yield source
