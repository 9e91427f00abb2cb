"""What to run next: only what the outputs need, each node after the nodes it waits for.

A `Plan` knows no values and no caches. Invariants: a node is waiting (with the number of unfinished
nodes it waits for), ready (in the heap), running (handed out by `next_ready`) or done; a node is
handed out only when everything it waits for is done.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

from engine.api.errors import GraphInvalid, Problem
from engine.graph.catalogue import Catalogue
from engine.graph.prompt import Graph, Input, Link, Node, parse_prompt, shorten
from engine.graph.walk import walk

_LONG_ID = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """The nodes of a sub-graph that joined a plan; `ids` maps the ids it used to the plan's."""

    ids: Mapping[str, str]


class Plan:
    """The order in which the nodes of one run are executed; changes while nodes run.

    `has_result(node_id)` tells, once per node, which nodes need not run: they count as done, and
    what only they need is left out. Each node and link costs O(1) to O(log n).
    """

    def __init__(
        self,
        graph: Graph,
        catalogue: Catalogue,
        outputs: Iterable[str],
        *,
        has_result: Callable[[str], bool] | None = None,
    ) -> None:
        self.graph = Graph(nodes=dict(graph.nodes))
        self._catalogue = catalogue
        self._has_result = has_result or _never
        self._open: dict[str, int] = {}  # waiting nodes: how many others they wait for
        self._waiters: dict[str, list[str]] = {}
        self._ready: list[tuple[int, str]] = []
        self._rank: dict[str, int] = {}
        self._lowest_rank = 0
        self._done: set[str] = set()
        self._known: set[str] = set()
        self._parent: dict[str, str] = {}
        self._display: dict[str, str] = {}
        self._admit(outputs)

    @property
    def is_finished(self) -> bool:
        return len(self._known) == len(self._done)

    def is_done(self, node_id: str) -> bool:
        return node_id in self._done

    def display_id(self, node_id: str) -> str:
        """The user's node that a node belongs to: itself, or the one that was expanded."""
        return self._display.get(node_id, node_id)

    def parent_id(self, node_id: str) -> str | None:
        """The node whose expansion brought this one in."""
        return self._parent.get(node_id)

    def next_ready(self) -> str | None:
        """Hand out the next node that can run; None when all others wait for running ones."""
        return heappop(self._ready)[1] if self._ready else None

    def mark_done(self, node_id: str) -> None:
        """The node has its result: whoever waits for it may go on."""
        if node_id in self._done:
            return
        self._done.add(node_id)
        for waiter in self._waiters.pop(node_id, ()):
            self._one_less(waiter)

    def mark_failed(self, node_id: str, survives: Callable[[str], bool]) -> tuple[str, ...]:
        """The node gives no result: it and those that are lost with it, which never run.

        A node that `survives` goes on as if what it waited for were there.
        """
        lost = {node_id: None}
        queue = [node_id]
        while queue:
            for waiter in self._waiters.pop(queue.pop(), ()):
                if survives(waiter):
                    self._one_less(waiter)
                elif waiter not in lost:
                    lost[waiter] = None
                    queue.append(waiter)
        return tuple(lost)

    def _one_less(self, waiter: str) -> None:
        self._open[waiter] -= 1
        if not self._open[waiter]:
            del self._open[waiter]
            heappush(self._ready, (self._rank[waiter], waiter))

    def require(self, node_id: str, inputs: Iterable[str]) -> None:
        """A running node needs these lazy inputs: it is handed out again when they are there."""
        values = self.graph.nodes[node_id].inputs
        links = [values.get(name) for name in inputs]
        self.wait_for(node_id, [v.node_id for v in links if type(v) is Link])

    def wait_for(self, node_id: str, needed: Iterable[str]) -> None:
        """A running node waits for these nodes, which join the run if they are not in it yet."""
        wanted = list(dict.fromkeys(needed))
        self._admit(wanted)
        self._await(node_id, wanted)

    def expand(self, node_id: str, prompt: object, *, call: int = 0) -> Expansion:
        """Add the sub-graph (API form) that a running node returned; `call` numbers its calls.

        Its nodes get ids below the node's own (`10.0.1`), links to nodes outside stay. They run
        once somebody waits for them.
        Raises: GraphInvalid.
        """
        added = parse_prompt(prompt)
        own, prefix = f"{node_id}.", self._prefix(node_id)
        ids = {
            i: prefix + i.removeprefix(own) if i.startswith(own) else f"{prefix}{call}.{i}"
            for i in added.nodes
        }
        problems = self._problems_of(added, ids, node_id)
        if problems:
            raise GraphInvalid(
                f"Node {self.graph.label(node_id)} expands into a sub-graph that cannot run: "
                f"{problems[0].message}",
                problems=problems,
                code=problems[0].code,
            )
        for inner, node in added.nodes.items():
            new_id = ids[inner]
            inputs = {n: _renamed(v, ids) for n, v in node.inputs.items()}
            self.graph.nodes[new_id] = Node(
                id=new_id, class_type=node.class_type, inputs=inputs, meta=node.meta, raw=node.raw
            )
            self._parent[new_id] = node_id
            self._display[new_id] = self._shown_on(node, node_id)
        return Expansion(ids=ids)

    def _prefix(self, node_id: str) -> str:
        """The start of the ids of an expansion; deep ones (loops) are shortened by a digest."""
        if len(node_id) <= _LONG_ID:
            return f"{node_id}."
        root = self.display_id(node_id)[:_LONG_ID]
        return f"{root}.~{hashlib.sha256(node_id.encode()).hexdigest()[:16]}."

    def _shown_on(self, node: Node, expanded: str) -> str:
        """Where an expanded node is shown: the user's node, or another one that it names."""
        override = node.raw.get("override_display_id")
        if isinstance(override, str) and override in self.graph.nodes:
            return self.display_id(override)
        return self.display_id(expanded)

    def blocked_by(self) -> tuple[str, ...]:
        """When nothing is ready or running: a circle of nodes that wait for each other.

        Only an expansion can make one in a graph that was validated. () when there is none.
        """
        waits_for = {w: node_id for node_id, waiters in self._waiters.items() for w in waiters}
        seen: dict[str, str] = {}
        for start in waits_for:
            path: list[str] = []
            step: str | None = start
            while step is not None and step not in seen:
                seen[step] = start
                path.append(step)
                step = waits_for.get(step)
            if step is not None and seen[step] == start:
                return (*path[path.index(step) :], step)
        return ()

    def _admit(self, roots: Iterable[str]) -> None:
        """Bring nodes and all they need into the run, before those that already wait."""
        order = walk(self.graph, roots, self._not_followed).order
        joined = [i for i in order if i not in self._known]
        self._known.update(joined)
        self._lowest_rank -= len(joined)
        for rank, node_id in enumerate(joined, self._lowest_rank):
            self._rank[node_id] = rank
            if node_id not in self._done:
                node = self.graph.nodes[node_id]
                skip = self._deferred(node)
                links = ((n, v) for n, v in node.inputs.items() if type(v) is Link)
                self._await(node_id, {v.node_id: None for n, v in links if n not in skip})

    def _not_followed(self, node: Node) -> Collection[str]:
        """The inputs by which no further node joins: deferred ones, all where there is a result."""
        if node.id in self._known:
            return node.inputs
        if node.id not in self._done and self._has_result(node.id):
            self._done.add(node.id)
        return node.inputs if node.id in self._done else self._deferred(node)

    def _deferred(self, node: Node) -> Collection[str]:
        entry = self._catalogue.entry(node.class_type)
        return entry.deferred if entry else ()

    def _await(self, node_id: str, wanted: Iterable[str]) -> None:
        count = 0
        for other in wanted:
            if other not in self._done:
                self._waiters.setdefault(other, []).append(node_id)
                count += 1
        if count:
            self._open[node_id] = count
        else:
            heappush(self._ready, (self._rank[node_id], node_id))

    def _problems_of(self, added: Graph, ids: Mapping[str, str], node_id: str) -> list[Problem]:
        """What keeps a sub-graph from joining: taken ids, unknown types, links into nothing."""
        problems: list[Problem] = []

        def add(code: str, message: str, node: Node) -> None:
            problems.append(
                Problem(code=code, message=message, node_id=node_id, node_type=node.class_type)
            )

        for inner, node in added.nodes.items():
            if ids[inner] in self.graph.nodes:
                add("invalid_prompt", f"The id {shorten(ids[inner])} is taken.", node)
            if node.class_type not in self._catalogue:
                add("missing_node_type", f"{shorten(node.class_type)} is no node type.", node)
            for name, value in node.inputs.items():
                if type(value) is Link and not (
                    value.node_id in ids or value.node_id in self.graph.nodes
                ):
                    text = f"Input {name} of {node.label} is linked to no node."
                    add("bad_linked_input", text, node)
        return problems


def _renamed(value: Input, ids: Mapping[str, str]) -> Input:
    if type(value) is Link:
        return Link(ids.get(value.node_id, value.node_id), value.index)
    return value


def _never(_node_id: str) -> bool:
    return False
