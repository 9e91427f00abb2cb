"""What goes into and comes out of a pack's functions, for the class-style and declarative forms."""

from collections.abc import Mapping
from typing import Any, cast

from engine.api.errors import NodeError
from engine.api.node import Blocked, NodeOutput
from engine.api.recipe import Recipe
from engine.api.spec import NodeSpec
from engine.plugins.model_facade import Origin, PartFacade, facade_of


def to_pack(value: Any, origin: Origin) -> Any:
    """A wire value as a pack's function gets it: recipes behind a facade, also in a list."""
    if isinstance(value, Recipe):
        return facade_of(value, origin)
    if type(value) is list:
        items = cast(list[Any], value)
        if any(isinstance(v, Recipe) for v in items):
            return [to_pack(v, origin) for v in items]
        return items
    return value


def from_pack(value: Any) -> Any:
    """A returned value as it goes on a wire: no facade, no foreign blocker, also in a list."""
    if isinstance(value, PartFacade):
        return value.weft_recipe
    if _is_blocker(value):
        return Blocked(value.message)
    if type(value) is list:
        items = cast(list[Any], value)
        return [from_pack(v) for v in items] if any(map(_is_foreign, items)) else items
    return value


def _is_foreign(value: Any) -> bool:
    return isinstance(value, PartFacade) or _is_blocker(value)


def _is_blocker(value: Any) -> bool:
    """Packs bring the host's ExecutionBlocker or a copy of it, so it is known by its name."""
    return type(value).__name__ == "ExecutionBlocker" and hasattr(value, "message")


def output_of(returned: Any, spec: NodeSpec) -> NodeOutput:
    """What a pack's function returned, in any customary form.

    Raises: NodeError when it is none of them, or has fewer values than declared outputs.
    """
    if isinstance(returned, Mapping):
        mapping = cast(Mapping[str, Any], returned)
        ui = mapping.get("ui")
        expand = mapping.get("expand")
        result = _values(mapping.get("result"), spec, may_be_empty=bool(ui or expand))
        return NodeOutput(result=result, ui=ui, expand=expand and _sub_graph(expand))
    return NodeOutput(result=_values(returned, spec, may_be_empty=False))


def _sub_graph(expand: Any) -> Mapping[str, Any]:
    """The sub-graph with recipes where the pack put their facades."""
    return {
        node_id: {**node, "inputs": {k: from_pack(v) for k, v in node.get("inputs", {}).items()}}
        for node_id, node in expand.items()
    }


def _values(returned: Any, spec: NodeSpec, *, may_be_empty: bool) -> tuple[Any, ...]:
    wanted = len(spec.outputs)
    if _is_blocker(returned) or isinstance(returned, Blocked):
        return (Blocked(returned.message),) * wanted
    if wanted == 0:
        return ()
    values: tuple[Any, ...] = ()
    if isinstance(returned, tuple | list):
        values = tuple(cast(tuple[Any, ...], returned))
    elif returned is not None:
        raise NodeError(
            f"{spec.name} ({spec.pack}) returned a {type(returned).__name__}, not a tuple.",
            hint="The function of a class-style node returns a tuple with one value per output.",
        )
    if not values and may_be_empty:
        return (Blocked(f"{spec.name} ({spec.pack}) gave no value for this output."),) * wanted
    if len(values) < wanted:
        raise NodeError(
            f"{spec.name} ({spec.pack}) returned {len(values)} values, "
            f"but it declares {wanted} outputs.",
            hint="Return one value per entry of RETURN_TYPES.",
        )
    return tuple(from_pack(value) for value in values[:wanted])
