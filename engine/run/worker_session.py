"""The life of one worker process: its jobs, its misbehaviour and its end.

What it was running when it ended is settled here: ended, tried again, or handed back.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from engine.api.errors import EngineError, Problem, StorageError
from engine.api.events import (
    ErrorReport,
    JobFinished,
    JobGaveWay,
    JobStarted,
    LogLine,
    RunEvent,
)
from engine.run.job import Json, Lease
from engine.run.job_run import JobRun, Outbox
from engine.run.link import Frame, LinkError, decode_events
from engine.run.process_memory import total_bytes
from engine.run.queue import JobQueue, now_ms
from engine.run.worker_process import WORKER_COMMAND, WorkerProcess

log = logging.getLogger("weft.worker")

STAGED = 2  # the running job and the next one, so that the worker never waits for a commit
TICK_S = 0.5
RENEW_S = 10.0
SIGKILL = -9

EndReason = Literal["died", "interrupt", "memory", "pack", "stop", "link"]


class WorkerUnavailable(EngineError):
    """The worker cannot be asked now."""

    code = "worker_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How workers are started and how much patience they get.

    `start` is the first message to a worker. `quarantine(pack, reason)` keeps a pack from being
    loaded again.
    """

    folder: Path
    start: Json
    command: Sequence[str] = WORKER_COMMAND
    quarantine: Callable[[str, str], None] = lambda _pack, _reason: None
    wants_previews: bool = True
    memory_limit_bytes: int | None = None
    interrupt_grace_s: float = 2.0
    pack_limit_s: float = 30.0
    stop_grace_s: float = 5.0
    validate_limit_s: float = 60.0
    refresh_limit_s: float = 2.0
    peek_limit_s: float = 10.0
    max_attempts: int = 3
    restart_waits_s: Sequence[float] = (0.0, 1.0, 5.0, 30.0)  # after starts that failed in a row


class Owner(Protocol):
    """Who hears of a worker's state."""

    def is_ready(self) -> None:
        """The worker takes jobs."""
        ...

    def take_catalogue(self, data: Json) -> None:
        """The worker told its node types."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a worker's life ended."""

    reason: EndReason
    was_ready: bool
    message: str


