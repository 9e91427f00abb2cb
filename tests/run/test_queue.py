"""The durable queue, over real SQLite files."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.api.errors import EngineError, LaunchError, StorageError
from engine.api.events import ErrorReport, JobFinished, JobStarted, NodeRecord
from engine.run.bus import Event, JobQueued, JobRemoved, QueueStatus
from engine.run.instance_lock import InstanceLock
from engine.run.job import Conflict, EndState, Job, JobFilter, Lease, Outcome, Submission
from engine.run.queue import JobQueue, UnknownJob

Open = Callable[..., Awaitable[JobQueue]]

PROMPT = {"1": {"class_type": "Show", "inputs": {"text": "Zürich 😀"}}}


def submission(**more: Any) -> Submission:
    return Submission(**{"prompt": PROMPT, "outputs": ["1"], **more})


def outcome(state: EndState = "success", **more: Any) -> Outcome:
    return Outcome(state=state, started_ms=10, ended_ms=30, **more)


async def leased(queue: JobQueue) -> Lease:
    lease = await queue.lease()
    assert lease is not None
    assert queue.start_job(lease)
    return lease


async def run_next(queue: JobQueue, state: EndState = "success") -> str:
    lease = await leased(queue)
    assert await queue.finish(lease, outcome(state))
    return lease.job_id


def ids(jobs: tuple[Job, ...]) -> list[str]:
    return [job.id for job in jobs]


@pytest.fixture
async def open_queue(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the queue of one folder; a queue that was opened before is stopped first."""
    queues: list[JobQueue] = []

    async def open_it(**more: Any) -> JobQueue:
        if queues:
            await queues.pop().stop()
        queues.append(JobQueue(tmp_path / "weft" / "jobs.sqlite", **more))
        await queues[-1].start()
        return queues[-1]

    yield open_it
    for queue in queues:
        await queue.stop()


@pytest.fixture
async def queue(open_queue: Open) -> JobQueue:
    return await open_queue()


# Coming in and out --------------------------------------------------------------------------------


async def test_a_job_comes_back_as_it_went_in(queue: JobQueue):
    records = {"9": NodeRecord(state="refused", reason="no such file")}
    ticket = await queue.submit(
        submission(
            job_id="a",
            client_id="me",
            extra_data={"extra_pnginfo": {"workflow": {}}},
            records=records,
            refusals={"9": {"errors": []}},
        )
    )
    assert (ticket.job_id, ticket.number, ticket.is_new) == ("a", 1.0, True)
    lease = await leased(queue)
    assert (lease.outputs, lease.client_id) == (("1",), "me")
    job = await queue.get("a")
    assert job is not None and job.state == "running" and job.is_partial
    error = ErrorReport(code="x", message="m", hint="h", traceback=("a", "b"))
    events = (
        JobStarted(job_id="a", timestamp_ms=10),
        JobFinished(job_id="a", status="error", timestamp_ms=30, error=error),
    )
    ran = NodeRecord(state="ran", seconds=0.5, reason="first run")
    assert await queue.finish(
        lease,
        outcome(
            "error",
            results={"1": {"text": ["t"]}},
            owners={"1:2": "1"},
            records={"1": ran},
            events=events,
        ),
    )
    job = await queue.get("a")
    assert job is not None
    assert (job.state, job.prompt, job.outputs) == ("error", PROMPT, ("1",))
    assert job.extra_data == {"extra_pnginfo": {"workflow": {}}}
    assert (job.started_ms, job.ended_ms) == (10, 30)
    assert (job.results, job.owners) == ({"1": {"text": ["t"]}}, {"1:2": "1"})
    assert job.records == {"9": records["9"], "1": ran}
    assert job.events == events
    assert await queue.get("unknown") is None


