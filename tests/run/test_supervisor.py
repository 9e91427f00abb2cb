"""The supervisor over real worker processes that misbehave in every way."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.api.errors import EngineError, StorageError
from engine.api.events import JobFinished, JobGaveWay, JobStarted, LogLine, NodeFailed, NodeProgress
from engine.config import ROOT
from engine.graph.prompt import parse_prompt
from engine.graph.validate import validate
from engine.run.bus import Bus, CatalogueChanged, Event, WorkerChanged
from engine.run.catalogue_store import CatalogueStore, NotReady, catalogue_path
from engine.run.job import Job, Lease, Submission
from engine.run.queue import JobQueue
from engine.run.supervisor import Supervisor
from engine.run.worker_session import WorkerOptions, WorkerUnavailable

COMMAND = (sys.executable, "-m", "tests.run.stub_worker")


class Rig:
    """A queue, a bus and a supervisor of stub workers; `told` is what the bus said."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.bus = Bus()
        self.queue = JobQueue(folder / "jobs.sqlite", self.bus.publish)
        self.store = CatalogueStore(folder / "catalogue-1.json")
        start = {"jail": str(folder / "jail"), **options.pop("start", {})}
        self.options = WorkerOptions(
            folder=ROOT,
            command=COMMAND,
            start=start,
            quarantine=self.quarantine,
            **{"interrupt_grace_s": 0.3, "stop_grace_s": 2.0, **options},
        )
        self.worker = Supervisor(self.queue, self.bus, self.store, self.options)
        self.jailed: list[tuple[str, str]] = []
        self.told: list[Event] = []
        self._seen = 0
        self._subscription = self.bus.subscribe()

    def quarantine(self, pack: str, reason: str) -> None:
        self.jailed.append((pack, reason))
        with (self.folder / "jail").open("a") as file:
            file.write(f"{pack}\n")

    async def start(self) -> None:
        await self.queue.start()
        self.store.load()
        await self.worker.start()

    async def stop(self) -> None:
        await self.worker.stop()
        await self.queue.stop()

    async def submit(self, do: str = "ok", job_id: str | None = None, **more: Any) -> str:
        mark = more.pop("mark", "")
        prompt = {"1": {"class_type": "Stub", "inputs": {"do": do, "mark": str(mark)}}}
        submission = Submission(prompt=prompt, outputs=["1"], job_id=job_id, client_id="me", **more)
        return (await self.queue.submit(submission)).job_id

    async def until(self, is_it: Callable[[Event], bool], timeout_s: float = 10) -> Event:
        """The next event that fits, after the one that was waited for before."""
        async with asyncio.timeout(timeout_s):
            while True:
                while self._seen < len(self.told):
                    self._seen += 1
                    if is_it(self.told[self._seen - 1]):
                        return self.told[self._seen - 1]
                batch = await self._subscription.next()
                self.told += [posted.event for posted in batch.events]

    async def ended(self, job_id: str) -> Job:
        """The job once it has ended and its end was told."""
        await self.until(lambda e: isinstance(e, JobFinished) and e.job_id == job_id)
        job = await self.queue.get(job_id)
        assert job is not None
        return job

    async def started(self, job_id: str) -> None:
        await self.until(lambda e: isinstance(e, JobStarted) and e.job_id == job_id)

    async def ready(self) -> None:
        await self.until(lambda e: e == WorkerChanged(phase="ready"))


@pytest.fixture
async def make_rig(tmp_path: Path) -> AsyncIterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(**options: Any) -> Rig:
        rigs.append(Rig(tmp_path, **options))
        return rigs[-1]

    yield make
    for rig in rigs:
        await rig.stop()


@pytest.fixture
async def rig(make_rig: Callable[..., Rig]) -> Rig:
    made = make_rig()
    await made.start()
    return made


def error_of(job: Job) -> str:
    """The code of the error that ended a job."""
    end = job.events[-1]
    assert isinstance(end, JobFinished) and end.error is not None
    return end.error.code


async def test_a_job_gives_way_to_one_in_front_and_goes_on_after_it(rig: Rig, tmp_path: Path):
    long = await rig.submit("yield", mark=tmp_path / "began")
    await rig.started(long)
    behind = await rig.submit()
    front = await rig.submit(front=True)
    for job_id in (front, long, behind):
        assert (await rig.ended(job_id)).state == "success"
    told = [e for e in rig.told if isinstance(e, JobGaveWay | JobStarted | JobFinished)]
    assert [(type(e).__name__, e.job_id) for e in told] == [
        ("JobStarted", long),
        ("JobGaveWay", long),
        ("JobStarted", front),
        ("JobFinished", front),
        ("JobStarted", long),
        ("JobFinished", long),
        ("JobStarted", behind),
        ("JobFinished", behind),
    ]
    job = await rig.queue.get(long)
    assert job is not None
    assert job.attempt == 0


