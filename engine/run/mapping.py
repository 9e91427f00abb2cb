"""List mapping: from lists of inputs to the calls of a node, and from their outputs to lists.

Every output of a node is kept as a list of values, with one item unless something was mapped.
A node is called once per position of its longest input list; shorter lists repeat their last item.
Pure functions; calling the node is the executor's part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.api.errors import NodeError
from engine.api.node import Blocked
from engine.api.spec import NodeSpec

SILENT = Blocked()


@dataclass(frozen=True, slots=True)
class Linked:
    """The whole list of an inner node's output, as one result of an expanded call."""

    values: list[Any]


def slices(
    lists: Mapping[str, Sequence[Any]], *, takes_lists: bool
) -> list[dict[str, Any] | Blocked]:
    """The inputs of each call; `Blocked` where an input stops the call."""
    if takes_lists:
        whole = {name: list(values) for name, values in lists.items()}
        found = (v for values in whole.values() for v in values if isinstance(v, Blocked))
        blocked = next(found, None)
        return [whole if blocked is None else blocked]
    count = 1
    for values in lists.values():
        if len(values) != 1:
            if not values:
                return []
            count = max(count, len(values))
    calls: list[dict[str, Any] | Blocked] = []
    for i in range(count):
        call: dict[str, Any] = {}
        stop = None
        for name, values in lists.items():
            value = values[i] if i < len(values) else values[-1]
            if type(value) is Blocked:
                stop = value
            call[name] = value
        calls.append(call if stop is None else stop)
    return calls


def merge_results(
    spec: NodeSpec, results: Sequence[tuple[Any, ...] | Blocked]
) -> tuple[list[Any], ...]:
    """The lists of a node's outputs from the results of its calls.

    Raises: NodeError when a call gave too few outputs, or no list where the type declares one.
    """
    merged: tuple[list[Any], ...] = tuple([] for _ in spec.outputs)
    for result in results:
        if isinstance(result, Blocked):
            for values in merged:
                values.append(SILENT)
            continue
        if len(result) < len(merged):
            if len(result) == 1 and isinstance(result[0], Blocked):
                result = result * len(merged)
            else:
                raise NodeError(
                    f"{spec.name} declares {len(merged)} outputs but gave {len(result)}.",
                    hint="Return one value per declared output.",
                )
        for output, values, value in zip(spec.outputs, merged, result):
            if type(value) is Linked:
                values.extend(value.values)
            elif not output.is_list or isinstance(value, Blocked):
                values.append(value)
            elif isinstance(value, list | tuple):
                values.extend(value)
            else:
                raise NodeError(
                    f"{spec.name} declares its output {output.name} as a list "
                    f"but gave {type(value).__name__}.",
                )
    return merged


def merge_ui(parts: Sequence[Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    """What several calls show, as one: lists are joined, other values of later calls win."""
    shown = [ui for ui in parts if ui is not None]
    if len(shown) < 2:
        return shown[0] if shown else None
    merged: dict[str, Any] = {}
    for ui in shown:
        for name, value in ui.items():
            before = merged.get(name)
            if isinstance(before, list | tuple) and isinstance(value, list | tuple):
                merged[name] = [*before, *value]
            else:
                merged[name] = value
    return merged
