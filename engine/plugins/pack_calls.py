"""How the functions of a pack are called: which arguments they get, what their answers mean.

Shared by the class-style and the declarative form.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from engine.api.context import RunContext
from engine.api.errors import Problem
from engine.api.node import NodeOutput
from engine.api.spec import NodeSpec
from engine.plugins.hidden import hidden_values
from engine.plugins.model_facade import Origin
from engine.plugins.pack_values import output_of, to_pack

ArgumentMaker = Callable[[Mapping[str, Any], RunContext], dict[str, Any]]
Problems = Sequence[Problem]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepts:
    """Which keyword arguments a function takes, and which of them it cannot do without."""

    names: frozenset[str]
    needed: frozenset[str]
    takes_any: bool

    def takes(self, name: str) -> bool:
        return self.takes_any or name in self.names

    def pick(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the values that the function takes; None for those that it needs besides."""
        picked = {k: v for k, v in values.items() if self.takes(k)}
        return {**dict.fromkeys(self.needed - values.keys()), **picked}


def accepts(function: Callable[..., Any]) -> Accepts:
    """What a function takes by name; an unreadable signature counts as `**kwargs`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return Accepts(names=frozenset(), needed=frozenset(), takes_any=True)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return Accepts(
        names=frozenset(p.name for p in named),
        needed=frozenset(p.name for p in named if p.default is p.empty),
        takes_any=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def argument_maker(spec: NodeSpec, function: Callable[..., Any]) -> ArgumentMaker:
    """Makes the keyword arguments of a node's function from its inputs.

    Undeclared inputs only reach a function that takes them. A lazy input that was not asked for
    is None, unless the function has a default for it. Hidden inputs only go to a function that
    takes them (declarative nodes read them from `cls.hidden`).
    """
    taken = accepts(function)
    origin = Origin(pack=spec.pack, node=spec.name)
    passed = frozenset(i.name for i in spec.inputs) | taken.names
    unasked = {i.name: None for i in spec.inputs if i.is_lazy and i.name in taken.needed}
    hidden = tuple(i for i in spec.inputs if i.kind == "hidden" and taken.takes(i.name))
    passes_all = taken.takes_any

    def make(values: Mapping[str, Any], ctx: RunContext) -> dict[str, Any]:
        arguments: dict[str, Any] = dict(unasked)
        for name, value in values.items():
            if passes_all or name in passed:
                arguments[name] = to_pack(value, origin)
        if hidden:
            more = hidden_values(hidden, ctx)
            arguments.update({k: [v] for k, v in more.items()} if spec.takes_lists else more)
        return arguments

    return make


def finished(returned: Any, spec: NodeSpec) -> NodeOutput | Awaitable[NodeOutput]:
    """The output of a call, at once or, for an async function, when awaited."""

    async def later(waiting: Awaitable[Any]) -> NodeOutput:
        return output_of(await waiting, spec)

    return later(returned) if inspect.isawaitable(returned) else output_of(returned, spec)


def validator(
    spec: NodeSpec, function: Callable[..., Any]
) -> Callable[[Mapping[str, Any], Mapping[str, str]], Problems | Awaitable[Problems]]:
    """`validate` of a node type from a pack's own check: True, or a text that says what is wrong.

    The check gets constants, None for links, and `input_types` where it asks for them.
    """
    taken = accepts(function)

    def validate(
        values: Mapping[str, Any], input_types: Mapping[str, str]
    ) -> Problems | Awaitable[Problems]:
        given = _as_lists(values) if spec.takes_lists else dict(values)
        if "input_types" in taken.names:
            types = dict(input_types)
            given["input_types"] = [types] if spec.takes_lists else types
        answer = function(**taken.pick(given))
        return later(answer) if inspect.isawaitable(answer) else _problems(spec, answer)

    async def later(waiting: Awaitable[Any]) -> Problems:
        return _problems(spec, await waiting)

    return validate


def _problems(spec: NodeSpec, answer: Any) -> Problems:
    if answer is True:
        return ()
    text = answer if isinstance(answer, str) else f"The node {spec.name} refused its inputs."
    return (Problem(code="custom_validation_failed", message=text, node_type=spec.name),)


def change_reporter(
    spec: NodeSpec, function: Callable[..., Any]
) -> Callable[[Mapping[str, Any]], Any]:
    """`is_changed` of a node type from a pack's own function, in a form that JSON can carry."""
    taken = accepts(function)

    def is_changed(values: Mapping[str, Any]) -> Any:
        given = _as_lists(values) if spec.takes_lists else values
        answer = function(**taken.pick(given))
        return json_value(completed(answer) if inspect.iscoroutine(answer) else answer)

    return is_changed


def lazy_checker(
    spec: NodeSpec,
    method_of: Callable[[RunContext], Callable[..., Any]],
    sample: Callable[..., Any],
) -> Callable[[Mapping[str, Any], RunContext], Sequence[str]]:
    """`check_lazy` of a node type; `method_of` gives the function for a call, `sample` its form."""
    taken = accepts(sample)
    make = argument_maker(spec, sample)
    lazy = {i.name: None for i in spec.inputs if i.is_lazy}

    def check_lazy(values: Mapping[str, Any], ctx: RunContext) -> Sequence[str]:
        wanted = method_of(ctx)(**taken.pick({**lazy, **make(values, ctx)}))
        return tuple(str(name) for name in wanted or ())

    return check_lazy


def completed(waiting: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, also where an event loop runs already, as in a notebook."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, waiting).result()


def _as_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: [v] for k, v in values.items()}


def json_value(value: Any) -> Any:
    """A value as JSON can carry it; what JSON does not know becomes text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {str(k): json_value(v) for k, v in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [json_value(v) for v in cast(Sequence[Any], value)]
    return str(value)