# The good days ------------------------------------------------------------------------------------


async def test_jobs_flow_in_order_and_their_end_is_told_after_it_is_stored(rig: Rig):
    stored_when_told: list[bool] = []
    publish = rig.bus.publish

    def spy(event: Event, client_id: str | None = None) -> None:
        if isinstance(event, JobFinished):
            stored_when_told.append(not rig.queue.is_live(event.job_id))
            assert client_id == "me"
        publish(event, client_id)

    rig.bus.publish = spy
    jobs = [await rig.submit() for _ in range(30)]
    await rig.ended(jobs[-1])
    assert stored_when_told == [True] * 30
    steps = [
        (type(e).__name__, e.job_id) for e in rig.told if isinstance(e, JobStarted | JobFinished)
    ]
    assert steps == [(kind, job) for job in jobs for kind in ("JobStarted", "JobFinished")]
    history = await rig.queue.history()
    assert [job.id for job in history] == jobs
    assert {job.state for job in history} == {"success"}
    assert len({job.results["1"]["pid"][0] for job in history}) == 1
    assert history[0].results["1"]["odd"] == [None, "x"]
    assert history[0].records["1"].state == "ran"


async def test_the_catalogue_comes_from_the_worker_and_then_from_the_disk(
    make_rig: Callable[..., Rig],
):
    first = make_rig()
    with pytest.raises(NotReady):
        _ = first.worker.catalogue
    await first.start()
    await first.until(lambda e: isinstance(e, CatalogueChanged))
    assert "Stub" in first.worker.catalogue
    assert (await first.store.wait()).packs == ({"name": "p"},)
    await first.stop()
    second = make_rig(start={"broken": True})
    second.store.load()
    assert second.worker.catalogue.specs == first.worker.catalogue.specs
    assert second.store.known.devices == ({"name": "cpu"},)
    await second.queue.start()


def test_a_damaged_stored_catalogue_counts_as_absent(tmp_path: Path):
    for text in ("", "{}", "[]", '{"specs": [{}]}', '{"specs": {"a": 1}}', "null"):
        path = tmp_path / "catalogue-1.json"
        path.write_text(text)
        assert not CatalogueStore(path).load()


def test_the_place_of_the_catalogue_changes_with_every_source(tmp_path: Path):
    source = tmp_path / "pack" / "nodes.py"
    source.parent.mkdir()
    source.write_text("a = 1")
    folders = [source.parent, tmp_path / "absent"]
    first = catalogue_path(tmp_path, folders, "")
    assert catalogue_path(tmp_path, folders, "") == first
    assert catalogue_path(tmp_path, folders, "other") != first
    source.write_text("a = 22")
    assert catalogue_path(tmp_path, folders, "") != first


async def test_prints_of_packs_do_not_disturb_the_link_and_stand_in_the_log(rig: Rig):
    assert (await rig.ended(await rig.submit("print"))).state == "success"
    if not any(isinstance(e, LogLine) and "fd 1" in e.text for e in rig.told):
        await rig.until(lambda e: isinstance(e, LogLine) and "fd 1" in e.text)
    assert any(isinstance(e, LogLine) and e.text == "a pack prints" for e in rig.told)


async def test_many_events_of_one_node_reach_subscribers_as_few(rig: Rig):
    await rig.ended(await rig.submit("flood"))
    progress = [e for e in rig.told if isinstance(e, NodeProgress)]
    assert 1 <= len(progress) < 1000


async def test_free_and_reload_reach_the_worker(rig: Rig):
    await rig.ready()
    await rig.worker.free(unload_models=True, free_memory=False)
    await rig.until(lambda e: isinstance(e, LogLine) and e.text == "freed True False")
    await rig.worker.reload_packs()
    await rig.until(lambda e: isinstance(e, LogLine) and e.text == "reloaded")


async def test_an_own_check_of_nodes_is_asked_of_the_worker(make_rig: Callable[..., Rig]):
    rig = make_rig(validate_limit_s=1.0)
    await rig.start()
    await rig.until(lambda e: isinstance(e, CatalogueChanged))

    async def check(do: str) -> list[str]:
        graph = parse_prompt({"1": {"class_type": "Stub", "inputs": {"do": do, "mark": ""}}})
        found = validate(graph, rig.worker.catalogue, lambda _: ())
        return [p.code for p in (await rig.worker.validate(found)).problems]

    running = await rig.submit("wait")
    await rig.started(running)
    assert await asyncio.gather(check("good"), check("bad")) == [[], ["custom_validation_failed"]]
    with pytest.raises(WorkerUnavailable, match="in time"):
        await check("hang in check")


