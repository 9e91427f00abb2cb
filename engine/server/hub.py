"""The events of the bus become messages once, and go to the clients that they concern."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.api.events import (
    JobFinished,
    JobGaveWay,
    JobStarted,
    LogLine,
    NodePreview,
    RunEvent,
)
from engine.run.bus import (
    Batch,
    CatalogueChanged,
    JobQueued,
    JobRemoved,
    Posted,
    QueueStatus,
    WorkerChanged,
)
from engine.server.connection import Connection, encode_frame
from engine.server.films import Films
from engine.server.services import Services
from engine.server.wire import JobView, Message, logs_message, status_message

Json = dict[str, Any]

log = logging.getLogger("weft.server")

STATE_EVERY_S = 0.1  # between two progress_state messages of a job
KEPT_BYTES = 8 * 1024 * 1024  # of state messages, for clients that come back
KEPT_LOG_LINES = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """A state message that a client that was away can still get.

    `is_public` ones concern everybody, others the job of `client_id` (None: of no client).
    """

    seq: int
    client_id: str | None
    is_public: bool
    frame: bytes


class Hub:
    """All connections. Converts each event once, whatever the number of clients."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._bus = services.bus
        self.connections: set[Connection] = set()
        self._by_client: dict[str, set[Connection]] = {}
        self._views: dict[str, JobView] = {}
        self._state_due: dict[str, float] = {}
        self._kept: deque[Kept] = deque()
        self._kept_bytes = 0
        self._forgotten = 0  # the newest number that is no longer kept
        self._seq = 0
        self._task: asyncio.Task[None] | None = None
        self.films = Films()
        self.log_lines: deque[tuple[str, str]] = deque(maxlen=KEPT_LOG_LINES)
        self.sent = 0

    async def start(self) -> None:
        """Follow the bus from its beginning."""
        self._task = asyncio.create_task(self._follow(), name="weft-hub")

    async def close_clients(self) -> None:
        """Let every client go."""
        await asyncio.gather(*(connection.close() for connection in self.connections))

    async def stop(self) -> None:
        """Stop following the bus."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    # From the bus to the clients ----------------------------------------------------------------

    async def _follow(self) -> None:
        subscription = self._bus.subscribe(after=(self._bus.epoch, 0))
        try:
            while True:
                due = min(self._state_due.values(), default=None)
                wait_s = None if due is None else max(0.0, due - time.monotonic())
                batch = Batch(events=())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        batch = await subscription.next()
                self._take(batch)
                await asyncio.sleep(0)
        finally:
            subscription.close()

    def _take(self, batch: Batch) -> None:
        if batch.is_gap:
            self._forget_all()
        for posted in batch.events:
            try:
                self._convert(posted)
            except Exception:  # seam: one odd event must not silence the server for everybody
                log.exception("An event could not be told: %s", posted.event)
        self._send_due_states()

    def _forget_all(self) -> None:
        """Events were lost here: everyone starts again from a snapshot."""
        self._kept.clear()
        self._kept_bytes = 0
        self._views.clear()
        self._state_due.clear()
        self._seq = self._forgotten = self._bus.position[1]
        for connection in self.connections:
            self.catch_up(connection)

    def _convert(self, posted: Posted) -> None:
        event = posted.event
        match event:
            case LogLine():
                self._log(event)
                return
            case QueueStatus():
                self._send([status_message(event.remaining)], posted, self.connections)
            case JobRemoved():
                self._views.pop(event.job_id, None)
                self.films.drop(event.job_id)
                data = {"prompt_id": event.job_id}
                self._send([Message(type="weft_removed", data=data)], posted, self.connections)
            case WorkerChanged():
                data = {"phase": event.phase, "message": event.message}
                self._send([Message(type="weft_worker", data=data)], posted, self.connections)
            case CatalogueChanged():
                self._send([Message(type="weft_catalogue", data={})], posted, self.connections)
            case JobQueued():
                pass  # the status that follows says so
            case _:
                messages = self._job_messages(event, posted.client_id)
                targets = self._followers_of(posted.client_id)
                self._send(messages, posted, targets, is_public=False)
        if not posted.is_transient:
            self._seq = posted.seq

    def _followers_of(self, client_id: str | None) -> Collection[Connection]:
        """Who is told of a client's jobs: its own connections, and those that follow all."""
        return [c for c in self.connections if c.follows(client_id)]

    def _job_messages(self, event: RunEvent, client_id: str | None) -> list[Message]:
        assert not isinstance(event, LogLine)
        if isinstance(event, NodePreview):
            self.films.add(event)
        elif isinstance(event, JobStarted):
            self.films.drop(event.job_id)  # what an attempt before it showed
        view = self._views.get(event.job_id)
        if view is None or isinstance(event, JobStarted):
            view = self._views[event.job_id] = JobView(event.job_id, client_id)
        messages = view.messages(event)
        if isinstance(event, JobFinished | JobGaveWay):
            del self._views[event.job_id]
            self._state_due.pop(event.job_id, None)
        elif view.changed and event.job_id not in self._state_due:
            self._state_due[event.job_id] = time.monotonic() + STATE_EVERY_S
        return messages

    def _send(
        self,
        messages: Sequence[Message],
        posted: Posted,
        targets: Collection[Connection],
        *,
        is_public: bool = True,
    ) -> None:
        """Send the messages of one event; the last one carries its number."""
        for index, message in enumerate(messages):
            if message.binary is not None:
                self._send_binary(message, targets)
            elif posted.is_transient:
                self._push(message, targets)
            else:
                is_last = index == len(messages) - 1
                frame = encode_frame(message.encode(posted.seq if is_last else None))
                self._keep(Kept(posted.seq, posted.client_id, is_public, frame))
                for connection in targets:
                    connection.push(frame)
                self.sent += len(targets)

    def _keep(self, kept: Kept) -> None:
        self._kept.append(kept)
        self._kept_bytes += len(kept.frame)
        while self._kept_bytes > KEPT_BYTES:
            oldest = self._kept.popleft()
            self._kept_bytes -= len(oldest.frame)
            self._forgotten = oldest.seq

    def _push(self, message: Message, targets: Collection[Connection]) -> None:
        """Send a message that nobody needs later."""
        if targets:
            frame = encode_frame(message.encode())
            for connection in targets:
                connection.push(frame, message.slot)
            self.sent += len(targets)

    def _send_binary(self, message: Message, targets: Collection[Connection]) -> None:
        assert message.binary is not None and message.legacy is not None
        framed = encode_frame(message.binary, is_binary=True)
        plain = encode_frame(message.legacy, is_binary=True)
        for connection in targets:
            connection.push(framed if connection.supports_metadata else plain, message.slot)
        self.sent += len(targets)

    def _send_due_states(self) -> None:
        now = time.monotonic()
        for job_id in [j for j, due in self._state_due.items() if due <= now]:
            del self._state_due[job_id]
            view = self._views.get(job_id)
            if view is not None and view.changed:
                self._push(view.progress_state(), self._followers_of(view.client_id))

    def _log(self, event: LogLine) -> None:
        line = (time.strftime("%Y-%m-%dT%H:%M:%S"), event.text)
        self.log_lines.append(line)
        self._push(logs_message([line]), [c for c in self.connections if c.wants_logs])

    def want_logs(self, client_id: str, *, wants: bool) -> None:
        """Send the log to a client, or no longer."""
        for connection in self._by_client.get(client_id, ()):
            connection.wants_logs = wants

    # Clients ------------------------------------------------------------------------------------

    def add(self, connection: Connection, after: str | None) -> None:
        """Let a client in: first its `status`, then what it missed or the state of its jobs."""
        self.connections.add(connection)
        self._by_client.setdefault(connection.client_id, set()).add(connection)
        first = status_message(
            self._services.queue.remaining, sid=connection.client_id, epoch=self._bus.epoch
        )
        connection.push(encode_frame(first.encode(self._seq)))
        missed = None if after is None else self._missed(connection, after)
        if missed is not None:
            for kept in missed:
                connection.push(kept.frame)
        elif after is not None:
            self._push_snapshot(connection)
        self._push_running(connection)

    def catch_up(self, connection: Connection) -> None:
        """Send the state to a client that could not be sent everything."""
        self._push_snapshot(connection)
        self._push_running(connection)

    def remove(self, connection: Connection) -> None:
        """Forget a client that is gone."""
        self.connections.discard(connection)
        same = self._by_client.get(connection.client_id, set())
        same.discard(connection)
        if not same:
            self._by_client.pop(connection.client_id, None)

    def _missed(self, connection: Connection, after: str) -> Iterator[Kept] | None:
        """The messages after a position, or None when they are no longer all there."""
        epoch, _, text = after.partition(":")
        seq = int(text) if text.isdecimal() and len(text) < 16 else -1
        if epoch != self._bus.epoch or not self._forgotten <= seq <= self._seq:
            return None
        newer = (kept for kept in self._kept if kept.seq > seq)
        return (k for k in newer if k.is_public or connection.follows(k.client_id))

    def _push_snapshot(self, connection: Connection) -> None:
        """The whole state, for a client that missed too much."""
        queue = self._services.queue
        own = [v for v in self._views.values() if connection.follows(v.client_id)]
        data: Json = {
            "epoch": self._bus.epoch,
            "exec_info": {"queue_remaining": queue.remaining},
            "paused": queue.is_paused,
            "running": list(queue.running_ids),
            "pending": list(queue.pending_ids),
            "jobs": {v.job_id: v.progress_state(is_whole=True).data["nodes"] for v in own},
        }
        connection.push(encode_frame(Message(type="weft_snapshot", data=data).encode(self._seq)))

    def _push_running(self, connection: Connection) -> None:
        """Which node of the followed jobs runs now; what a client that comes back asks first."""
        for view in self._views.values():
            node = view.nodes.get(view.current or "")
            if not connection.follows(view.client_id) or node is None:
                continue
            connection.push(encode_frame(view.cached().encode()))
            connection.push(encode_frame(view.executing(node.node_id, node.display_id).encode()))
            connection.push(encode_frame(view.progress_state(is_whole=True).encode()))
            if node.shown is not None:
                connection.push(encode_frame(view.shown(node).encode()))
