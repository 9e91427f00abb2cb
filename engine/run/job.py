"""A job as the queue keeps it, and what goes in and comes out; plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.api.errors import EngineError
from engine.api.events import NodeRecord, RunEvent

JobState = Literal["pending", "running", "success", "error", "interrupted", "cancelled"]
EndState = Literal["success", "error", "interrupted"]
Json = dict[str, Any]

HISTORY: tuple[JobState, ...] = ("success", "error", "interrupted")


class Conflict(EngineError):
    """The id or idempotency key is already taken by a job with another body."""

    code = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A checked prompt on its way into the queue.

    `outputs` are the output nodes to run; `records` those that were refused. A missing `job_id` is
    made up; a missing `number` is the next one, negative with `front`.
    """

    prompt: Mapping[str, Any]
    outputs: Sequence[str]
    extra_data: Mapping[str, Any] = field(default_factory=dict)
    client_id: str | None = None
    job_id: str | None = None
    idempotency_key: str | None = None
    number: float | None = None
    front: bool = False
    records: Mapping[str, NodeRecord] = field(default_factory=dict)
    refusals: Mapping[str, Any] = field(default_factory=dict)  # `node_errors` of the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The answer to a submission; `is_new` is False when the same job was there already."""

    job_id: str
    number: float
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A worker's right to one job. `token` fences: a finish with an old token changes nothing."""

    job_id: str
    token: int
    attempt: int  # attempts that counted before this one
    progress: int  # nodes that were found on disk at the start of the attempt before
    prompt_text: str
    extra_text: str
    outputs: tuple[str, ...]
    client_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended. `results` is the `ui` per node, `owners` the user's node of inner ones.

    `events` are JobStarted, NodesCached, NodeFailed and JobFinished, in their order.
    """

    state: EndState
    started_ms: int
    ended_ms: int
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    records: Mapping[str, NodeRecord] = field(default_factory=dict)
    events: Sequence[RunEvent] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job with everything known of it.

    `results` maps nodes to their `ui`, `owners` nodes of an expansion to the user's node,
    `records` says how each node got its result, `events` tells the run (JobStarted, NodesCached,
    NodeFailed, JobFinished). Units: milliseconds since 1970.
    """

    id: str
    number: float
    state: JobState
    client_id: str | None
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    attempt: int
    prompt: Json
    extra_data: Json
    outputs: tuple[str, ...]
    results: Mapping[str, Json]
    owners: Mapping[str, str]
    records: Mapping[str, NodeRecord]
    refusals: Json
    events: tuple[RunEvent, ...]

    @property
    def is_partial(self) -> bool:
        """Some outputs were refused and the others ran."""
        return bool(self.refusals)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs to list, and in which order."""

    states: Sequence[JobState] = ()  # empty = all
    sort: Literal["created", "duration"] = "created"
    descending: bool = True
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A slice of the jobs that match, and how many match in all."""

    jobs: tuple[Job, ...]
    total: int
