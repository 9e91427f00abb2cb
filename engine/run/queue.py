"""The durable queue: every accepted job is on the disk before its submitter hears of it.

Order, leases and running jobs are kept in memory, so that nothing here blocks the event loop;
prompts, results and the history are read from the database beside it. All methods belong to the
event loop's thread.
"""

import asyncio
import hashlib
import json
import math
import time
import uuid
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.api.errors import EngineError
from engine.run import job_rows, jobs_schema
from engine.run.bus import Event, JobQueued, JobRemoved, QueueStatus
from engine.run.database import Database
from engine.run.job import (
    Conflict,
    Job,
    JobFilter,
    Json,
    Lease,
    Outcome,
    Page,
    Submission,
    Ticket,
)

LEASE_S = 30.0
MAX_KEPT_BYTES = 64 << 20  # texts of waiting prompts in memory; beyond it they are read again

Place = tuple[float, int, str]  # number, order of arrival, id


class UnknownJob(EngineError):
    """No job of that id is in the state that was asked for."""

    code = "unknown_job"


@dataclass(slots=True, kw_only=True)
class _Live:
    """A job that waits or runs."""

    place: Place
    client_id: str | None
    attempt: int
    progress: int
    lease_no: int
    texts: job_rows.Texts | None
    is_started: bool = False
    expires_s: float = 0.0


