"""`@node`: a typed function becomes a node type: signature = schema, docstring = help."""

import hashlib
import inspect
import types
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from engine.api.context import RunContext
from engine.api.errors import PluginError, Problem
from engine.api.spec import InputSpec, NodeSpec, OutputSpec
from engine.api.types import Socket

F = TypeVar("F", bound=Callable[..., Any])
Validation = Sequence[Problem]


@dataclass(frozen=True, slots=True)
class Blocked:
    """A value that stops every node that would use it; with a message it is shown as an error."""

    message: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Stands for a value that a failed node would have given; only for nodes that take failures."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOutput:
    """What one node call gives: its outputs, what it shows, or a sub-graph to run in its place.

    With `expand` (a prompt in API form) the `result` may hold links `[id, index]` into it.
    """

    result: tuple[Any, ...] = ()
    ui: Mapping[str, Any] | None = None
    expand: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """A spec with its functions, as the worker knows it; the same for every convention.

    `call` runs the node once on plain inputs (one slice of a mapped list; whole lists when
    `spec.takes_lists`). `is_changed` gives a JSON-like value that goes into the cache key.
    `check_lazy` names the lazy inputs that are still needed. `validate` gives problems.
    """

    spec: NodeSpec
    call: Callable[[Mapping[str, Any], RunContext], "NodeOutput | Awaitable[NodeOutput]"]
    is_changed: Callable[[Mapping[str, Any]], Any] | None = None
    check_lazy: Callable[[Mapping[str, Any], RunContext], Sequence[str]] | None = None
    validate: (
        Callable[
            [Mapping[str, Any], Mapping[str, str]],
            "Validation | Awaitable[Validation]",
        ]
        | None
    ) = None


_MARK = "__weft_node__"


# Widgets ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Widget:
    """How an input is shown and checked: a wire type, its JSON options and its choices."""

    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    choices: tuple[Any, ...] | None = None
    folder: str | None = None


def _options(**values: Any) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None}


def Int(  # noqa: N802 - widgets read like types
    default: int = 0,
    *,
    min: int | None = None,
    max: int | None = None,
    step: int | None = None,
    tooltip: str | None = None,
    **more: Any,
) -> Widget:
    """A whole number; `more` are further wire options (control_after_generate, display …)."""
    return Widget(
        "INT", _options(default=default, min=min, max=max, step=step, tooltip=tooltip, **more)
    )


def Float(  # noqa: N802
    default: float = 0.0,
    *,
    min: float | None = None,
    max: float | None = None,
    step: float | None = None,
    round: float | bool | None = None,
    tooltip: str | None = None,
    **more: Any,
) -> Widget:
    """A number."""
    return Widget(
        "FLOAT",
        _options(
            default=default, min=min, max=max, step=step, round=round, tooltip=tooltip, **more
        ),
    )


def Text(  # noqa: N802
    default: str = "", *, multiline: bool | None = None, tooltip: str | None = None, **more: Any
) -> Widget:
    """A text, in one line or several."""
    return Widget("STRING", _options(default=default, multiline=multiline, tooltip=tooltip, **more))


def Toggle(  # noqa: N802
    default: bool = False, *, tooltip: str | None = None, **more: Any
) -> Widget:
    """Yes or no."""
    return Widget("BOOLEAN", _options(default=default, tooltip=tooltip, **more))


def Choice(  # noqa: N802
    choices: Sequence[Any] = (),
    *,
    folder: str | None = None,
    default: Any = None,
    tooltip: str | None = None,
    **more: Any,
) -> Widget:
    """One of fixed `choices`, or a file of a model `folder` (or of `input`)."""
    return Widget(
        "COMBO",
        _options(default=default, tooltip=tooltip, **more),
        None if folder else tuple(choices),
        folder,
    )


@dataclass(frozen=True, slots=True)
class Options:
    """Further wire options of an input: `Annotated[Image, Options(tooltip="…", lazy=True)]`."""

    values: Mapping[str, Any]

    def __init__(self, **values: Any) -> None:
        object.__setattr__(self, "values", values)