class WorkerSession:
    """The life of one worker, from its start to its end."""

    def __init__(
        self, queue: JobQueue, outbox: Outbox, options: WorkerOptions, owner: Owner
    ) -> None:
        self._queue = queue
        self._outbox = outbox
        self._options = options
        self._owner = owner
        self.reading: tuple[str, float] | None = None  # the file whose digest is made, the share
        self._worker: WorkerProcess | None = None
        self._runs: dict[str, JobRun] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._leases: dict[str, Lease] = {}
        self._asked: dict[int, asyncio.Future[Json]] = {}
        self._ready = asyncio.Event()
        self._reason: EndReason = "died"
        self._pack: tuple[str, float] | None = None  # being imported, since
        self._peak_bytes = 0
        self._is_stuck = False
        self._is_stopping = False

    async def live(self) -> Ending:
        """Start the worker and serve it until it ends; its jobs are settled then."""
        options = self._options
        try:
            worker = self._worker = await WorkerProcess.spawn(
                options.command, options.folder, options.start, self._log
            )
        except OSError as error:
            message = f"The worker cannot be started: {error}."
            return Ending(reason="died", was_ready=False, message=message)
        tasks = [asyncio.create_task(self._feed()), asyncio.create_task(self._watch())]
        for task in tasks:
            task.add_done_callback(self._check_task)
        if self._is_stopping:
            self.stop()
        try:
            async for frame in worker.frames():
                self._take(frame)
        except Exception as error:  # noqa: BLE001 - whatever a worker sends, the server lives on
            self._kill("link", f"{type(error).__name__}: {error}")
        code = await self._ended(worker)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return await self._settle(code)

    async def _ended(self, worker: WorkerProcess) -> int:
        """Wait for the exit; a process that closed its pipe and stays is killed."""
        try:
            return await asyncio.wait_for(worker.ended(), self._options.stop_grace_s)
        except TimeoutError:
            worker.kill()
            return await worker.ended()

    def stop(self) -> None:
        """End the worker; what it runs goes back into the queue."""
        self._is_stopping = True
        self._reason = "stop"
        if self._worker is not None:
            self._worker.send("shutdown")
            loop = asyncio.get_running_loop()
            loop.call_later(self._options.stop_grace_s, self._worker.kill)

    def send(self, kind: str, data: Json | None = None) -> None:
        if self._worker is not None:
            self._worker.send(kind, data)

    @property
    def pid(self) -> int | None:
        return self._worker.pid if self._worker else None

    @property
    def memory_bytes(self) -> int | None:
        return self._worker.memory_bytes if self._worker else None

    def _kill(self, reason: EndReason, message: str = "") -> None:
        if self._worker is not None and not self._is_stopping:
            self._reason = reason
            if message:
                self._log(message)
            self._worker.kill()

    def _check_task(self, task: "asyncio.Task[None]") -> None:
        """Begin anew with another worker rather than go on without one of the tasks."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("The supervision of the worker failed.", exc_info=error)
            self._kill("link", f"The supervision of the worker failed: {error}")

    def _log(self, text: str) -> None:
        self._outbox.post(LogLine(text=text), None)
        log.info("%s", text)

    # Messages of the worker ---------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case "events":
                for event in decode_events(frame):
                    self._take_event(event)
            case "pack_start":
                self._pack = (str(frame.data["name"]), time.monotonic())
            case "catalogue":
                self._pack = None
                self._owner.take_catalogue(frame.data)
            case "ready":
                self._ready.set()
                self._owner.is_ready()
            case "reading":
                share = float(frame.data["share"])
                self.reading = (str(frame.data["path"]), share) if share < 1 else None
            case "recalled":
                self._take_back(str(frame.data["job_id"]))
            case "answer":
                answer = self._asked.pop(int(frame.data["no"]), None)
                if answer is not None and not answer.done():
                    answer.set_result(frame.data)
            case _:
                raise LinkError(f"The worker sent an unknown message: {frame.kind}.")

    def _take_event(self, event: RunEvent) -> None:
        if isinstance(event, LogLine):
            self._outbox.post(event, None)
            return
        run = self._runs.get(event.job_id)
        if run is None or (
            self._is_stopping and _is_interruption(event) and not run.is_interrupted
        ):
            return  # it was we who stopped it: it is handed back
        if isinstance(event, JobStarted):
            run.is_lost = not self._queue.start_job(run.lease)
            if run.is_lost:
                self._interrupt(run)
        if not run.is_lost:
            run.take(event)
            if not isinstance(event, JobFinished):
                self._outbox.post(event, run.lease.client_id)
        if isinstance(event, JobGaveWay):
            self._take_back(event.job_id)
        if isinstance(event, JobFinished):
            del self._runs[event.job_id]
            if not run.is_lost:
                self._finish(run, event)
            self._queue.notice()

    def _finish(self, run: JobRun, finished: JobFinished) -> None:
        """Write the outcome beside what comes next; it is told when it is on the disk."""
        let_go = self._outbox.hold(run.lease.client_id)
        task = asyncio.create_task(self._write_outcome(run, finished, let_go))
        self._leases[run.lease.job_id] = run.lease
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def _write_outcome(
        self, run: JobRun, finished: JobFinished, let_go: Callable[[Sequence[Any]], None]
    ) -> None:
        events: list[JobFinished] = []
        try:
            if await self._finish_surely(run, finished):
                events.append(finished)
        finally:
            self._leases.pop(run.lease.job_id, None)
            let_go(events)

    async def _finish_surely(self, run: JobRun, finished: JobFinished) -> bool:
        """Write the outcome, again and again while the disk takes nothing."""
        outcome = run.outcome(finished)
        while True:
            try:
                is_ours = await self._queue.finish(run.lease, outcome)
                self._is_stuck = False
                return is_ours
            except StorageError as error:
                self._is_stuck = True  # no further jobs until this one is safe
                self._log(f"The end of job {run.lease.job_id} is not stored yet. {error}")
                if self._is_stopping:
                    return False  # it will run again
                await asyncio.sleep(1.0)

    # Jobs for the worker ------------------------------------------------------------------------

    async def _feed(self) -> None:
        await self._ready.wait()
        while True:
            while len(self._runs) < STAGED and not self._is_stuck:
                lease = await self._lease()
                if lease is None:
                    break
                self._send_job(lease)
            self._recall()
            self._tell_overtaken()
            await self._queue.wait()

    async def _lease(self) -> Lease | None:
        try:
            return await self._queue.lease()
        except StorageError as error:
            self._log(str(error))
            return None

    def _send_job(self, lease: Lease) -> None:
        assert self._worker is not None
        run = self._runs[lease.job_id] = JobRun(lease=lease)
        data: Json = {
            "job_id": lease.job_id,
            "outputs": list(lease.outputs),
            "wants_previews": self._options.wants_previews and lease.client_id is not None,
        }
        tail = f'{{"prompt":{lease.prompt_text},"extra_data":{lease.extra_text}}}'
        try:
            self._worker.send("run", data, tail.encode())
        except LinkError as error:
            del self._runs[lease.job_id]
            self._end(run, "error", ErrorReport(code=error.code, message=error.message))

    def _recall(self) -> None:
        """Ask for a job back that has not begun when others should go before it."""
        for job_id, run in self._runs.items():
            waits = not run.is_started and not run.is_recalled
            if waits and len(self._runs) > 1 and self._queue.is_overtaken(run.lease):
                run.is_recalled = True
                self.send("recall", {"job_id": job_id})

    def _tell_overtaken(self) -> None:
        """Let the running job know that others go before it, in case that it can stop for them."""
        for job_id, run in self._runs.items():
            if run.is_started and not run.is_overtaken and self._queue.goes_after(run.lease):
                run.is_overtaken = True
                self.send("overtake", {"job_id": job_id})

    def _take_back(self, job_id: str) -> None:
        run = self._runs.pop(job_id, None)
        if run is not None:
            task = asyncio.create_task(self._give_back(run.lease))
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    async def _give_back(self, lease: Lease) -> None:
        try:
            await self._queue.give_back(lease)
        except StorageError as error:
            self._log(str(error))  # it waits again all the same

    def interrupt(self, job_id: str | None) -> bool:
        """Stop a job; kill the worker if it does not obey."""
        if job_id is None:
            job_id = next((i for i, run in self._runs.items() if run.is_started), None)
        run = self._runs.get(job_id or "")
        if run is None or job_id is None or not run.is_started:
            return False
        if not run.is_interrupted:
            self._interrupt(run)
        return True

    def _interrupt(self, run: JobRun) -> None:
        run.is_interrupted = True
        self.send("interrupt", {"job_id": run.lease.job_id})
        loop = asyncio.get_running_loop()
        loop.call_later(self._options.interrupt_grace_s, self._check_interrupted, run)

    def _check_interrupted(self, run: JobRun) -> None:
        if self._runs.get(run.lease.job_id) is run:
            self._kill("interrupt", f"Job {run.lease.job_id} did not stop; its worker is replaced.")

    async def validate(self, prompt: Json, node_ids: Sequence[str]) -> list[Problem]:
        """What the nodes' own checks find. Raises: WorkerUnavailable."""
        data: Json = {"prompt": prompt, "node_ids": list(node_ids)}
        try:
            found = await self._ask("validate", data, self._options.validate_limit_s)
        except TimeoutError as error:
            raise WorkerUnavailable(
                "The nodes' own checks did not answer in time.", hint="Try again, or interrupt."
            ) from error
        if "error" in found:
            raise EngineError(f"The nodes' own checks failed: {found['error']}")
        problems = cast(list[dict[str, Any]], found["problems"])
        return [Problem(**problem) for problem in problems]

    async def peek(self, prompt: Json, node_id: str, output: int, job_id: str) -> Json:
        """What is kept for an output of a prompt. Raises: WorkerUnavailable."""
        data: Json = {"prompt": prompt, "node_id": node_id, "output": output, "job_id": job_id}
        try:
            found = await self._ask("peek", data, self._options.peek_limit_s)
        except TimeoutError as error:
            raise WorkerUnavailable(
                "The worker did not answer in time.", hint="Try again when it is less busy."
            ) from error
        if "error" in found:
            raise EngineError(f"The result cannot be shown: {found['error']}")
        return found

    async def refresh(self) -> None:
        """Let nodes tell anew what they read at that moment; what is late comes later."""
        with contextlib.suppress(TimeoutError, WorkerUnavailable):
            await self._ask("refresh", {}, self._options.refresh_limit_s)

    async def _ask(self, kind: str, data: Json, limit_s: float) -> Json:
        """The worker's answer. Raises: TimeoutError, WorkerUnavailable."""
        number = len(self._asked) and max(self._asked) + 1
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(limit_s):
                await self._ready.wait()
                self._asked[number] = answer
                self.send(kind, {**data, "no": number})
                return await answer
        finally:
            self._asked.pop(number, None)

    # Watching -----------------------------------------------------------------------------------

    async def _watch(self) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            self._check_pack(now)
            self._check_memory()
            if now - renewed > RENEW_S:
                renewed = now
                for lease in [*(run.lease for run in self._runs.values()), *self._leases.values()]:
                    self._queue.renew(lease)

    def _check_pack(self, now: float) -> None:
        if self._pack is not None and now - self._pack[1] > self._options.pack_limit_s:
            self._kill("pack")

    def _check_memory(self) -> None:
        size = self.memory_bytes
        if size is None:
            return
        self._peak_bytes = max(self._peak_bytes, size)
        limit = self._options.memory_limit_bytes
        if limit is not None and size > limit:
            self._kill("memory")

    # The end ------------------------------------------------------------------------------------

    async def _settle(self, code: int) -> Ending:
        """Decide what becomes of the jobs of a worker that is gone."""
        ending = self._ending(code)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(WorkerUnavailable(ending.message, hint="Try again."))
        for index, run in enumerate(list(self._runs.values())):
            if ending.reason == "died" and index == 0:
                run.is_started = True  # perhaps it died before it could tell that
            if not run.is_lost:
                await self._settle_run(run, ending)
        self._runs.clear()
        while self._finishing:
            await asyncio.gather(*self._finishing)
        return ending

    def _ending(self, code: int) -> Ending:
        was_ready = self._ready.is_set()
        reason = self._reason
        limit = total_bytes()
        if reason == "died" and code == SIGKILL and limit and self._peak_bytes > 0.8 * limit:
            reason = "memory"
        message = f"The worker ended by itself (exit code {code})."
        if self._pack is not None and reason in ("died", "pack"):
            name, seconds = self._pack[0], self._options.pack_limit_s
            how = f"took over {seconds:g} s" if reason == "pack" else f"ended with code {code}"
            reason = "pack"
            message = f"The worker {how} while it imported the pack {name}, now in quarantine."
            self._options.quarantine(name, f"its import {how}")
        elif reason == "memory":
            size = self._peak_bytes >> 20
            message = f"The worker used {size} MB, more than it may, and was replaced."
        elif reason == "interrupt":
            message = "The worker did not stop in time and was replaced."
        elif reason == "link":
            message = "The worker sent what is no message and was replaced."
        if not was_ready and reason == "died" and self._worker is not None:
            message = "\n".join([message, *self._worker.log_tail[-5:]])
        return Ending(reason=reason, was_ready=was_ready, message=message)

    async def _settle_run(self, run: JobRun, ending: Ending) -> None:
        lease = run.lease
        try:
            if run.is_interrupted:
                self._end(run, "interrupted", None)
            elif not run.is_started or ending.reason == "stop":
                await self._queue.give_back(lease)
            elif ending.reason == "memory":
                self._end(run, "error", _out_of_memory(ending))
            elif ending.reason == "interrupt":
                await self._queue.give_back(lease, progress=run.found_on_disk)
            elif run.attempts >= self._options.max_attempts:
                self._end(run, "error", _died(ending, run.attempts))
            else:
                self._log(f"Job {lease.job_id} is tried again. {ending.message}")
                attempt, progress = run.attempts, run.found_on_disk
                await self._queue.give_back(lease, attempt=attempt, progress=progress)
        except StorageError as error:
            self._log(str(error))

    def _end(
        self, run: JobRun, status: Literal["error", "interrupted"], error: ErrorReport | None
    ) -> None:
        """End a job in the place of its worker."""
        if error is not None:
            for failed in run.failure(error):
                run.take(failed)
                self._outbox.post(failed, run.lease.client_id)
        finished = JobFinished(
            job_id=run.lease.job_id, status=status, timestamp_ms=now_ms(), error=error
        )
        run.take(finished)
        self._finish(run, finished)


def _is_interruption(event: RunEvent) -> bool:
    return isinstance(event, JobFinished) and event.status == "interrupted"


def _out_of_memory(ending: Ending) -> ErrorReport:
    return ErrorReport(
        code="out_of_memory",
        message=ending.message,
        hint="Use a smaller size or batch, the tiled VAE, or a smaller model.",
    )


def _died(ending: Ending, attempts: int) -> ErrorReport:
    return ErrorReport(
        code="worker_died",
        message=f"{ending.message} It was attempt {attempts} without getting any further.",
        hint="The log has the last words of the worker. A node or its library may be at fault.",
    )
