"""Widget values of a saved node, by name: from names, else from positions, else from defaults."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.api.spec import InputSpec, NodeSpec
from engine.graph.document import FileNode

_WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
_SEEDS = frozenset({"seed", "noise_seed"})
_CONTROLS = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})
_UPLOADS = ("image_upload", "video_upload", "audio_upload")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Position:
    """A place in `widgets_values`; one without a name is a button whose value is not sent."""

    name: str | None
    may_have_control: bool = False
    has_filter: bool = False


def widget_values(node: FileNode, spec: NodeSpec | None) -> dict[str, Any]:
    """The value of every widget of the node, as an editor that opens the file has them.

    Names win over positions. Widgets that the file knows nothing of get their defaults.
    """
    if spec is None:
        saved = node.named_values
        return dict(saved) if saved is not None else _by_saved_names(node) or {}
    declared = [i for i in spec.inputs if _is_widget(i)]
    if node.named_values is not None:
        given = dict(node.named_values)
    else:
        given = _by_saved_names(node)
        if given is None:
            given = _assigned(node.values, _positions(spec))[0]
    values: dict[str, Any] = {}
    for item in declared:
        if item.name in given:
            values[item.name] = given[item.name]
        elif (default := _default(item)) is not None:
            values[item.name] = default
    extra = {s.widget for s in node.inputs if s.widget} - values.keys()
    values.update({name: given[name] for name in given if name in extra})
    return values


def _is_widget(item: InputSpec) -> bool:
    return (
        item.kind != "hidden" and item.type in _WIDGET_TYPES and not item.options.get("forceInput")
    )


def _default(item: InputSpec) -> Any:
    """What a new widget shows; None when that depends on the files of a folder."""
    default = item.options.get("default")
    if default is not None:
        return default
    if item.type == "COMBO":
        return item.choices[0] if item.choices else None
    plain: dict[str, Any] = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}
    number = plain[item.type]
    low = item.options.get("min")
    return max(number, low) if item.type in ("INT", "FLOAT") and low is not None else number


def _positions(spec: NodeSpec) -> list[_Position]:
    """The order in which an editor makes the widgets: required ones, upload button, optional."""
    places: list[_Position] = []
    for kind in ("required", "optional"):
        places += [_position(i) for i in spec.inputs if i.kind == kind and _is_widget(i)]
        if kind == "required" and any(i.options.get(u) for i in spec.inputs for u in _UPLOADS):
            places.append(_Position(name=None))
    return places


def _position(item: InputSpec) -> _Position:
    control = bool(item.options.get("control_after_generate"))
    return _Position(
        name=item.name,
        may_have_control=control or (item.type == "INT" and item.name in _SEEDS),
        has_filter=control and item.type == "COMBO",
    )


def _by_saved_names(node: FileNode) -> dict[str, Any] | None:
    """Values by the widget names that the node's own inputs list; None if they are not all there.

    Newer editors list every widget among the inputs, which tells the names of that time.
    """
    places = [
        _Position(name=s.widget, may_have_control=s.type == "INT" or s.widget in _SEEDS)
        for s in node.inputs
        if s.widget
    ]
    if not places:
        return None
    given, used = _assigned(node.values, places)
    rest = node.values[used:]
    is_complete = len(given) == len(places) and rest in ((), ("image",), ("video",), ("audio",))
    return given if is_complete else None


def _assigned(values: Sequence[Any], places: Sequence[_Position]) -> tuple[dict[str, Any], int]:
    """Positional values by name, and how many of them were used up."""
    given: dict[str, Any] = {}
    at = 0
    for number, place in enumerate(places):
        if at >= len(values):
            break
        if place.name is not None:
            given[place.name] = values[at]
        at += 1
        if place.may_have_control and at < len(values) and _is_control(values[at]):
            at += 1
            left = len(places) - number - 1
            if place.has_filter and len(values) - at > left and values[at] in ("", None):
                at += 1
    return given, at


def _is_control(value: object) -> bool:
    return isinstance(value, str) and value in _CONTROLS
