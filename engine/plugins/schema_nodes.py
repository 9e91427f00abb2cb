"""Adapter for nodes in the declarative form: `define_schema()` and `execute()` classmethods."""

import inspect
from collections.abc import Awaitable, Mapping
from typing import Any, cast

from engine.api.context import RunContext
from engine.api.errors import PluginError
from engine.api.node import Blocked, NodeOutput, NodeType
from engine.api.spec import InputSpec, NodeSpec, OutputSpec
from engine.plugins.class_specs import wire_type
from engine.plugins.hidden import hidden_values
from engine.plugins.pack_calls import (
    accepts,
    argument_maker,
    change_reporter,
    json_value,
    lazy_checker,
    validator,
)
from engine.plugins.pack_values import output_of
from engine.plugins.schema_api import io


def schema_node(cls: Any, *, pack: str = "") -> NodeType:
    """The node type of a declarative node. Raises: PluginError when it has no proper schema."""
    spec = _spec(cls, pack)
    make = argument_maker(spec, cls.execute)

    def call(values: Mapping[str, Any], ctx: RunContext) -> NodeOutput | Awaitable[NodeOutput]:
        returned = _for_call(cls, spec, ctx).execute(**make(values, ctx))
        if inspect.isawaitable(returned):
            return later(returned, ctx)
        return _output(returned, spec, ctx)

    async def later(waiting: Awaitable[Any], ctx: RunContext) -> NodeOutput:
        return _output(await waiting, spec, ctx)

    changed = getattr(cls, "fingerprint_inputs", None)
    validate = getattr(cls, "validate_inputs", None)
    lazy = getattr(cls, "check_lazy_status", None)

    def lazy_for_call(ctx: RunContext) -> Any:
        return _for_call(cls, spec, ctx).check_lazy_status

    return NodeType(
        spec=spec,
        call=call,
        is_changed=changed and change_reporter(spec, changed),
        validate=validate and validator(spec, validate),
        check_lazy=lazy and lazy_checker(spec, lazy_for_call, lazy),
    )


def _spec(cls: Any, pack: str) -> NodeSpec:
    schema = cls.define_schema()
    if not isinstance(schema, io.Schema):
        raise PluginError(
            f"define_schema of {cls.__name__} in the pack {pack} returned "
            f"a {type(schema).__name__}, not an io.Schema."
        )
    asked = set(map(io.Hidden, schema.hidden))
    if schema.not_idempotent:  # its result is not shared with nodes like it: its id is in its key
        asked.add(io.Hidden.unique_id)
    hidden = tuple(
        InputSpec(name=h.name, type=h.value, kind="hidden") for h in io.Hidden if h in asked
    )
    inputs = tuple(_input(i) for i in schema.inputs)
    validate = getattr(cls, "validate_inputs", None)
    checked = accepts(validate) if validate else None
    names = [i.name for i in inputs if checked and (checked.takes_any or i.name in checked.names)]
    return NodeSpec(
        name=schema.node_id,
        title=schema.display_name or schema.node_id,
        category=schema.category,
        description=inspect.cleandoc(schema.description or cls.__doc__ or ""),
        inputs=inputs + hidden,
        outputs=tuple(_output_spec(o) for o in schema.outputs),
        search=tuple(schema.search_aliases),
        pack=pack,
        is_output=schema.is_output_node,
        takes_lists=schema.is_input_list,
        takes_any_input=schema.accept_all_inputs,
        has_is_changed=hasattr(cls, "fingerprint_inputs"),
        has_validate=validate is not None,
        validated_inputs=tuple(
            names + ["input_types"] * bool(checked and "input_types" in checked.names)
        ),
        has_check_lazy=hasattr(cls, "check_lazy_status"),
        is_async=inspect.iscoroutinefunction(cls.execute),
        is_deprecated=schema.is_deprecated,
        is_experimental=schema.is_experimental,
    )


def _input(declared: io.Input) -> InputSpec:
    return InputSpec(
        name=declared.id,
        type=wire_type(declared.io_type),
        kind="optional" if declared.optional else "required",
        choices=declared.choices,
        options=cast(dict[str, Any], json_value(declared.options)),
    )


def _output_spec(declared: io.Output) -> OutputSpec:
    return OutputSpec(
        name=declared.display_name or declared.id or declared.io_type,
        type=wire_type(declared.io_type),
        is_list=declared.is_output_list,
        tooltip=declared.tooltip or "",
    )


def _for_call(cls: Any, spec: NodeSpec, ctx: RunContext) -> Any:
    """The class for one call: `cls.hidden` differs from call to call, also side by side."""
    hidden = hidden_values(spec.inputs, ctx)
    if not hidden:
        return cls
    return type(cls.__name__, (cls,), {"hidden": io.HiddenHolder(**hidden)})


def _output(returned: Any, spec: NodeSpec, ctx: RunContext) -> NodeOutput:
    """What `execute` returned; the pictures that it shows are stored here."""
    if not isinstance(returned, io.NodeOutput):
        return output_of(returned, spec)
    if returned.block_execution is not None:
        return NodeOutput(result=(Blocked(returned.block_execution),) * len(spec.outputs))
    shown = returned.ui
    if shown is not None and not isinstance(shown, Mapping):
        shown = shown.shown(ctx.files)
    return output_of({"result": returned.args, "ui": shown, "expand": returned.expand}, spec)
