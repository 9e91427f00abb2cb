"""The cache keys of one run's nodes, and why a node has to run, compared with runs before."""

import contextlib
import json
import os
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from engine.api.errors import GraphInvalid
from engine.graph.fingerprint import Fingerprinter, Key, explain
from engine.graph.prompt import Graph, Node
from engine.graph.walk import Walk, walk
from engine.run.reads import Reads

_REMEMBERED = 20_000
_STORED = 2_000


class PastKeys:
    """What the keys of nodes were made from when they were last part of a run.

    With a `path` the newest are still known after a restart; reasons get by without that file.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._parts: OrderedDict[tuple[str, str], str] = OrderedDict()
        with contextlib.suppress(OSError, ValueError, TypeError):
            stored = json.loads(path.read_bytes()) if path else ()
            self._parts.update(((str(i), str(kind)), str(parts)) for i, kind, parts in stored)

    def parts_of(self, node: Node) -> str | None:
        return self._parts.get((node.id, node.class_type))

    def remember(self, node: Node, parts: str) -> None:
        """Keep the parts of a node's key; the oldest are forgotten."""
        place = (node.id, node.class_type)
        self._parts[place] = parts
        self._parts.move_to_end(place)
        if len(self._parts) > _REMEMBERED:
            self._parts.popitem(last=False)

    def save(self) -> None:
        """Store the newest; what cannot be stored is only a reason less."""
        if self._path is None:
            return
        newest = [(*place, parts) for place, parts in self._parts.items()][-_STORED:]
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(newest), encoding="utf-8")
            temporary.replace(self._path)


class RunKeys:
    """The keys of the nodes that `outputs` need, and of the nodes that expansions add.

    `order` holds the needed nodes of the prompt, sources first.
    Raises: GraphInvalid when nodes link to themselves in a circle, or to nodes that are not there.
    """

    def __init__(
        self, graph: Graph, outputs: Iterable[str], maker: Fingerprinter, past: PastKeys
    ) -> None:
        self._graph = graph
        self._maker = maker
        self._past = past
        self._keys: dict[str, Key] = {}
        self._replaced: dict[str, str] = {}  # nodes whose kept result no longer counts, and why
        self.order = self._order(walk(graph, outputs))
        self._make(self.order)

    def of(self, node_id: str) -> str:
        """The key of a node's result."""
        return self._keys[node_id].key

    def add(self, graph: Graph, needed: Iterable[str]) -> None:
        """Make the keys of nodes that `needed` ones need; `graph` holds the expanded nodes too."""
        self._graph = graph
        found = walk(graph, needed, lambda n: n.inputs if n.id in self._keys else ())
        self._make(self._order(found))

    def is_current(self, node_id: str, reads: Reads) -> bool:
        """Whether the files that a kept result was made of are as they were."""
        for (folder, name), digest in reads.items():
            if self._maker.digest_of(folder, name) != digest:
                self._replaced[node_id] = f"{name} in {folder} changed, which was read"
                return False
        return True

    def is_as_before(self, node_id: str) -> bool:
        """Whether a node's key is that of the last run that needed it."""
        return self._past.parts_of(self._graph.nodes[node_id]) == self._keys[node_id].parts

    def reason(self, node_id: str) -> str:
        """Why a node has to run, in words."""
        if node_id in self._replaced:
            return self._replaced[node_id]
        node = self._graph.nodes[node_id]
        return explain(self._past.parts_of(node), self._keys[node_id].parts, node, self._graph)

    def remember(self) -> None:
        """Keep what the keys were made from, for the reasons of later runs."""
        for node_id, key in self._keys.items():
            self._past.remember(self._graph.nodes[node_id], key.parts)

    def _order(self, found: Walk) -> tuple[str, ...]:
        if found.cycles:
            circle = " → ".join(self._graph.label(node_id) for node_id in found.cycles[0][:12])
            raise GraphInvalid(f"The graph has a circle: {circle}.", code="dependency_cycle")
        return found.order

    def _make(self, order: Iterable[str]) -> None:
        for node_id in order:
            if node_id in self._keys:
                continue
            node = self._graph.nodes[node_id]
            try:
                self._keys[node_id] = self._maker.key_of(node, self._keys)
            except KeyError as error:
                raise GraphInvalid(
                    f"{node.label} links to node {error.args[0]}, which is not there.",
                    code="bad_linked_input",
                ) from error
