"""Adapter for nodes written as classes, the custom-node convention of this ecosystem.

The spec of such a class is made in `class_specs`; here its functions become a node type.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any

from engine.api.context import RunContext
from engine.api.errors import PluginError
from engine.api.node import NodeOutput, NodeType
from engine.plugins.class_specs import class_function, class_spec, method_form, node_function
from engine.plugins.pack_calls import (
    argument_maker,
    change_reporter,
    finished,
    lazy_checker,
    validator,
)

MAX_INSTANCES = 256  # of one node type


def class_node(cls: Any, name: str, *, title: str | None = None, pack: str = "") -> NodeType:
    """The node type of a class-style node.

    Its function is called on one instance per node of the graph, kept between runs, since some
    packs store things on `self`.
    Raises: PluginError when the class breaks the convention.
    """
    spec = class_spec(cls, name, title=title, pack=pack)
    function_name = str(cls.FUNCTION)
    make = argument_maker(spec, node_function(cls, name, pack))
    instances = _Instances(cls)

    def call(values: Mapping[str, Any], ctx: RunContext) -> NodeOutput | Awaitable[NodeOutput]:
        method = getattr(instances.of(ctx.node_id), function_name)
        return finished(method(**make(values, ctx)), spec)

    changed = class_function(cls, "IS_CHANGED")
    validate = class_function(cls, "VALIDATE_INPUTS")
    node_type = NodeType(
        spec=spec,
        call=call,
        is_changed=changed and change_reporter(spec, changed),
        validate=validate and validator(spec, validate),
    )
    if not spec.has_check_lazy:
        return node_type
    form = method_form(cls, "check_lazy_status")
    check = lazy_checker(spec, lambda ctx: instances.of(ctx.node_id).check_lazy_status, form)
    return replace(node_type, check_lazy=check)


def refreshed(node_type: NodeType, cls: type) -> NodeType:
    """The node type with the spec as INPUT_TYPES says it now; as it was when that fails."""
    old = node_type.spec
    try:
        fresh = class_spec(cls, old.name, title=old.title, pack=old.pack)
    except PluginError:
        return node_type
    return replace(node_type, spec=replace(fresh, version=old.version))


class _Instances:
    """Instances of one class by node id; the one used longest ago goes first."""

    def __init__(self, cls: type) -> None:
        self._cls = cls
        self._by_node: OrderedDict[str, Any] = OrderedDict()

    def of(self, node_id: str) -> Any:
        instance = self._by_node.get(node_id)
        if instance is None:
            instance = self._by_node[node_id] = self._cls()
            if len(self._by_node) > MAX_INSTANCES:
                self._by_node.popitem(last=False)
        else:
            self._by_node.move_to_end(node_id)
        return instance
