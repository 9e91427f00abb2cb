"""One attempt of a job as the server follows it, and events in the order in which they are told."""

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from engine.api.events import (
    ErrorReport,
    JobFinished,
    JobStarted,
    LogLine,
    NodeFailed,
    NodeFinished,
    NodeRecord,
    NodesCached,
    NodeStarted,
    RunEvent,
)
from engine.run.bus import Bus, Event, slot_of
from engine.run.job import Json, Lease, Outcome

MAX_WAITING = 1000  # events behind an outcome that is not on the disk; then only lasting ones


@dataclass(slots=True, kw_only=True)
class JobRun:
    """What happened so far in a lease; becomes the job's outcome."""

    lease: Lease
    is_started: bool = False
    is_lost: bool = False  # cancelled, or leased to another worker: what it tells is dropped
    is_interrupted: bool = False
    is_recalled: bool = False
    is_overtaken: bool = False  # the worker was told
    started_ms: int = 0
    found_on_disk: int = 0
    running: dict[str, NodeStarted] = field(default_factory=dict[str, NodeStarted])
    records: dict[str, NodeRecord] = field(default_factory=dict[str, NodeRecord])
    results: dict[str, Json] = field(default_factory=dict[str, Json])
    owners: dict[str, str] = field(default_factory=dict[str, str])
    events: list[RunEvent] = field(default_factory=list[RunEvent])

    def take(self, event: RunEvent) -> None:
        """Note an event."""
        match event:
            case JobStarted():
                self.is_started, self.started_ms = True, event.timestamp_ms
                self.events.append(event)
            case NodesCached():
                self.records.update(event.records)
                self.found_on_disk += sum(r.state == "disk" for r in event.records.values())
                self.events.append(event)
            case NodeStarted():
                self.running[event.node_id] = event
            case NodeFinished():
                self._finished(event)
            case NodeFailed():
                self.running.pop(event.node_id, None)
                self.records[event.node_id] = NodeRecord(state="failed", reason=event.error.message)
                self.events.append(event)
            case JobFinished():
                self.events.append(event)
            case _:
                pass

    def _finished(self, event: NodeFinished) -> None:
        self.running.pop(event.node_id, None)
        self.records[event.node_id] = event.record
        if event.node_id != event.display_id:
            self.owners[event.node_id] = event.display_id
        if event.ui is not None:
            self.results[event.node_id] = dict(event.ui)

    @property
    def attempts(self) -> int:
        """The attempts that count, this one included: none before it that got further."""
        has_progress = self.found_on_disk > self.lease.progress
        return 1 if has_progress else self.lease.attempt + 1

    def outcome(self, finished: JobFinished) -> Outcome:
        """The outcome, after the last event."""
        return Outcome(
            state=finished.status,
            started_ms=self.started_ms or finished.timestamp_ms,
            ended_ms=finished.timestamp_ms,
            results=self.results,
            owners=self.owners,
            records=self.records,
            events=tuple(self.events),
        )

    def failure(self, error: ErrorReport) -> list[NodeFailed]:
        """What to tell of the nodes that ran when the worker was lost."""
        prompt = cast(dict[str, dict[str, Any]], json.loads(self.lease.prompt_text))
        return [
            NodeFailed(
                job_id=self.lease.job_id,
                node_id=node.node_id,
                display_id=node.display_id,
                node_type=str(prompt.get(node.display_id, {}).get("class_type", "")),
                error=error,
            )
            for node in list(self.running.values())
        ]


@dataclass(slots=True, eq=False)
class Hold:
    """A place in the order where everything after it waits."""

    events: Sequence[Event] = ()
    is_open: bool = False


class Outbox:
    """Publishes events in order; the end of a job, and all after it, once it is on the disk."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: deque[tuple[Event | Hold, str | None]] = deque()

    def post(self, event: Event, client_id: str | None) -> None:
        """Publish an event after what was posted before it; lines of the log wait for nothing."""
        if not self._waiting or isinstance(event, LogLine):
            self._bus.publish(event, client_id)
        elif len(self._waiting) < MAX_WAITING or slot_of(event) is None:
            self._waiting.append((event, client_id))

    def hold(self, client_id: str | None) -> Callable[[Sequence[Event]], None]:
        """Keep what follows back until the function that is returned is called with events."""
        hold = Hold()
        self._waiting.append((hold, client_id))

        def let_go(events: Sequence[Event]) -> None:
            hold.events, hold.is_open = events, True
            self._drain()

        return let_go

    def _drain(self) -> None:
        while self._waiting:
            item, client_id = self._waiting[0]
            if isinstance(item, Hold) and not item.is_open:
                return
            self._waiting.popleft()
            for event in item.events if isinstance(item, Hold) else (item,):
                self._bus.publish(event, client_id)