# The decorator ------------------------------------------------------------------------------------

_PLAIN = {int: Int(), float: Float(), str: Text(), bool: Toggle()}


def node(
    name: str,
    *,
    category: str,
    title: str | None = None,
    aliases: Sequence[str] = (),
    search: Sequence[str] = (),
    version: int = 1,
    output_names: Sequence[str] | None = None,
    output_tooltips: Sequence[str] = (),
    list_outputs: Sequence[int] = (),
    is_output: bool = False,
    is_volatile: bool = False,
    reads: Sequence[str] = (),
    takes_lists: bool = False,
    takes_any_input: bool = False,
    takes_failures: bool = False,
    rename: Mapping[str, str] | None = None,
    check_lazy: Callable[..., Sequence[str]] | None = None,
    is_changed: Callable[..., Any] | None = None,
    is_deprecated: bool = False,
    is_experimental: bool = False,
) -> Callable[[F], F]:
    """Make a node type of a function.

    Parameters are inputs: `Annotated[int, Int(512, min=16)]`, `Image`, `Mask | None = None`
    (optional). A parameter `ctx: RunContext` is no socket. The return annotation gives the outputs:
    one type, `tuple[A, B]`, or None. The function returns a value, a tuple, or a `NodeOutput`
    (`Annotated[NodeOutput, A, B]` when that has outputs A and B).
    `rename` maps parameter names to input names that Python cannot spell. `check_lazy` and
    `is_changed` take the same inputs as keyword arguments (missing ones are None). `reads` names
    files that the result depends on beside the inputs, as `user/a.csv` or `user/a/` for all in it;
    `{input}` stands for the value of an input. With `takes_failures` the node runs though nodes
    before it failed: their values are `Failed`, and its result is not kept.
    Raises: PluginError at decoration, when the signature cannot be read.
    """

    def wrap(function: F) -> F:
        names = dict(rename or {})
        inputs, context_name = _inputs(function, names, name)
        spec = NodeSpec(
            name=name,
            title=title or name,
            category=category,
            description=inspect.cleandoc(function.__doc__ or ""),
            inputs=inputs,
            outputs=_outputs(function, output_names, output_tooltips, list_outputs),
            aliases=tuple(aliases),
            search=tuple(search),
            version=str(version),
            is_output=is_output,
            takes_lists=takes_lists,
            takes_any_input=takes_any_input,
            takes_failures=takes_failures,
            is_volatile=is_volatile,
            reads=tuple(reads),
            has_is_changed=is_changed is not None,
            has_check_lazy=check_lazy is not None,
            is_async=inspect.iscoroutinefunction(function),
            is_deprecated=is_deprecated,
            is_experimental=is_experimental,
        )
        back = {wire: python for python, wire in names.items()}

        def arguments(values: Mapping[str, Any]) -> dict[str, Any]:
            return {back.get(k, k): v for k, v in values.items()}

        node_type = NodeType(
            spec=spec,
            call=_caller(function, arguments, context_name),
            is_changed=is_changed and (lambda v, call=is_changed: call(**arguments(v))),
            check_lazy=check_lazy and (lambda v, _ctx, call=check_lazy: call(**arguments(v))),
        )
        setattr(function, _MARK, node_type)
        return function

    return wrap


def node_type_of(function: Callable[..., Any]) -> NodeType:
    """The node type that `@node` made of a function. Raises: PluginError if it is none."""
    found = getattr(function, _MARK, None)
    if not isinstance(found, NodeType):
        raise PluginError(f"{function!r} is not a node.", hint="Decorate it with @node(…).")
    return found


def with_pack(node_type: NodeType, pack: str, source_digest: str = "") -> NodeType:
    """The node type as part of a pack; the digest of its sources joins its version."""
    spec = node_type.spec
    version = f"{spec.version}+{source_digest[:16]}" if source_digest else spec.version
    return replace(node_type, spec=replace(spec, pack=pack, version=version))


