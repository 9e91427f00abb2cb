"""Node specs: what a node type looks like from outside, as data that travels and is stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.api.errors import EngineError

BUILTIN_PACK = "nodes"

InputKind = Literal["required", "optional", "hidden"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """One input of a node type.

    `type` is a wire name (`INT`, `FLOAT`, `STRING`, `BOOLEAN`, `COMBO`, `IMAGE`, a union
    `IMAGE,MASK`, or `*`). A COMBO has fixed `choices`, or `folder`: the files of that model folder
    (or `input`). `options` are the JSON options of the wire format (default, min, max, step, round,
    multiline, tooltip, forceInput, lazy, rawLink, control_after_generate, image_upload …).
    """

    name: str
    type: str
    kind: InputKind = "required"
    choices: tuple[Any, ...] | None = None
    folder: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_lazy(self) -> bool:
        return bool(self.options.get("lazy"))

    @property
    def is_raw_link(self) -> bool:
        return bool(self.options.get("rawLink"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """One output of a node type; `is_list` marks a list that maps over the nodes after it."""

    name: str
    type: str
    is_list: bool = False
    tooltip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """A node type as data: everything but its function."""

    name: str
    title: str
    category: str
    description: str = ""
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    aliases: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    pack: str = "nodes"
    version: str = "1"
    is_output: bool = False
    takes_lists: bool = False  # INPUT_IS_LIST: called once with whole lists
    takes_any_input: bool = False  # undeclared inputs are passed on to the function
    takes_failures: bool = False  # runs though nodes before it failed, and gets `Failed` of them
    is_volatile: bool = False  # runs in every job
    reads: tuple[str, ...] = ()  # files beside its inputs: "user/a.csv", all in "user/a/"
    has_is_changed: bool = False
    has_validate: bool = False
    validated_inputs: tuple[str, ...] = ()  # inputs that the node's own validation takes over
    has_check_lazy: bool = False
    is_async: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False

    def input(self, name: str) -> InputSpec | None:
        """The input of that name, or None."""
        return next((i for i in self.inputs if i.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """A JSON form that `from_json` reads back."""
        return _plain(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "NodeSpec":
        """The spec of a JSON form written by `to_json`."""
        try:
            fields = dict(data)
            fields["inputs"] = tuple(_input(i) for i in fields.get("inputs", ()))
            fields["outputs"] = tuple(OutputSpec(**o) for o in fields.get("outputs", ()))
            for name in ("aliases", "search", "reads", "validated_inputs"):
                fields[name] = tuple(fields.get(name, ()))
            return NodeSpec(**fields)
        except (TypeError, KeyError) as error:
            raise EngineError(f"A stored node spec cannot be read: {error}.") from error


def _input(data: Mapping[str, Any]) -> InputSpec:
    fields = dict(data)
    if fields.get("choices") is not None:
        fields["choices"] = tuple(fields["choices"])
    return InputSpec(**fields)


def _plain(value: Any) -> Any:
    """Nested spec dataclasses as JSON, default values left out."""
    if hasattr(value, "__dataclass_fields__"):
        out = {}
        for name, spec in value.__dataclass_fields__.items():
            item = getattr(value, name)
            if item != spec.default and not (item == {} or item == ()):
                out[name] = _plain(item)
        return out
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
