"""What happens to jobs and nodes, as frozen values; numbered by the server's bus, not here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

NodeState = Literal["ran", "memory", "disk", "refused", "failed", "blocked"]
JobStatus = Literal["success", "error", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReport:
    """A failure as data: `code`, `message` and `hint` for people, the rest for pack authors."""

    code: str
    message: str
    hint: str = ""
    exception_type: str = ""
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """How one node got its result: `ran`, or taken from the `memory` or `disk` cache, and why.

    `reason` is plain text for people ("input text changed", "first run", "result was in memory").
    """

    state: NodeState
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted:
    job_id: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesCached:
    """Nodes whose results were found at the start of a run, all in one event."""

    job_id: str
    records: Mapping[str, NodeRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted:
    """`node_id` may come from an expansion (`10:3`); `display_id` is the user's node."""

    job_id: str
    node_id: str
    display_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProgress:
    """Transient: the newest wins."""

    job_id: str
    node_id: str
    display_id: str
    value: float
    maximum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePreview:
    """Transient: an encoded picture (`image/jpeg` or `image/png`) after a step, counted from 1."""

    job_id: str
    node_id: str
    display_id: str
    mime: str
    data: bytes
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeText:
    """Transient: a line of text that a running node shows."""

    job_id: str
    node_id: str
    display_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShown:
    """Transient: what a running node shows so far, in the form of `NodeFinished.ui`."""

    job_id: str
    node_id: str
    display_id: str
    ui: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFinished:
    """A node has its result; `ui` is what an output node shows ({"images": [...]} …)."""

    job_id: str
    node_id: str
    display_id: str
    record: NodeRecord
    ui: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFailed:
    job_id: str
    node_id: str
    display_id: str
    node_type: str
    error: ErrorReport
    inputs: Mapping[str, Any] = field(default_factory=dict)  # short texts of the input values


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished:
    """The end of a run. `error` is set when no single node is to blame."""

    job_id: str
    status: JobStatus
    timestamp_ms: int
    error: ErrorReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobGaveWay:
    """A run stopped for jobs that go before it; its job waits again and goes on after them."""

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """Transient: a line of the worker's log."""

    text: str
    level: str = "info"


RunEvent = (
    JobStarted
    | NodesCached
    | NodeStarted
    | NodeProgress
    | NodePreview
    | NodeText
    | NodeShown
    | NodeFinished
    | NodeFailed
    | JobFinished
    | JobGaveWay
    | LogLine
)
