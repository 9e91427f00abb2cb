"""Events on their way to clients: numbered state events that can be had again, and transient ones.

State events stand in one ring that all subscribers read at their own pace, so that none can delay
another. Of transient events each subscriber keeps the newest per slot.
"""

import asyncio
import secrets
from dataclasses import dataclass
from typing import Literal

from engine.api.events import LogLine, NodePreview, NodeProgress, NodeShown, NodeText, RunEvent

RING_SIZE = 1 << 14
LOG_SLOTS = 256  # log lines that wait for one subscriber
Position = tuple[str, int]
WorkerPhase = Literal["starting", "ready", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQueued:
    """A job was accepted."""

    job_id: str
    number: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRemoved:
    """A waiting job was cancelled, or a job was deleted from the history."""

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """Transient: how many jobs wait or run, and whether the queue is paused."""

    remaining: int
    is_paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerChanged:
    """The worker starts, is ready, or stopped; `message` says why in words."""

    phase: WorkerPhase
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueChanged:
    """Node types or packs changed; clients that show them ask again."""


Event = RunEvent | JobQueued | JobRemoved | QueueStatus | WorkerChanged | CatalogueChanged


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """An event as subscribers get it.

    `client_id` is the client that submitted the job; None concerns everybody. `seq` numbers state
    events from 1; a transient event has the number of the state event that it came after.
    """

    event: Event
    client_id: str | None
    seq: int
    is_transient: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Everything that waited, in order. `is_gap`: state events before these were lost to this
    subscriber, who needs a snapshot of the state first."""

    events: tuple[Posted, ...]
    is_gap: bool = False


class Bus:
    """Numbers and keeps events. All methods belong to the event loop's thread."""

    def __init__(self, *, size: int = RING_SIZE) -> None:
        self.epoch = secrets.token_hex(4)
        self._ring: list[Posted | None] = [None] * size
        self._last = 0
        self._log_lines = 0
        self._subscriptions: set[Subscription] = set()

    @property
    def position(self) -> Position:
        """The place after the newest state event."""
        return self.epoch, self._last

    def publish(self, event: Event, client_id: str | None = None) -> None:
        """Send an event to everyone who subscribed; never waits."""
        if isinstance(event, LogLine):
            self._log_lines += 1
            slot = f"log {self._log_lines % LOG_SLOTS}"
        else:
            slot = slot_of(event)
        if slot is None:
            self._last += 1
        posted = Posted(
            event=event, client_id=client_id, seq=self._last, is_transient=slot is not None
        )
        if slot is None:
            self._ring[self._last % len(self._ring)] = posted
        for subscription in self._subscriptions:
            subscription.offer(posted, slot)

    def subscribe(
        self, *, client_id: str | None = None, after: Position | None = None
    ) -> "Subscription":
        """Everything from now on, or from `after` on, that concerns `client_id` (None = all).

        A position of another epoch or one that has expired makes the first batch a gap.
        """
        start, is_gap = self._last, False
        if after is not None:
            epoch, seq = after
            is_gap = epoch != self.epoch or not 0 <= seq <= self._last or self.is_lost(seq)
            start = self._last if is_gap else seq
        subscription = Subscription(self, client_id, start, is_gap=is_gap)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: "Subscription") -> None:
        self._subscriptions.discard(subscription)

    def is_lost(self, seq: int) -> bool:
        """Whether state events after `seq` are gone from the ring."""
        return self._last - seq > len(self._ring)

    def after(self, seq: int) -> list[Posted]:
        """The state events after `seq`; they must not be lost."""
        size = len(self._ring)
        found = (self._ring[i % size] for i in range(seq + 1, self._last + 1))
        return [posted for posted in found if posted is not None]


class Subscription:
    """One reader of the bus: a place in the ring and the newest transient events."""

    def __init__(self, bus: Bus, client_id: str | None, start: int, *, is_gap: bool) -> None:
        self._bus = bus
        self._client_id = client_id
        self._seq = start
        self._is_gap = is_gap
        self._transient: dict[str, Posted] = {}
        self._wake = asyncio.Event()
        if is_gap or start < bus.position[1]:
            self._wake.set()

    async def next(self) -> Batch:
        """Wait for events and take all that are there."""
        while True:
            await self._wake.wait()
            batch = self.take()
            if batch.events or batch.is_gap:
                return batch

    def take(self) -> Batch:
        """What is there now, perhaps nothing."""
        self._wake.clear()
        is_gap = self._is_gap or self._bus.is_lost(self._seq)
        state = [] if is_gap else [p for p in self._bus.after(self._seq) if self._wants(p)]
        self._seq, self._is_gap = self._bus.position[1], False
        if not self._transient:
            return Batch(events=tuple(state), is_gap=is_gap)
        events = [*state, *self._transient.values()]
        self._transient.clear()
        events.sort(key=lambda posted: (posted.seq, posted.is_transient))
        return Batch(events=tuple(events), is_gap=is_gap)

    def offer(self, posted: Posted, slot: str | None) -> None:
        """Take notice of a new event; the bus calls this."""
        if not self._wants(posted):
            if slot is None and self._seq == posted.seq - 1:
                self._seq = posted.seq  # so that what concerns others never makes a gap here
            return
        if slot is not None:
            self._transient.pop(slot, None)
            self._transient[slot] = posted
        self._wake.set()

    def close(self) -> None:
        """No more events; may be called twice."""
        self._bus.unsubscribe(self)

    def _wants(self, posted: Posted) -> bool:
        return self._client_id is None or posted.client_id in (None, self._client_id)


def slot_of(event: Event) -> str | None:
    """Where a transient event replaces the one before; None for state events."""
    match event:
        case NodeProgress():
            return f"progress {event.job_id} {event.node_id}"
        case NodePreview():
            return f"preview {event.job_id} {event.node_id} {event.step}"  # each step is kept
        case NodeText():
            return f"text {event.job_id} {event.node_id}"
        case NodeShown():
            return f"shown {event.job_id} {event.node_id}"
        case QueueStatus():
            return "status"
        case _:
            return None
