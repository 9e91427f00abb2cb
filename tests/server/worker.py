"""Services for tests: real queue, bus and folders, and a worker that only goes through motions.

It leases real jobs and reports what a run of them reports; outputs show what their inputs hold.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.api.events import (
    ErrorReport,
    JobFinished,
    JobStarted,
    JobStatus,
    NodeFailed,
    NodeFinished,
    NodePreview,
    NodeProgress,
    NodeRecord,
    NodesCached,
    NodeStarted,
    RunEvent,
)
from engine.api.spec import InputSpec, NodeSpec, OutputSpec
from engine.config import Config
from engine.graph.catalogue import Catalogue
from engine.graph.validate import Validation
from engine.run.bus import Bus, WorkerChanged, WorkerPhase
from engine.run.folders import make_folders
from engine.run.job import Lease, Outcome
from engine.run.queue import JobQueue, now_ms

SPECS = (
    NodeSpec(
        name="Number",
        title="Number",
        category="test",
        inputs=(InputSpec(name="value", type="INT", options={"default": 0, "max": 1000}),),
        outputs=(OutputSpec(name="INT", type="INT"),),
    ),
    NodeSpec(
        name="Show",
        title="Show",
        category="test",
        inputs=(InputSpec(name="value", type="INT"),),
        is_output=True,
    ),
    NodeSpec(
        name="Wait",
        title="Wait",
        category="test",
        inputs=(InputSpec(name="value", type="INT"),),
        is_output=True,
    ),
    NodeSpec(
        name="Fail",
        title="Fail",
        category="test",
        inputs=(InputSpec(name="value", type="INT"),),
        is_output=True,
    ),
)


def chain(value: int = 1, output: str = "Show") -> dict[str, Any]:
    """A prompt of two nodes."""
    return {
        "1": {"class_type": "Number", "inputs": {"value": value}},
        "2": {"class_type": output, "inputs": {"value": ["1", 0]}},
    }


class MotionWorker:
    """Takes job after job; `Wait` nodes end when `release` is set or the job is interrupted."""

    def __init__(self, queue: JobQueue, bus: Bus) -> None:
        self.queue = queue
        self.bus = bus
        self.phase: WorkerPhase = "starting"
        self.catalogue = Catalogue({spec.name: spec for spec in SPECS})
        self.release = asyncio.Event()
        self.refreshed: Catalogue | None = None
        self.freed: list[tuple[bool, bool]] = []
        self.previews = 0
        self.reading: tuple[str, float] | None = None
        self._task: asyncio.Task[None] | None = None
        self._running: str | None = None
        self._interrupted = asyncio.Event()

    def start(self) -> None:
        self.phase = "ready"
        self.bus.publish(WorkerChanged(phase="ready"))
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def interrupt(self, job_id: str | None = None) -> bool:
        if self._running is None or job_id not in (None, self._running):
            return False
        self._interrupted.set()
        return True

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        self.freed.append((unload_models, free_memory))

    async def refresh(self) -> None:
        self.catalogue = self.refreshed or self.catalogue

    async def validate(self, validation: Validation) -> Validation:
        return validation

    async def peek(
        self, prompt: dict[str, Any], node_id: str, output: int, job_id: str
    ) -> dict[str, Any]:
        value = {"asked": [prompt, node_id, output, job_id]}
        return {"no": 0, "words": "kept", "seconds": 0.5, "value": value}

    async def _work(self) -> None:
        while True:
            lease = await self.queue.lease()
            if lease is None:
                await self.queue.wait()
                continue
            self.queue.start_job(lease)
            self._running = lease.job_id
            self._interrupted.clear()
            await self._run(lease)
            self._running = None

    async def _run(self, lease: Lease) -> None:
        kept: list[RunEvent] = []
        results: dict[str, dict[str, Any]] = {}

        def tell(event: RunEvent, *, keep: bool = False) -> None:
            if keep:
                kept.append(event)
            self.bus.publish(event, client_id=lease.client_id)

        job = lease.job_id
        prompt, outputs = json.loads(lease.prompt_text), lease.outputs
        started_ms = now_ms()
        status: JobStatus = "success"
        tell(JobStarted(job_id=job, timestamp_ms=started_ms), keep=True)
        tell(NodesCached(job_id=job, records={}), keep=True)
        needed = {i: n for i, n in prompt.items() if n["class_type"] == "Number" or i in outputs}
        for node_id, node in needed.items():
            tell(NodeStarted(job_id=job, node_id=node_id, display_id=node_id))
            status = await self._call(job, node_id, node, tell)
            if status != "success":
                break
            ui = {"shown": [node["inputs"]["value"]]} if node["class_type"] != "Number" else None
            if ui:
                results[node_id] = ui
            record = NodeRecord(state="ran", reason="first run")
            tell(
                NodeFinished(job_id=job, node_id=node_id, display_id=node_id, record=record, ui=ui)
            )
        end = JobFinished(job_id=job, status=status, timestamp_ms=now_ms())
        kept.append(end)
        outcome = Outcome(
            state=status,
            started_ms=started_ms,
            ended_ms=end.timestamp_ms,
            results=results,
            records={n: NodeRecord(state="ran", reason="first run") for n in needed},
            events=kept,
        )
        await self.queue.finish(lease, outcome)
        tell(end)

    async def _call(self, job: str, node_id: str, node: dict[str, Any], tell: Any) -> JobStatus:
        match node["class_type"]:
            case "Fail":
                error = ErrorReport(
                    code="node_error", message="It fails.", hint="Do not.", exception_type="Bad"
                )
                tell(
                    NodeFailed(
                        job_id=job,
                        node_id=node_id,
                        display_id=node_id,
                        node_type="Fail",
                        error=error,
                        inputs={"value": "1"},
                    ),
                    keep=True,
                )
                return "error"
            case "Wait":
                tell(
                    NodeProgress(
                        job_id=job, node_id=node_id, display_id=node_id, value=1, maximum=2
                    )
                )
                for step in range(self.previews):
                    tell(
                        NodePreview(
                            job_id=job,
                            node_id=node_id,
                            display_id=node_id,
                            mime="image/jpeg",
                            data=b"jpeg",
                            step=step + 1,
                        )
                    )
                waits = [asyncio.create_task(e.wait()) for e in (self.release, self._interrupted)]
                _, open_ones = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for task in open_ones:
                    task.cancel()
                return "interrupted" if self._interrupted.is_set() else "success"
        return "success"


class TestServices:
    """What `engine.bootstrap` builds, with the worker of this module."""

    __test__ = False

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folders = make_folders(base=config.base_dir, models=config.models_dir)
        self.bus = Bus()
        self.queue = JobQueue(config.state_dir / "jobs.sqlite", self.bus.publish)
        self.devices: Sequence[Mapping[str, Any]] = ()
        self.packs: Sequence[Mapping[str, Any]] = ()
        self.worker = MotionWorker(self.queue, self.bus)
        self.starts_worker = True

    async def start(self) -> None:
        await self.queue.start()
        if self.starts_worker:
            self.worker.start()

    async def stop(self) -> None:
        await self.worker.stop()
        await self.queue.stop()


def config_for(base: Path, **more: Any) -> Config:
    (base / "models" / "checkpoints").mkdir(parents=True, exist_ok=True)
    for name in ("input", "output", "temp", "user"):
        (base / name).mkdir(exist_ok=True)
    return Config(base_dir=base, **more)