async def test_the_same_id_or_key_with_the_same_body_is_the_same_job(queue: JobQueue):
    first = await queue.submit(submission(job_id="a"))
    again = await queue.submit(submission(job_id="a"))
    assert (again.job_id, again.number, again.is_new) == ("a", first.number, False)
    by_key = await queue.submit(submission(idempotency_key="k"))
    assert (await queue.submit(submission(idempotency_key="k"))).job_id == by_key.job_id
    assert queue.remaining == 2
    for other in (submission(job_id="a", outputs=[]), submission(idempotency_key="k", prompt={})):
        with pytest.raises(Conflict):
            await queue.submit(other)
    await run_next(queue)
    assert not (await queue.submit(submission(job_id="a"))).is_new
    assert queue.remaining == 1


async def test_concurrent_duplicates_make_one_job(queue: JobQueue):
    tickets = await asyncio.gather(*[queue.submit(submission(job_id="a")) for _ in range(20)])
    assert sum(t.is_new for t in tickets) == 1
    assert queue.remaining == 1


@pytest.mark.parametrize(
    "more",
    [
        {"job_id": "\ud800"},
        {"client_id": "a\udfff"},
        {"idempotency_key": "\ud800"},
        {"number": float("nan")},
        {"number": float("inf")},
    ],
)
async def test_what_cannot_be_kept_is_refused(queue: JobQueue, more: dict[str, Any]):
    with pytest.raises(EngineError, match=r"valid text|ordered"):
        await queue.submit(submission(**more))
    assert (await queue.submit(submission(client_id="Zürich"))).is_new


async def test_a_lease_that_is_given_up_while_it_is_made_leaves_the_job_waiting(open_queue: Open):
    await (await open_queue()).submit(submission(job_id="a"))
    queue = await open_queue()  # so that the text has to be read
    asking = asyncio.create_task(queue.lease())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert queue.pending_ids == ("a",)
    assert await queue.lease() is not None


# Order --------------------------------------------------------------------------------------------


async def test_order_is_by_number_then_arrival(queue: JobQueue):
    await queue.submit(submission(job_id="a"))
    await queue.submit(submission(job_id="b"))
    await queue.submit(submission(job_id="front", front=True))
    await queue.submit(submission(job_id="last", number=99))
    await queue.submit(submission(job_id="like a", number=1))
    order = ("front", "a", "like a", "b", "last")
    assert queue.pending_ids == order
    assert tuple(ids(await queue.pending())) == order
    assert tuple([await run_next(queue) for _ in order]) == order
    assert ids(await queue.history()) == list(order)


async def test_random_moves_match_a_list_and_survive_a_restart(open_queue: Open):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    queue = await open_queue()
    order = [f"j{i}" for i in range(6)]
    for name in order:
        await queue.submit(submission(job_id=name, number=1))
    for _ in range(150):
        moved, before = rng.choice(order), rng.choice([*order, None])
        await queue.move(moved, before)
        if moved != before:
            order.remove(moved)
            order.insert(0 if before is None else order.index(before), moved)
        assert list(queue.pending_ids) == order
    queue = await open_queue()
    assert list(queue.pending_ids) == order


async def test_only_waiting_jobs_move(queue: JobQueue):
    await queue.submit(submission(job_id="a"))
    await queue.submit(submission(job_id="b"))
    await leased(queue)
    for moved, before in (("a", None), ("b", "a"), ("b", "nobody")):
        with pytest.raises(UnknownJob):
            await queue.move(moved, before)


async def test_pause_holds_jobs_back_also_after_a_restart(open_queue: Open):
    queue = await open_queue()
    await queue.pause()
    await queue.submit(submission())
    assert await queue.lease() is None
    queue = await open_queue()
    assert queue.is_paused and await queue.lease() is None
    await queue.resume()
    assert await queue.lease() is not None


# Leases -------------------------------------------------------------------------------------------


