"""The node types that a worker knows: an instance that is passed around, never a global."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType

from engine.api.errors import EngineError, PluginError
from engine.api.node import NodeType, node_type_of, with_pack
from engine.api.spec import BUILTIN_PACK, NodeSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    node_type: NodeType
    remake: Callable[[], NodeType] | None


class NodeRegistry:
    """Node types by name and alias. A name that is taken is refused, never overridden."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._names: dict[str, str] = {}  # every name and alias -> the name of its entry

    def add(self, node_type: NodeType, *, remake: Callable[[], NodeType] | None = None) -> None:
        """Take in a node type; `remake` makes it anew when its spec may have changed.

        Raises: PluginError when its name or an alias is taken, naming both packs.
        """
        spec = node_type.spec
        for name in (spec.name, *spec.aliases):
            if (owner := self._names.get(name)) is not None:
                other = self._entries[owner].node_type.spec.pack
                raise PluginError(
                    f"The node type {name} of {_pack_words(spec.pack)} is not used: "
                    f"{_pack_words(other)} already has that name.",
                    hint="Rename one of them, or remove one of the two packs.",
                    code="duplicate_node_type",
                )
        self._entries[spec.name] = _Entry(node_type=node_type, remake=remake)
        self._names.update(dict.fromkeys((spec.name, *spec.aliases), spec.name))

    def find(self, name: str) -> NodeType | None:
        """The node type of that name or alias, or None."""
        owner = self._names.get(name)
        return None if owner is None else self._entries[owner].node_type

    def get(self, name: str) -> NodeType:
        """The node type of that name or alias. Raises: EngineError (missing_node_type)."""
        found = self.find(name)
        if found is None:
            raise EngineError(
                f"There is no node type {name}.",
                hint="Check the spelling, or add and allow the pack that has it.",
                code="missing_node_type",
            )
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._entries)

    def specs(self) -> tuple[NodeSpec, ...]:
        """All specs, in the order in which they came."""
        return tuple(entry.node_type.spec for entry in self._entries.values())

    def remove_pack(self, pack: str) -> tuple[str, ...]:
        """Drop every node type of a pack; returns their names."""
        gone = tuple(n for n, e in self._entries.items() if e.node_type.spec.pack == pack)
        for name in gone:
            del self._entries[name]
        self._names = {k: v for k, v in self._names.items() if v in self._entries}
        return gone

    def refresh_specs(self) -> tuple[str, ...]:
        """Make anew the node types whose choices are read at that moment (class-style nodes).

        Returns the names of those whose spec changed.
        """
        changed: list[str] = []
        for name, entry in list(self._entries.items()):
            if entry.remake is None:
                continue
            fresh = entry.remake()
            is_there = self._entries.get(name) is entry  # packs may be loaded again meanwhile
            if is_there and fresh.spec != entry.node_type.spec:
                self._entries[name] = _Entry(node_type=fresh, remake=entry.remake)
                changed.append(name)
        return tuple(changed)


def add_builtin(registry: NodeRegistry, modules: Iterable[ModuleType]) -> None:
    """Register the `NODES` lists of the built-in modules. Raises: PluginError on a duplicate."""
    for module in modules:
        for function in module.NODES:
            registry.add(with_pack(node_type_of(function), BUILTIN_PACK))


def _pack_words(pack: str) -> str:
    return "the built-in nodes" if pack == BUILTIN_PACK else f"the pack {pack}"