def source_digest(*parts: bytes) -> str:
    """SHA-256 over several byte strings, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def normal_output(value: Any) -> NodeOutput:
    """What a node function returned, as a `NodeOutput`."""
    if isinstance(value, NodeOutput):
        return value
    if value is None:
        return NodeOutput()
    return NodeOutput(result=tuple(value) if isinstance(value, tuple) else (value,))


def _caller(
    function: Callable[..., Any],
    arguments: Callable[[Mapping[str, Any]], dict[str, Any]],
    context_name: str | None,
) -> Callable[[Mapping[str, Any], RunContext], NodeOutput | Awaitable[NodeOutput]]:
    def call(values: Mapping[str, Any], ctx: RunContext) -> Any:
        keywords = arguments(values)
        if context_name:
            keywords[context_name] = ctx
        return normal_output(function(**keywords))

    async def call_async(values: Mapping[str, Any], ctx: RunContext) -> NodeOutput:
        keywords = arguments(values)
        if context_name:
            keywords[context_name] = ctx
        return normal_output(await function(**keywords))

    return call_async if inspect.iscoroutinefunction(function) else call


def _inputs(
    function: Callable[..., Any], names: Mapping[str, str], node_name: str
) -> tuple[tuple[InputSpec, ...], str | None]:
    inputs: list[InputSpec] = []
    context_name = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.annotation is RunContext:
            context_name = parameter.name
        elif parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            wire_name = names.get(parameter.name, parameter.name)
            inputs.append(_input(parameter, wire_name, node_name))
    return tuple(inputs), context_name


def _input(parameter: inspect.Parameter, name: str, node_name: str) -> InputSpec:
    base, extras = _split(parameter.annotation)
    is_optional = parameter.default is not parameter.empty
    widget = next((e for e in extras if isinstance(e, Widget)), None)
    more: dict[str, Any] = {}
    for extra in extras:
        if isinstance(extra, Options):
            more.update(extra.values)
    if isinstance(base, Socket) and widget is None:
        is_optional = is_optional or base.is_optional
        kind = "optional" if is_optional else "required"
        return InputSpec(name=name, type=base.name, kind=kind, options=more)
    widget = widget or (None if isinstance(base, Socket) else _PLAIN.get(base))
    if widget is None:
        raise PluginError(
            f"Node {node_name}: input {name} has the annotation {parameter.annotation!r}, "
            "which is no socket type.",
            hint="Use a type of engine.api.types, or Annotated[int, Int(…)].",
        )
    return InputSpec(
        name=name,
        type=widget.type,
        kind="optional" if is_optional else "required",
        choices=widget.choices,
        folder=widget.folder,
        options={**widget.options, **more},
    )


def _split(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The base type and the extras of an annotation; `X | None` counts as X."""
    extras: tuple[Any, ...] = ()
    if get_origin(annotation) is Annotated:
        annotation, *rest = get_args(annotation)
        extras = tuple(rest)
    if get_origin(annotation) in (Union, types.UnionType):
        members = [a for a in get_args(annotation) if a is not type(None)]
        inner, more = _split(members[0])
        return inner, extras + more
    return annotation, extras


def _outputs(
    function: Callable[..., Any],
    names: Sequence[str] | None,
    tooltips: Sequence[str],
    list_outputs: Sequence[int],
) -> tuple[OutputSpec, ...]:
    annotation = inspect.signature(function).return_annotation
    if annotation in (None, inspect.Signature.empty, NodeOutput):
        return ()
    if get_origin(annotation) is Annotated and get_args(annotation)[0] is NodeOutput:
        members = get_args(annotation)[1:]
    else:
        members = get_args(annotation) if get_origin(annotation) is tuple else (annotation,)
    outputs = []
    for index, member in enumerate(members):
        base, _ = _split(member)
        kind = base.name if isinstance(base, Socket) else _PLAIN[base].type
        name = names[index] if names and index < len(names) else kind
        tip = tooltips[index] if index < len(tooltips) else ""
        outputs.append(OutputSpec(name=name, type=kind, is_list=index in list_outputs, tooltip=tip))
    return tuple(outputs)