async def test_a_finish_with_an_old_lease_changes_nothing(queue: JobQueue):
    await queue.submit(submission(job_id="a"))
    old = await leased(queue)
    await queue.give_back(old, attempt=1, progress=3)
    assert not queue.renew(old) and not queue.start_job(old)
    assert not await queue.finish(old, outcome())
    new = await leased(queue)
    assert (new.attempt, new.progress) == (1, 3)
    assert not await queue.finish(old, outcome("error"))
    assert await queue.finish(new, outcome())
    assert not await queue.finish(new, outcome("error"))
    job = await queue.get("a")
    assert job is not None and (job.state, job.attempt) == ("success", 1)


async def test_a_lease_that_ran_out_goes_to_the_next_one(open_queue: Open):
    now_s = 0.0
    queue = await open_queue(lease_s=10.0, clock=lambda: now_s)
    await queue.submit(submission(job_id="a"))
    old = await leased(queue)
    now_s = 6.0
    assert queue.renew(old)
    now_s = 12.0
    assert await queue.lease() is None
    now_s = 17.0
    new = await leased(queue)
    assert new.token != old.token
    assert not await queue.finish(old, outcome())
    assert await queue.finish(new, outcome())


async def test_leased_jobs_wait_again_after_a_restart_in_their_old_place(open_queue: Open):
    queue = await open_queue()
    for name in "abc":
        await queue.submit(submission(job_id=name))
    lease = await leased(queue)
    await queue.give_back(lease, attempt=2, progress=4)
    await leased(queue)
    queue = await open_queue()
    assert queue.pending_ids == ("a", "b", "c")
    lease = await leased(queue)
    assert (lease.attempt, lease.progress) == (2, 4)
    assert (await queue.submit(submission())).number == 4


async def test_a_job_that_is_held_but_not_begun_counts_as_waiting(queue: JobQueue):
    for name in "ab":
        await queue.submit(submission(job_id=name))
    lease = await queue.lease()
    assert lease is not None
    assert (queue.pending_ids, queue.running_ids) == (("a", "b"), ())
    assert not queue.is_overtaken(lease)
    await queue.submit(submission(job_id="front", front=True))
    assert queue.is_overtaken(lease)
    assert await queue.cancel(["a"]) == ("a",)
    assert not queue.start_job(lease)
    assert not await queue.finish(lease, outcome())


async def test_waiters_wake_when_something_can_be_leased(queue: JobQueue):
    async def next_job() -> Lease:
        while (lease := await queue.lease()) is None:
            await queue.wait()
        return lease

    waiter = asyncio.create_task(next_job())
    await asyncio.sleep(0.01)
    await queue.submit(submission(job_id="a"))
    assert (await asyncio.wait_for(waiter, 1)).job_id == "a"


# Cancel, delete, look -----------------------------------------------------------------------------


async def test_cancel_and_clear_take_waiting_jobs_only(queue: JobQueue):
    for name in "abcd":
        await queue.submit(submission(job_id=name))
    await leased(queue)
    assert await queue.cancel(["a", "b", "b", "nobody"]) == ("b",)
    assert await queue.clear_pending() == ("c", "d")
    assert (queue.running_ids, queue.pending_ids, queue.remaining) == (("a",), (), 1)
    assert await queue.counts() == {"pending": 0, "running": 1, "cancelled": 3}
    assert await queue.history() == ()


async def test_history_slices_from_the_oldest_and_newest_without_an_offset(queue: JobQueue):
    for name in "abcde":
        await queue.submit(submission(job_id=name))
        await run_next(queue)
    await queue.submit(submission(job_id="waiting"))
    assert ids(await queue.history()) == list("abcde")
    assert ids(await queue.history(max_items=2, offset=1)) == ["b", "c"]
    assert ids(await queue.history(offset=3)) == ["d", "e"]
    assert ids(await queue.history(max_items=2)) == ["d", "e"]
    assert await queue.history(max_items=5, offset=9) == ()
    await queue.delete_history(["b", "waiting", "nobody"])
    assert ids(await queue.history()) == list("acde")
    await queue.delete_history()
    assert await queue.history() == ()
    assert queue.pending_ids == ("waiting",)


