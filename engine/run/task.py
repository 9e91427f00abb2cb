"""What the executor works with: tasks, what it knows of node types, and the parts of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Protocol

from engine.api.context import RunContext
from engine.api.events import NodeRecord, RunEvent
from engine.api.node import Blocked, NodeOutput, NodeType
from engine.graph.catalogue import Catalogue
from engine.graph.prompt import Graph, Node
from engine.run.keys import RunKeys
from engine.run.loop import LoopThread
from engine.run.memory_cache import Result
from engine.run.reads import ReadFiles


class ResultStore(Protocol):
    """Where results are looked for and kept."""

    def find(self, key: str) -> tuple[Result, NodeRecord] | None:
        """A kept result and where it was."""
        ...

    def peek(self, key: str) -> NodeRecord | None:
        """Where a kept result is, without loading it."""
        ...

    def keep(self, key: str, result: Result, job_id: str) -> None: ...

    def drop(self, key: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the executor asks of a node type, looked up once per run."""

    node_type: NodeType
    inputs: frozenset[str]
    lazy: frozenset[str]
    raw: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expanded:
    """A call that gave a sub-graph: its result with links into it, and nodes with effects."""

    result: tuple[Any, ...]
    sinks: tuple[str, ...]
    ui: Mapping[str, Any] | None


@dataclass(slots=True, kw_only=True)
class Task:
    """A node between its first turn and its result."""

    node: Node
    kind: Kind
    display_id: str
    asked: set[str] = field(default_factory=set[str])  # lazy inputs that it needs
    calls: "list[NodeOutput | Expanded | Blocked]" = field(default_factory=list)
    watched: "dict[str, list[tuple[Any, int]]]" = field(default_factory=dict)
    is_expanded: bool = False
    started_s: float = 0.0
    seconds: float = 0.0  # of its own calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """An asynchronous node that ended."""

    task: Task
    results: list[NodeOutput | Blocked]
    error: BaseException | None
    lists: Mapping[str, list[Any]]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParts:
    """What one run works with."""

    job_id: str
    graph: Graph
    outputs: Sequence[str]
    catalogue: Catalogue
    find_type: Callable[[str], NodeType]
    keys: RunKeys
    reads: ReadFiles
    store: ResultStore
    make_context: Callable[[str, str, int], RunContext]  # node id, display id, number of the call
    emit: Callable[[RunEvent], None]
    is_cancelled: Callable[[], bool]
    free_memory: Callable[[], None]  # called when memory ran out
    completions: SimpleQueue[Completion | None]  # None wakes the run up, to see that it is over
    loop: LoopThread
    copying_types: set[str]  # node types that changed an input in place before


def kind_of(node_type: NodeType) -> Kind:
    """What the executor asks of a node type."""
    shown = [i for i in node_type.spec.inputs if i.kind != "hidden"]
    return Kind(
        node_type=node_type,
        inputs=frozenset(i.name for i in shown),
        lazy=frozenset(i.name for i in shown if i.is_lazy and node_type.check_lazy is not None),
        raw=frozenset(i.name for i in shown if i.is_raw_link),
    )
