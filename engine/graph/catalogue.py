"""The node types that are known, by name and alias, and their wire form (`/object_info`)."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from engine.api.spec import InputSpec, NodeSpec, OutputSpec
from engine.text.suggest import suggest

ListFiles = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A node type with what validation, planning and keys ask of it, looked up once.

    `inputs` are those a prompt may give (hidden ones are left out). `deferred` inputs are not
    followed until the node asks for them (lazy) or never (raw links). `knows_its_id` tells that
    the node asks for its own id (UNIQUE_ID), which its result may then depend on.
    """

    spec: NodeSpec
    inputs: Mapping[str, InputSpec]
    required: tuple[str, ...]
    deferred: frozenset[str]
    file_folders: Mapping[str, str]
    float_inputs: frozenset[str]
    knows_its_id: bool


class Catalogue:
    """Looks node types up by name or alias; never changes (a reload makes a new one).

    `unavailable` has a sentence for each node type that exists but cannot be used (its pack is not
    allowed, failed …), for those who ask for it.
    """

    def __init__(
        self, specs: Mapping[str, NodeSpec], unavailable: Mapping[str, str] | None = None
    ) -> None:
        self.unavailable: Mapping[str, str] = unavailable or {}
        self.specs: Mapping[str, NodeSpec] = {s.name: s for s in specs.values()}
        self._entries = {name: _entry(spec) for name, spec in self.specs.items()}
        self.aliases: dict[str, str] = {}
        for spec in self.specs.values():
            for alias in spec.aliases:
                if alias not in self.specs:
                    self.aliases.setdefault(alias, spec.name)
        for alias, name in self.aliases.items():
            self._entries[alias] = self._entries[name]

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[NodeSpec]:
        return iter(self.specs.values())

    def __len__(self) -> int:
        return len(self.specs)

    @property
    def names(self) -> Collection[str]:
        """All names a prompt may use, aliases included."""
        return self._entries.keys()

    def entry(self, name: str) -> Entry | None:
        """The node type of that name or alias, or None."""
        return self._entries.get(name)

    def get(self, name: str) -> NodeSpec | None:
        """The spec of that name or alias, or None."""
        entry = self._entries.get(name)
        return entry.spec if entry else None

    def suggest(self, name: str) -> tuple[str, ...]:
        """The node types, aliases included, whose names are closest to an unknown one."""
        return suggest(name, self._entries)

    def to_object_info(self, list_files: ListFiles) -> dict[str, dict[str, Any]]:
        """The wire form of all node types, as `GET /object_info` answers it.

        An alias is listed too, as the same entry under its own name with `weft_alias_of`; it is
        marked deprecated so that editors that do not know that key leave it out of their lists.
        """
        files = _once_per_folder(list_files)
        out = {name: to_wire(spec, files) for name, spec in self.specs.items()}
        for alias, name in self.aliases.items():
            out[alias] = _alias_entry(alias, name, out[name])
        return out

    def object_info_of(self, name: str, list_files: ListFiles) -> dict[str, dict[str, Any]]:
        """The wire form of one node type under the name asked for; {} when it is unknown."""
        spec = self.get(name)
        if spec is None:
            return {}
        wire = to_wire(spec, list_files)
        return {name: wire if name == spec.name else _alias_entry(name, spec.name, wire)}


def _entry(spec: NodeSpec) -> Entry:
    inputs = {i.name: i for i in spec.inputs if i.kind != "hidden"}
    return Entry(
        spec=spec,
        inputs=inputs,
        required=tuple(i.name for i in inputs.values() if i.kind == "required"),
        deferred=frozenset(
            i.name for i in inputs.values() if i.is_raw_link or (i.is_lazy and spec.has_check_lazy)
        ),
        file_folders={i.name: i.folder for i in inputs.values() if i.folder},
        float_inputs=frozenset(i.name for i in inputs.values() if i.type == "FLOAT"),
        knows_its_id=any(i.kind == "hidden" and i.type == "UNIQUE_ID" for i in spec.inputs),
    )


def _alias_entry(alias: str, name: str, wire: Mapping[str, Any]) -> dict[str, Any]:
    return {**wire, "name": alias, "weft_alias_of": name, "deprecated": True}