async def test_jobs_are_listed_by_state_and_page(queue: JobQueue):
    for name in "abcdef":
        await queue.submit(submission(job_id=name))
    await run_next(queue)
    await run_next(queue, "error")
    await leased(queue)
    await queue.cancel(["f"])
    page = await queue.list_jobs(JobFilter(states=("pending", "running"), descending=False))
    assert [(j.id, j.state) for j in page.jobs] == [
        ("c", "running"),
        ("d", "pending"),
        ("e", "pending"),
    ]
    page = await queue.list_jobs(JobFilter(limit=2, offset=1))
    assert (ids(page.jobs), page.total) == (["e", "d"], 6)
    page = await queue.list_jobs(JobFilter(states=("pending",)))
    assert (ids(page.jobs), page.total) == (["e", "d"], 2)
    page = await queue.list_jobs(JobFilter(states=("success", "error"), sort="duration"))
    assert ids(page.jobs) == ["b", "a"]


async def test_changes_are_told(open_queue: Open):
    told: list[tuple[Event, str | None]] = []
    queue = await open_queue(publish=lambda event, client: told.append((event, client)))
    await queue.submit(submission(job_id="a", client_id="me"))
    assert told == [
        (JobQueued(job_id="a", number=1.0), "me"),
        (QueueStatus(remaining=1, is_paused=False), None),
    ]
    told.clear()
    await queue.cancel(["a"])
    assert told[0] == (JobRemoved(job_id="a"), None)
    await queue.pause()
    assert told[-1] == (QueueStatus(remaining=0, is_paused=True), None)


# Faults -------------------------------------------------------------------------------------------


async def test_a_full_disk_is_an_error_for_the_submitter_and_loses_nothing(
    queue: JobQueue, tmp_path: Path
):
    await queue.submit(submission(job_id="a"))
    lease = await leased(queue)
    writer = queue._database  # pyright: ignore[reportPrivateUsage]
    pages = (await writer.read(lambda c: c.execute("PRAGMA page_count").fetchone()))[0]
    await writer.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    big = submission(job_id="big", extra_data={"x": "y" * 200_000})
    small = [queue.submit(submission(job_id=f"s{i}")) for i in range(3)]
    results = await asyncio.gather(queue.submit(big), *small, return_exceptions=True)
    assert isinstance(results[0], StorageError) and "Free some space" in results[0].hint
    await writer.write(lambda c: c.execute("PRAGMA max_page_count = 100000").fetchone())
    assert (await queue.submit(big)).is_new
    assert await queue.finish(lease, outcome())


async def test_a_bug_in_one_operation_does_not_end_the_writer(queue: JobQueue):
    def broken(_: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    database = queue._database  # pyright: ignore[reportPrivateUsage]
    bad, good = database.write(broken), queue.submit(submission())
    with pytest.raises(ZeroDivisionError):
        await bad
    assert (await good).is_new


async def test_a_database_of_a_newer_version_is_refused(open_queue: Open, tmp_path: Path):
    await (await open_queue()).stop()
    with sqlite3.connect(tmp_path / "weft" / "jobs.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LaunchError, match="version 99"):
        await open_queue()


async def test_a_file_that_is_no_database_is_named(open_queue: Open, tmp_path: Path):
    path = tmp_path / "weft" / "jobs.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(LaunchError, match=r"jobs\.sqlite cannot be opened"):
        await open_queue()


def test_a_second_server_on_the_same_folder_is_refused(tmp_path: Path):
    first, second = InstanceLock(tmp_path), InstanceLock(tmp_path)
    first.acquire(8188)
    with pytest.raises(LaunchError, match=r"process \d+, port 8188"):
        second.acquire(8189)
    first.release()
    second.acquire(8189)
    second.release()
