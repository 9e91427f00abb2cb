"""The worker's side of the link: jobs on the main thread, messages on a second one.

What runs the jobs is given to it; it knows no nodes and no packs.
"""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Condition, Thread, Timer
from typing import Any, Protocol, cast

from engine.api.errors import EngineError, Problem
from engine.api.events import JobFinished
from engine.run.core import JobRequest
from engine.run.failures import error_report
from engine.run.link import Frame, Json, WorkerLink

PREPARE_S = 5.0  # after the start; a person who waits for a job gets that first

Task = JobRequest | Callable[[], None]


class Engine(Protocol):
    """What a worker runs jobs with."""

    def run(self, job: JobRequest) -> None: ...

    def prepare(self) -> None:
        """Get ready what most jobs need; called once, between jobs."""
        ...

    def interrupt(self, job_id: str | None = None) -> bool: ...

    def overtake(self, job_id: str) -> None: ...

    def free(self, *, unload_models: bool = False, free_memory: bool = False) -> None: ...

    def validate(self, prompt: Mapping[str, Any], node_ids: Sequence[str]) -> list[Problem]: ...

    def peek(self, prompt: Json, node_id: str, output: int, job_id: str) -> Json:
        """What is kept for an output, in words and small pictures; called beside a job."""
        ...

    def catalogue(self) -> Json:
        """{"specs": […], "packs": […], "devices": […]} for the server."""
        ...

    def reload(self) -> None:
        """Load the packs again."""
        ...

    def refresh(self) -> bool:
        """Ask nodes anew that read their choices at that moment; whether any changed."""
        ...

    def close(self) -> None: ...


def open_link() -> WorkerLink:
    """The link over this process's stdin and stdout.

    Prints of packs go to stderr from then on, and reads of stdin end at once.
    """
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout.flush()
    os.dup2(2, 1)
    return WorkerLink(source, sink)


def serve(link: WorkerLink, build: Callable[[WorkerLink, Json], Engine]) -> None:
    """Be a worker until the server says so or is gone. `build` gets the first message's data."""
    first = link.receive()
    if first is None or first.kind != "start":
        return
    loop = WorkerLoop(link)
    Thread(target=loop.listen, name="weft-control", daemon=True).start()
    engine = build(link, first.data)
    try:
        loop.run(engine)
    finally:
        engine.close()
        link.close()