class JobQueue:
    """Jobs in order, durable; `publish(event, client id)` hears of what changes."""

    def __init__(
        self,
        path: Path,
        publish: Callable[[Event, str | None], None] = lambda _event, _client_id: None,
        *,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = Database(path, jobs_schema.prepare)
        self._publish = publish
        self._lease_s = lease_s
        self._clock = clock
        self._live: dict[str, _Live] = {}
        self._held: dict[str, _Live] = {}  # those of them that a worker holds
        self._waiting: list[Place] = []
        self._kept_bytes = 0
        self._next_number = 1
        self._arrivals = 0
        self._is_paused = False
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Open the database; jobs that were running wait again. Raises: LaunchError."""
        await self._database.open()
        state = await self._database.write(job_rows.restore)
        self._next_number, self._is_paused = state.next_number, state.is_paused
        for row in state.waiting:
            place = (row.number, row.seq, row.id)
            self._arrivals = max(self._arrivals, row.seq)
            self._live[row.id] = _Live(
                place=place,
                client_id=row.client_id,
                attempt=row.attempt,
                progress=row.progress,
                lease_no=row.lease_no,
                texts=None,
            )
            self._waiting.append(place)
        self._waiting.sort()
        self._changed.set()

    async def stop(self) -> None:
        """Write what is left and close the database."""
        await self._database.close()

    # Coming in ----------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> Ticket:
        """Accept a job; when this returns it is on the disk.

        Raises: Conflict (the id or key is taken by another body), StorageError, EngineError for an
        id, key or number that cannot be kept.
        """
        _check(submission)
        number = submission.number
        if number is None:
            number = float(-self._next_number if submission.front else self._next_number)
            self._next_number += 1
        is_named = submission.job_id is not None or submission.idempotency_key is not None
        texts = job_rows.texts_of(submission)
        row = job_rows.NewRow(
            id=submission.job_id or str(uuid.uuid4()),
            number=number,
            client_id=submission.client_id,
            idempotency_key=submission.idempotency_key,
            body_digest=_digest(submission) if is_named else "",
            created_ms=now_ms(),
            texts=texts,
            refusals=job_rows.text_of(submission.refusals),
            records=job_rows.records_text(submission.records),
        )
        added = await self._database.write(lambda c: job_rows.add(c, row))
        if not added.is_new:
            if added.body_digest != row.body_digest or not row.body_digest:
                raise Conflict(
                    f"The job {added.id} exists already, with another body.",
                    hint="Send the same body again, or another prompt_id.",
                )
            return Ticket(job_id=added.id, number=added.number, is_new=False)
        self._add(row, added.seq)
        return Ticket(job_id=row.id, number=number, is_new=True)

    def _add(self, row: job_rows.NewRow, seq: int) -> None:
        live = _Live(
            place=(row.number, seq, row.id),
            client_id=row.client_id,
            attempt=0,
            progress=0,
            lease_no=0,
            texts=None,
        )
        if self._kept_bytes + row.texts.size <= MAX_KEPT_BYTES:
            live.texts = row.texts
            self._kept_bytes += row.texts.size
        self._live[row.id] = live
        insort(self._waiting, live.place)
        self._publish(JobQueued(job_id=row.id, number=row.number), row.client_id)
        self._notice()

    # Leases -------------------------------------------------------------------------------------

    async def lease(self) -> Lease | None:
        """The right to the next job, or None when nothing waits or the queue is paused."""
        self._reclaim()
        if self._is_paused or not self._waiting:
            return None
        place = self._waiting.pop(0)
        live = self._held[place[2]] = self._live[place[2]]
        live.expires_s = self._clock() + self._lease_s
        try:
            texts = live.texts or await self._read_texts(place[2])
        except BaseException:  # also when the one who asks is cancelled: nobody else would know
            if self._held.get(place[2]) is live:
                self._release(live)
            raise
        self._forget_texts(live)
        return Lease(
            job_id=place[2],
            token=live.lease_no,
            attempt=live.attempt,
            progress=live.progress,
            prompt_text=texts.prompt,
            extra_text=texts.extra_data,
            outputs=tuple(json.loads(texts.outputs)),
            client_id=live.client_id,
        )

    async def wait(self) -> None:
        """Wait until the order, the pause or a lease changed since the last call."""
        await self._changed.wait()
        self._changed.clear()

    def notice(self) -> None:
        """Let the one who waits look again."""
        self._changed.set()

    def start_job(self, lease: Lease) -> bool:
        """The run has begun: the job now counts as running. False if the lease is lost."""
        live = self._holder(lease)
        if live is None:
            return False
        live.is_started = True
        return True

    def renew(self, lease: Lease) -> bool:
        """Hold the job for longer. False if the lease is lost."""
        live = self._holder(lease)
        if live is None:
            return False
        live.expires_s = self._clock() + self._lease_s
        return True

    async def finish(self, lease: Lease, outcome: Outcome) -> bool:
        """End a job; durable on return. False if the lease is lost: then nothing has changed.

        Raises: StorageError; the job then still runs, and finish may be tried again.
        """
        if self._holder(lease) is None:
            return False
        row = job_rows.outcome_row(lease, outcome)
        is_ours = await self._database.write(lambda c: job_rows.finish(c, row), is_urgent=False)
        live = self._holder(lease)
        if live is not None:
            del self._live[lease.job_id], self._held[lease.job_id]
            self._notice()
        return is_ours

    async def give_back(
        self, lease: Lease, *, attempt: int | None = None, progress: int | None = None
    ) -> bool:
        """Let a job wait again in its old place. False if the lease is lost.

        `attempt` is the new number of attempts that count, `progress` how many nodes were on the
        disk when this one began; both stay as they are by default.
        """
        live = self._holder(lease)
        if live is None:
            return False
        live.attempt = lease.attempt if attempt is None else attempt
        live.progress = lease.progress if progress is None else progress
        self._release(live)
        row = (lease.job_id, live.lease_no, live.attempt, live.progress)
        await self._database.write(lambda c: job_rows.release(c, *row))
        return True

    def is_overtaken(self, lease: Lease) -> bool:
        """Whether a job that has not begun should wait again: others go first, or the pause."""
        live = self._holder(lease)
        is_behind = live is not None and bool(self._waiting) and self._waiting[0] < live.place
        return live is None or self._is_paused or is_behind

    def goes_after(self, lease: Lease) -> bool:
        """Whether a job waits that goes before this running one."""
        live = self._holder(lease)
        return live is not None and any(
            place < live.place for place in (*self._held_places(), *self._waiting[:1])
        )

    def _holder(self, lease: Lease) -> _Live | None:
        live = self._held.get(lease.job_id)
        return live if live is not None and live.lease_no == lease.token else None

    def _reclaim(self) -> None:
        """Take jobs back whose lease ran out."""
        now = self._clock()
        for live in [v for v in self._held.values() if v.expires_s < now]:
            self._release(live)

    def _release(self, live: _Live) -> None:
        del self._held[live.place[2]]
        live.is_started = False
        live.lease_no += 1
        insort(self._waiting, live.place)
        self._notice()

    async def _read_texts(self, job_id: str) -> job_rows.Texts:
        return await self._database.read(lambda c: job_rows.read_texts(c, job_id))

    def _forget_texts(self, live: _Live) -> None:
        if live.texts is not None:
            self._kept_bytes -= live.texts.size
            live.texts = None

    # Order --------------------------------------------------------------------------------------

    async def move(self, job_id: str, before: str | None = None) -> None:
        """Put a waiting job right before another one, or at the front of all.

        Raises: UnknownJob if one of them does not wait; StorageError.
        """
        live = self._pending(job_id)
        order = [p for p in self._places() if p[2] != job_id]
        if before == job_id:
            return
        index = 0 if before is None else order.index(self._pending(before).place)
        numbers = _numbers_at(order, index, live.place, job_id)
        await self._database.write(lambda c: job_rows.renumber(c, numbers))
        for moved_id, number in numbers.items():
            self._renumber(moved_id, number)
        self._notice()

    def _renumber(self, job_id: str, number: float) -> None:
        live = self._live.get(job_id)
        if live is None:
            return
        old = live.place
        live.place = (number, old[1], job_id)
        index = bisect_left(self._waiting, old)
        if index < len(self._waiting) and self._waiting[index] == old:
            del self._waiting[index]
            insort(self._waiting, live.place)

    async def pause(self, *, is_paused: bool = True) -> None:
        """Start no more jobs (the running one goes on), also after a restart."""
        self._is_paused = is_paused
        self._notice()
        await self._database.write(lambda c: job_rows.set_paused(c, is_paused=is_paused))

    async def resume(self) -> None:
        await self.pause(is_paused=False)

    @property
    def is_paused(self) -> bool:
        return self._is_paused

    # Going out ----------------------------------------------------------------------------------

    async def cancel(self, job_ids: Iterable[str]) -> tuple[str, ...]:
        """Cancel those of the jobs that wait; gives their ids. Running ones need an interrupt."""
        known = [i for i in dict.fromkeys(job_ids) if i in self._live]
        found = tuple(i for i in known if not self._live[i].is_started)
        for job_id in found:
            live = self._live.pop(job_id)
            self._held.pop(job_id, None)
            self._forget_texts(live)
            index = bisect_left(self._waiting, live.place)
            if index < len(self._waiting) and self._waiting[index] == live.place:
                del self._waiting[index]
            self._publish(JobRemoved(job_id=job_id), None)
        if found:
            self._notice()
            await self._database.write(lambda c: job_rows.cancel(c, found, now_ms()))
        return found

    async def clear_pending(self) -> tuple[str, ...]:
        """Cancel every job that waits; gives their ids."""
        return await self.cancel([i for i, live in self._live.items() if not live.is_started])

    async def delete_history(self, job_ids: Sequence[str] | None = None) -> None:
        """Forget ended jobs (all of them by default)."""
        gone = await self._database.write(lambda c: job_rows.delete_ended(c, job_ids))
        for job_id in gone:
            self._publish(JobRemoved(job_id=job_id), None)

    # Looking ------------------------------------------------------------------------------------

    @property
    def remaining(self) -> int:
        """How many jobs wait or run."""
        return len(self._live)

    @property
    def pending_ids(self) -> tuple[str, ...]:
        """The waiting jobs in the order in which they will run."""
        return tuple(place[2] for place in self._places())

    @property
    def running_ids(self) -> tuple[str, ...]:
        """The jobs that a worker runs now."""
        return tuple(i for i, live in self._held.items() if live.is_started)

    def is_live(self, job_id: str) -> bool:
        """Whether a job waits or runs."""
        return job_id in self._live

    async def pending(self) -> tuple[Job, ...]:
        """The waiting jobs in the order in which they will run."""
        return await self.get_many(self.pending_ids)

    async def running(self) -> tuple[Job, ...]:
        return await self.get_many(self.running_ids)

    async def get(self, job_id: str) -> Job | None:
        """A job in any state, or None."""
        found = await self.get_many((job_id,))
        return found[0] if found else None

    async def get_many(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        """Those of the jobs that exist, in the given order."""
        if not job_ids:
            return ()
        running = set(self.running_ids)
        return await self._database.read(lambda c: job_rows.get_many(c, job_ids, running))

    async def history(
        self, *, max_items: int | None = None, offset: int | None = None
    ) -> tuple[Job, ...]:
        """Ended jobs, oldest first: `max_items` from `offset` on, or the newest `max_items`."""
        return await self._database.read(lambda c: job_rows.history(c, max_items, offset))

    async def list_jobs(self, wanted: JobFilter) -> Page:
        """A page of jobs in any state."""
        running = set(self.running_ids)
        return await self._database.read(lambda c: job_rows.list_jobs(c, wanted, running))

    async def counts(self) -> Json:
        """How many jobs are in each state."""
        running = len(self.running_ids)
        ended = await self._database.read(job_rows.count_ended)
        return {"pending": self.remaining - running, "running": running, **ended}

    def status(self) -> QueueStatus:
        return QueueStatus(remaining=self.remaining, is_paused=self._is_paused)

    # Inside -------------------------------------------------------------------------------------

    def _places(self) -> list[Place]:
        """All that wait, those first that a worker holds but has not begun."""
        return [*self._held_places(), *self._waiting]

    def _held_places(self) -> list[Place]:
        return [v.place for v in self._held.values() if not v.is_started]

    def _pending(self, job_id: str) -> _Live:
        live = self._live.get(job_id)
        if live is None or live.is_started:
            raise UnknownJob(f"The job {job_id} does not wait in the queue.")
        return live

    def _notice(self) -> None:
        self._changed.set()
        self._publish(self.status(), None)


def now_ms() -> int:
    return int(time.time() * 1000)


def _check(submission: Submission) -> None:
    names = (submission.job_id, submission.client_id, submission.idempotency_key)
    for name in names:
        if name is not None and (not name.isascii() and _has_surrogates(name)):
            raise EngineError(f"The id {name!r} is no valid text.", code="invalid_id")
    if submission.number is not None and not math.isfinite(submission.number):
        raise EngineError(
            f"The number {submission.number} is none by which jobs could be ordered.",
            code="invalid_number",
        )


def _has_surrogates(text: str) -> bool:
    return any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def _digest(submission: Submission) -> str:
    body = (submission.prompt, submission.extra_data, list(submission.outputs))
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _numbers_at(order: list[Place], index: int, old: Place, job_id: str) -> dict[str, float]:
    """New numbers that put a job at `index` of the others: its own, or all if there is no room."""
    low = order[index - 1][0] if index else None
    high = order[index][0] if index < len(order) else None
    if high is None:
        number = old[0] if low is None else low + 1
    elif low is None:
        number = high - 1
    else:
        number = (low + high) / 2
        if not low < number < high:
            ids = [p[2] for p in order]
            ids.insert(index, job_id)
            first = order[0][0]
            return {i: first + n for n, i in enumerate(ids)}
    return {job_id: number}