# Interrupts, order --------------------------------------------------------------------------------


async def test_an_interrupt_ends_a_job_and_the_worker_stays(rig: Rig):
    first, second = await rig.submit("wait"), await rig.submit()
    await rig.started(first)
    assert not await rig.worker.interrupt(second)
    assert await rig.worker.interrupt()
    assert (await rig.ended(first)).state == "interrupted"
    after = await rig.ended(second)
    assert after.state == "success"
    assert not any(isinstance(e, WorkerChanged) and e.phase == "stopped" for e in rig.told)
    assert not await rig.worker.interrupt()


async def test_an_interrupt_ends_a_node_that_blocks_by_replacing_the_worker(rig: Rig):
    first, second = await rig.submit("block"), await rig.submit()
    await rig.started(first)
    started = time.monotonic()
    assert await rig.worker.interrupt(first)
    job = await rig.ended(first)
    assert time.monotonic() - started < 30
    assert (job.state, job.attempt) == ("interrupted", 0)
    after = await rig.ended(second)
    assert (after.state, after.attempt) == ("success", 0)


async def test_a_job_put_in_front_overtakes_one_that_the_worker_already_holds(rig: Rig):
    first, second = await rig.submit("wait"), await rig.submit()
    await rig.started(first)
    await asyncio.sleep(0.1)
    front = await rig.submit(front=True)
    await asyncio.sleep(0.1)
    await rig.worker.interrupt()
    await rig.ended(second)
    ends = [e.job_id for e in rig.told if isinstance(e, JobFinished)]
    assert ends == [first, front, second]


async def test_pause_and_cancel_reach_jobs_that_the_worker_already_holds(rig: Rig):
    first, second, third = [await rig.submit("wait"), await rig.submit(), await rig.submit()]
    await rig.started(first)
    await asyncio.sleep(0.1)
    assert await rig.queue.cancel([second]) == (second,)
    await rig.queue.pause()
    await rig.worker.interrupt()
    await rig.ended(first)
    await asyncio.sleep(0.2)
    assert (rig.queue.pending_ids, rig.queue.running_ids) == ((third,), ())
    await rig.queue.resume()
    assert (await rig.ended(third)).state == "success"
    cancelled = await rig.queue.get(second)
    assert cancelled is not None and cancelled.state == "cancelled"


async def test_a_job_cancelled_as_it_begins_does_not_keep_a_blocked_worker(rig: Rig):
    await rig.ready()
    start_job = rig.queue.start_job

    cancels: list[asyncio.Task[tuple[str, ...]]] = []

    def cancelled_just_now(lease: Lease) -> bool:
        rig.queue.start_job = start_job
        cancels.append(asyncio.create_task(rig.queue.cancel([lease.job_id])))
        return False

    rig.queue.start_job = cancelled_just_now
    first = await rig.submit("block")
    assert (await rig.ended(await rig.submit())).state == "success"
    cancelled = await rig.queue.get(first)
    assert cancelled is not None and cancelled.state == "cancelled"


# The bad days -------------------------------------------------------------------------------------


async def test_a_job_that_kills_its_worker_fails_after_three_attempts_and_names_its_node(
    rig: Rig, tmp_path: Path
):
    bad, good = await rig.submit("die", mark=tmp_path / "runs"), await rig.submit()
    job = await rig.ended(bad)
    assert (job.state, error_of(job)) == ("error", "worker_died")
    failed = job.events[-2]
    assert isinstance(failed, NodeFailed)
    assert (failed.display_id, failed.node_type) == ("1", "Stub")
    assert "exit code 9" in failed.error.message
    assert (tmp_path / "runs").read_text().count("die") == 3
    assert (await rig.ended(good)).state == "success"


async def test_a_job_whose_worker_died_is_tried_again(rig: Rig, tmp_path: Path):
    job = await rig.ended(await rig.submit("once_die", mark=tmp_path / "runs"))
    assert (job.state, job.attempt) == ("success", 2)


async def test_attempts_that_got_further_do_not_count(rig: Rig, tmp_path: Path):
    """Each attempt finds the same number of nodes on disk: only the first one got further."""
    extra = {"extra_pnginfo": {"disk_hits": 2}}
    job = await rig.ended(await rig.submit("die", mark=tmp_path / "runs", extra_data=extra))
    assert job.state == "error"
    assert (tmp_path / "runs").read_text().count("die") == 3
    assert job.records["d0"].state == "disk"


async def test_a_worker_that_eats_too_much_memory_is_out_of_memory_without_retry(
    make_rig: Callable[..., Rig], tmp_path: Path
):
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc: the memory of a process is not known here")
    rig = make_rig(memory_limit_bytes=200 << 20)
    await rig.start()
    job = await rig.ended(await rig.submit("eat", mark=tmp_path / "runs"))
    assert (job.state, error_of(job)) == ("error", "out_of_memory")
    assert (tmp_path / "runs").read_text().count("eat") == 1
    assert (await rig.ended(await rig.submit())).state == "success"