class WorkerLoop:
    """Takes jobs one after the other; what may not wait is done on the listening thread."""

    def __init__(self, link: WorkerLink) -> None:
        self._link = link
        self._engine: Engine | None = None
        self._tasks: deque[Task] = deque()
        self._current: str | None = None
        self._is_closing = False
        self._changed = Condition()
        self._checks = ThreadPoolExecutor(1, thread_name_prefix="weft-validate")
        self._looks = ThreadPoolExecutor(1, thread_name_prefix="weft-peek")

    def run(self, engine: Engine) -> None:
        """Say that we are ready and run jobs until the end."""
        self._engine = engine
        self._link.send("catalogue", engine.catalogue())
        self._link.send("ready")
        timer = Timer(PREPARE_S, self._add, [engine.prepare])
        timer.daemon = True
        timer.start()
        while (task := self._next()) is not None:
            if isinstance(task, JobRequest):
                self._run_job(engine, task)
            else:
                task()

    def _next(self) -> Task | None:
        with self._changed:
            self._current = None
            while not self._tasks and not self._is_closing:
                self._changed.wait()
            if self._is_closing:
                return None
            task = self._tasks.popleft()
            self._current = task.job_id if isinstance(task, JobRequest) else None
            return task

    def _run_job(self, engine: Engine, job: JobRequest) -> None:
        try:
            engine.run(job)
        except Exception as error:  # noqa: BLE001 - the worker loop: a job fails, not the worker
            report = error_report(error)
            self._link.emit(_finished(job.job_id, "error", report))

    # On the listening thread --------------------------------------------------------------------

    def listen(self) -> None:
        """Take messages; ends the process when the server is gone."""
        while True:
            try:
                frame = self._link.receive()
            except EngineError as error:
                sys.stderr.write(f"{error}\n")
                frame = None
            if frame is None:
                os._exit(0)  # nobody is left to work for, even if a node blocks the main thread
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        data = frame.data
        match frame.kind:
            case "run":
                self._add(_request(frame))
            case "interrupt":
                self._interrupt(str(data["job_id"]))
            case "overtake":
                if self._engine is not None:
                    self._engine.overtake(str(data["job_id"]))
            case "recall":
                if self._withdraw(str(data["job_id"])):
                    self._link.send("recalled", {"job_id": data["job_id"]})
            case "free":
                self._add(lambda: self._free(data))
            case "validate":
                self._checks.submit(self._answer, data, self._validate)
            case "peek":
                self._looks.submit(self._answer, data, self._peek)
            case "refresh":
                self._checks.submit(self._answer, data, self._refresh)
            case "reload":
                self._add(self._reload)
            case "shutdown":
                self._shut_down()
            case _:
                sys.stderr.write(f"The worker was sent an unknown message: {frame.kind}.\n")

    def _add(self, task: Task) -> None:
        with self._changed:
            self._tasks.append(task)
            self._changed.notify()

    def _withdraw(self, job_id: str) -> bool:
        """Take a job back that has not begun."""
        with self._changed:
            for task in self._tasks:
                if isinstance(task, JobRequest) and task.job_id == job_id:
                    self._tasks.remove(task)
                    return True
        return False

    def _interrupt(self, job_id: str) -> None:
        if self._withdraw(job_id):
            self._link.emit(_finished(job_id, "interrupted", None))
            return
        engine = self._engine
        while engine is not None and self._current == job_id and not engine.interrupt(job_id):
            time.sleep(0.005)  # it is just about to begin or to end

    def _free(self, data: Json) -> None:
        assert self._engine is not None
        self._engine.free(
            unload_models=bool(data.get("unload_models")), free_memory=bool(data.get("free_memory"))
        )

    def _reload(self) -> None:
        assert self._engine is not None
        self._engine.reload()
        self._link.send("catalogue", self._engine.catalogue())

    def _answer(self, data: Json, find: Callable[[Json], Json]) -> None:
        answer: Json = {"no": data["no"]}
        try:
            answer.update(find(data))
        except Exception as error:  # noqa: BLE001 - a pack's own code; the server waits for an answer
            answer["error"] = str(error)
        self._link.send("answer", answer)

    def _validate(self, data: Json) -> Json:
        assert self._engine is not None
        found = self._engine.validate(data["prompt"], data["node_ids"])
        return {"problems": [asdict(problem) for problem in found]}

    def _peek(self, data: Json) -> Json:
        assert self._engine is not None
        return self._engine.peek(
            data["prompt"], data["node_id"], int(data["output"]), data["job_id"]
        )

    def _refresh(self, _data: Json) -> Json:
        assert self._engine is not None
        if self._engine.refresh():
            self._link.send("catalogue", self._engine.catalogue())
        return {}

    def _shut_down(self) -> None:
        engine = self._engine
        if engine is None:
            os._exit(0)  # still importing
        with self._changed:
            self._is_closing = True
            self._tasks.clear()
            self._changed.notify()
        engine.interrupt()


def _request(frame: Frame) -> JobRequest:
    texts = cast(Json, json.loads(frame.tail))
    return JobRequest(
        job_id=str(frame.data["job_id"]),
        prompt=texts["prompt"],
        outputs=tuple(frame.data["outputs"]),
        extra_pnginfo=texts["extra_data"].get("extra_pnginfo") or {},
        wants_previews=bool(frame.data["wants_previews"]),
    )


def _finished(job_id: str, status: Any, error: Any) -> JobFinished:
    now_ms = time.time_ns() // 1_000_000
    return JobFinished(job_id=job_id, status=status, timestamp_ms=now_ms, error=error)
