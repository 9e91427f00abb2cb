"""Specs of class-style nodes: `INPUT_TYPES`, `RETURN_TYPES` and the other class attributes."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from engine.api.errors import PluginError
from engine.api.spec import InputKind, InputSpec, NodeSpec, OutputSpec
from engine.plugins.pack_calls import accepts, json_value

_KINDS: tuple[InputKind, ...] = ("required", "optional", "hidden")


def wire_type(declared: Any) -> str:
    """The wire name of a declared type.

    Packs make wildcards as `str` subclasses that are unequal to nothing, so a type that is not
    unlike an invented one is `*`. A list of choices is a COMBO.
    """
    if not isinstance(declared, str):
        return "COMBO"
    is_unlike = declared != "\0no such type"
    return str.__str__(declared) if is_unlike else "*"


def class_spec(cls: type, name: str, *, title: str | None, pack: str) -> NodeSpec:
    """The spec of a class-style node. Raises: PluginError when the class breaks the convention."""
    declared = _input_types(cls, name, pack)
    function = node_function(cls, name, pack)
    validate = class_function(cls, "VALIDATE_INPUTS")
    inputs = _inputs(declared, name, pack)
    return NodeSpec(
        name=name,
        title=str(title or name),
        category=str(getattr(cls, "CATEGORY", "") or "packs"),
        description=_description(cls),
        inputs=inputs,
        outputs=_outputs(cls),
        search=_texts(getattr(cls, "SEARCH_ALIASES", ())),
        pack=pack,
        is_output=bool(getattr(cls, "OUTPUT_NODE", False)),
        takes_lists=bool(getattr(cls, "INPUT_IS_LIST", False)),
        takes_any_input=accepts(function).takes_any or _claims_any(declared),
        has_is_changed=class_function(cls, "IS_CHANGED") is not None,
        has_validate=validate is not None,
        validated_inputs=_validated(validate, inputs),
        has_check_lazy=hasattr(cls, "check_lazy_status"),
        is_async=inspect.iscoroutinefunction(function),
        is_deprecated=bool(getattr(cls, "DEPRECATED", False)),
        is_experimental=bool(getattr(cls, "EXPERIMENTAL", False)),
    )


def node_function(cls: type, name: str, pack: str) -> Any:
    """What `FUNCTION` names, for its signature. Raises: PluginError when there is none."""
    function_name = getattr(cls, "FUNCTION", None)
    function = method_form(cls, function_name) if isinstance(function_name, str) else None
    if not callable(function):
        raise PluginError(
            f"The node {name} of the pack {pack} cannot be called: FUNCTION is {function_name!r}, "
            "which is no method of its class.",
            hint="FUNCTION must be the name of a method.",
        )
    return function


def class_function(cls: type, name: str) -> Callable[..., Any] | None:
    """A function of a class that needs no instance, also where `@classmethod` was forgotten."""
    found = getattr(cls, name, None)
    if inspect.isfunction(inspect.getattr_static(cls, name, None)):
        first = next(iter(inspect.signature(cast(Any, found)).parameters), "")
        return partial(cast(Any, found), cls) if first in ("self", "cls", "s") else found
    return found


def method_form(cls: type, name: str) -> Any:
    """A method with the signature that it has on an instance; None when there is none."""
    found = getattr(cls, name, None)
    is_plain = inspect.isfunction(inspect.getattr_static(cls, name, None))
    return partial(cast(Any, found), None) if is_plain else found


def _input_types(cls: type, name: str, pack: str) -> Mapping[str, Any]:
    get = class_function(cls, "INPUT_TYPES")
    if get is None:
        raise PluginError(
            f"The node {name} of the pack {pack} has no INPUT_TYPES.",
            hint="Add a classmethod INPUT_TYPES that returns a dict.",
        )
    try:
        declared = get()
    except Exception as error:  # a pack's own code, run while its nodes are listed
        raise PluginError(
            f"INPUT_TYPES of the node {name} of the pack {pack} failed: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(declared, Mapping):
        raise PluginError(
            f"INPUT_TYPES of the node {name} of the pack {pack} returned "
            f"a {type(declared).__name__}, not a dict."
        )
    return cast(Mapping[str, Any], declared)


def _inputs(declared: Mapping[str, Any], name: str, pack: str) -> tuple[InputSpec, ...]:
    inputs: list[InputSpec] = []
    for kind in _KINDS:
        group: Any = declared.get(kind) or {}
        if not isinstance(group, Mapping):
            raise PluginError(
                f"INPUT_TYPES of the node {name} of the pack {pack}: {kind} is "
                f"a {type(group).__name__}, not a dict."
            )
        for key, entry in cast(Mapping[str, Any], group).items():
            try:
                inputs.append(_input(str(key), kind, entry))
            except (TypeError, ValueError, IndexError, KeyError) as error:
                raise PluginError(
                    f"INPUT_TYPES of the node {name} of the pack {pack}: the input {key} is "
                    f"declared as {entry!r}, expected (type, options)."
                ) from error
    return tuple(inputs)


def _input(name: str, kind: InputKind, entry: Any) -> InputSpec:
    if isinstance(entry, str):
        return InputSpec(name=name, type=wire_type(entry), kind=kind)
    declared = entry[0]
    options: dict[str, Any] = dict(entry[1]) if len(entry) > 1 and entry[1] else {}
    choices: tuple[Any, ...] | None = None
    if not isinstance(declared, str):
        choices = tuple(declared)
    elif declared == "COMBO" and "options" in options:
        choices = tuple(options.pop("options") or ())
    return InputSpec(
        name=name,
        type=wire_type(declared),
        kind=kind,
        choices=None if choices is None else tuple(map(json_value, choices)),
        options={str(k): json_value(v) for k, v in options.items() if not _is_endless(v)},
    )


def _is_endless(value: Any) -> bool:
    """Infinity as a limit means none, and JSON has no word for it."""
    return isinstance(value, float) and not math.isfinite(value)


def _outputs(cls: type) -> tuple[OutputSpec, ...]:
    kinds = _as_sequence(getattr(cls, "RETURN_TYPES", ()))
    names = _as_sequence(getattr(cls, "RETURN_NAMES", None))
    lists = _as_sequence(getattr(cls, "OUTPUT_IS_LIST", None))
    tips = _as_sequence(getattr(cls, "OUTPUT_TOOLTIPS", None))
    outputs: list[OutputSpec] = []
    for i, declared in enumerate(kinds):
        kind = wire_type(declared)
        outputs.append(
            OutputSpec(
                name=str(names[i] or kind) if i < len(names) else kind,
                type=kind,
                is_list=bool(lists[i]) if i < len(lists) else False,
                tooltip=str(tips[i] or "") if i < len(tips) else "",
            )
        )
    return tuple(outputs)


def _as_sequence(value: Any) -> Sequence[Any]:
    """A class attribute as a sequence; authors often forget the comma of a tuple of one."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str | bool) else value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(v) for v in _as_sequence(value))


def _description(cls: type) -> str:
    return inspect.cleandoc(str(getattr(cls, "DESCRIPTION", None) or cls.__doc__ or ""))


def _claims_any(declared: Mapping[str, Any]) -> bool:
    """Whether `optional` is a dict subclass that says of every name that it has it."""
    optional = declared.get("optional")
    return type(optional) is not dict and optional is not None and "\0no such name" in optional


def _validated(validate: Any, inputs: tuple[InputSpec, ...]) -> tuple[str, ...]:
    """The inputs whose range checks VALIDATE_INPUTS takes over; `input_types` if it asks for it."""
    if validate is None:
        return ()
    taken = accepts(validate)
    names = [i.name for i in inputs if taken.takes_any or i.name in taken.names]
    return tuple(names + ["input_types"] * ("input_types" in taken.names))
