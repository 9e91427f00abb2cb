"""Nodes that hold or show one plain value."""

import json
import sys
from typing import Annotated, Any

from engine.api import AnyValue, Float, Int, NodeOutput, Text, node

_CATEGORY = "utils/primitive"


@node("PrimitiveInt", title="Int", category=_CATEGORY)
def primitive_int(
    value: Annotated[int, Int(0, min=-sys.maxsize, max=sys.maxsize, control_after_generate=True)],
) -> int:
    """A whole number."""
    return value


@node("PrimitiveFloat", title="Float", category=_CATEGORY)
def primitive_float(
    value: Annotated[float, Float(0.0, min=-sys.maxsize, max=sys.maxsize)],
) -> float:
    """A number."""
    return value


@node("PrimitiveString", title="String", category=_CATEGORY)
def primitive_string(value: Annotated[str, Text(multiline=False)]) -> str:
    """A line of text."""
    return value


@node("PrimitiveStringMultiline", title="String (Multiline)", category=_CATEGORY)
def primitive_string_multiline(value: Annotated[str, Text(multiline=True)]) -> str:
    """A text of several lines."""
    return value


@node("PrimitiveBoolean", title="Boolean", category=_CATEGORY)
def primitive_boolean(value: bool) -> bool:
    """Yes or no."""
    return value


@node("PreviewAny", title="Preview Any", category="utils", is_output=True)
def preview_any(source: AnyValue) -> NodeOutput:
    """Shows any value as text."""
    return NodeOutput(ui={"text": (_as_text(source),)})


def _as_text(value: Any) -> str:
    if isinstance(value, str | int | float | bool):
        return str(value)
    if value is None:
        return "None"
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return str(value)


NODES = [
    primitive_int,
    primitive_float,
    primitive_string,
    primitive_string_multiline,
    primitive_boolean,
    preview_any,
]