def _once_per_folder(list_files: ListFiles) -> ListFiles:
    known: dict[str, Sequence[str]] = {}

    def files(folder: str) -> Sequence[str]:
        if folder not in known:
            known[folder] = list_files(folder)
        return known[folder]

    return files


# The wire form of one node type -------------------------------------------------------------------


def to_wire(spec: NodeSpec, list_files: ListFiles) -> dict[str, Any]:
    """One node type as `/object_info` shows it; `list_files` gives the choices of file inputs."""
    inputs: dict[str, dict[str, Any]] = {"required": {}, "optional": {}, "hidden": {}}
    for item in spec.inputs:
        inputs[item.kind][item.name] = (
            item.type if item.kind == "hidden" else _input_to_wire(item, list_files)
        )
    wire: dict[str, Any] = {
        "input": inputs,
        "input_order": {kind: list(names) for kind, names in inputs.items()},
        "output": [o.type for o in spec.outputs],
        "output_is_list": [o.is_list for o in spec.outputs],
        "output_name": [o.name for o in spec.outputs],
        "name": spec.name,
        "display_name": spec.title,
        "description": spec.description,
        "python_module": _module_of(spec.pack),
        "category": spec.category,
        "output_node": spec.is_output,
        "deprecated": spec.is_deprecated,
        "experimental": spec.is_experimental,
    }
    if any(o.tooltip for o in spec.outputs):
        wire["output_tooltips"] = [o.tooltip for o in spec.outputs]
    if spec.takes_lists:
        wire["is_input_list"] = True
    if words := (*spec.search, *spec.aliases):
        wire["search_aliases"] = list(words)
    return wire


def _input_to_wire(item: InputSpec, list_files: ListFiles) -> list[Any]:
    choices = list_files(item.folder) if item.folder else item.choices
    head: Any = item.type if choices is None else list(choices)
    return [head, dict(item.options)] if item.options else [head]


def _module_of(pack: str) -> str:
    return pack if pack == "nodes" or "." in pack else f"custom_nodes.{pack}"


def from_wire(name: str, wire: Mapping[str, Any]) -> NodeSpec:
    """The spec of an `/object_info` entry; what the wire does not say keeps its default."""
    sections: Mapping[str, Any] = wire.get("input") or {}
    inputs: list[InputSpec] = []
    for kind in ("required", "optional"):
        forms: Mapping[str, Any] = sections.get(kind) or {}
        for input_name, form in forms.items():
            inputs.append(_input_from_wire(input_name, kind, form))
    hidden: Mapping[str, Any] = sections.get("hidden") or {}
    for input_name, type_name in hidden.items():
        inputs.append(InputSpec(name=input_name, type=str(type_name), kind="hidden"))
    types: Sequence[Any] = wire.get("output") or ()
    names = wire.get("output_name") or types
    lists = wire.get("output_is_list") or [False] * len(types)
    return NodeSpec(
        name=name,
        title=wire.get("display_name") or name,
        category=wire.get("category") or "",
        description=wire.get("description") or "",
        inputs=tuple(inputs),
        outputs=tuple(
            OutputSpec(
                name=str(names[i]),
                type="COMBO" if isinstance(kind, list) else str(kind),
                is_list=bool(lists[i]),
            )
            for i, kind in enumerate(types)
        ),
        is_output=bool(wire.get("output_node")),
        takes_lists=bool(wire.get("is_input_list")),
        is_deprecated=bool(wire.get("deprecated")),
        is_experimental=bool(wire.get("experimental")),
    )


def _input_from_wire(name: str, kind: Any, form: Sequence[Any]) -> InputSpec:
    head = form[0]
    options: dict[str, Any] = dict(form[1]) if len(form) > 1 else {}
    choices: list[Any] | None = cast("list[Any]", head) if isinstance(head, list) else None
    if head == "COMBO" and isinstance(options.get("options"), list):
        choices = cast("list[Any]", options.pop("options"))
    return InputSpec(
        name=name,
        type="COMBO" if isinstance(head, list) else str(head),
        kind=kind,
        choices=None if choices is None else tuple(choices),
        options=options,
    )