async def test_a_worker_killed_from_outside_costs_one_attempt(rig: Rig, tmp_path: Path):
    job_id = await rig.submit("wait", mark=tmp_path / "runs")
    await rig.started(job_id)
    process = rig.worker.pid
    assert process is not None
    os.kill(process, 9)
    await rig.started(job_id)
    await rig.worker.interrupt()
    job = await rig.ended(job_id)
    assert (job.state, job.attempt) == ("interrupted", 1)


async def test_a_bug_in_the_core_fails_the_job_not_the_worker(rig: Rig):
    job = await rig.ended(await rig.submit("raise"))
    assert job.state == "error"
    assert (await rig.ended(await rig.submit())).state == "success"


async def test_a_job_whose_end_cannot_be_stored_waits_for_the_disk_and_is_not_lost(rig: Rig):
    jobs = [await rig.submit("wait"), *[await rig.submit() for _ in range(3)]]
    await rig.started(jobs[0])
    database = rig.queue._database  # pyright: ignore[reportPrivateUsage]
    write = database.write

    def fail(*_: Any, **__: Any) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(StorageError("disk full"))
        return future

    database.write = fail
    await rig.worker.interrupt()
    await rig.until(lambda e: isinstance(e, LogLine) and "is not stored yet" in e.text)
    assert not any(isinstance(e, JobFinished) for e in rig.told)
    database.write = write
    await rig.ended(jobs[-1])
    ends = [(e.job_id, e.status) for e in rig.told if isinstance(e, JobFinished)]
    assert ends == [(jobs[0], "interrupted"), *((job, "success") for job in jobs[1:])]


@pytest.mark.parametrize("fault", ["die", "hang"])
async def test_a_pack_that_ends_or_hangs_the_import_is_quarantined(
    make_rig: Callable[..., Rig], fault: str
):
    rig = make_rig(start={"packs": {"good": "", "bad": fault}}, pack_limit_s=0.3)
    await rig.start()
    assert (await rig.ended(await rig.submit())).state == "success"
    ((name, reason),) = rig.jailed
    assert name == "bad" and "import" in reason
    assert any(isinstance(e, LogLine) and "the pack bad" in e.text for e in rig.told)


async def test_a_worker_that_cannot_start_is_tried_with_pauses_and_says_why(
    make_rig: Callable[..., Rig],
):
    rig = make_rig(start={"broken": True}, restart_waits_s=(0.0, 0.05))
    await rig.start()
    job_id = await rig.submit()
    for _ in range(2):
        await rig.until(lambda e: isinstance(e, LogLine) and e.level == "warning")
    assert "no torch here" in rig.worker.trouble
    assert rig.queue.pending_ids == (job_id,)
    with pytest.raises(EngineError):
        _ = rig.worker.catalogue


async def test_stopping_hands_the_running_job_back_without_counting(
    make_rig: Callable[..., Rig], tmp_path: Path
):
    first = make_rig(stop_grace_s=60.0)
    await first.start()
    blocked = await first.submit("wait", mark=tmp_path / "runs")
    await first.started(blocked)
    started = time.monotonic()
    await first.stop()
    assert time.monotonic() - started < 30  # it was not killed
    second = make_rig()
    await second.start()
    await second.started(blocked)
    await second.worker.interrupt()
    assert (await second.ended(blocked)).attempt == 0


async def test_stopping_ends_a_worker_that_is_deaf(make_rig: Callable[..., Rig]):
    rig = make_rig(stop_grace_s=0.2)
    await rig.start()
    job_id = await rig.submit("block")
    await rig.started(job_id)
    await rig.worker.stop()
    assert rig.queue.pending_ids == (job_id,)


async def test_stopping_while_the_worker_starts_is_quick(make_rig: Callable[..., Rig]):
    rig = make_rig(stop_grace_s=60.0)
    await rig.start()
    started = time.monotonic()
    await rig.worker.stop()
    assert time.monotonic() - started < 30  # it was not waited for


async def test_choices_are_read_again_even_while_a_job_runs(
    make_rig: Callable[..., Rig], tmp_path: Path
):
    choices = tmp_path / "choices"
    choices.write_text("ok wait")
    rig = make_rig(start={"choices": str(choices)})
    await rig.start()
    await rig.ready()
    await rig.started(await rig.submit("wait"))
    choices.write_text("ok wait new")
    await rig.worker.refresh()
    assert rig.worker.catalogue.specs["Stub"].inputs[0].choices == ("ok", "wait", "new")
    assert rig.worker.phase == "ready"
