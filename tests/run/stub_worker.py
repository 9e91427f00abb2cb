"""A worker process whose jobs do what their prompt says; for tests of link and supervisor.

Node inputs: `do` is ok, wait (until interrupted), block (deaf to interrupts), yield (once, when
others go before it), die, eat (memory), print, flood, raise or once_die (die unless the file `mark`
is there).
With `choices` in its start, `do` is one of the words in that file.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from engine.api.errors import Problem
from engine.api.events import (
    JobFinished,
    JobGaveWay,
    JobStarted,
    JobStatus,
    NodeFinished,
    NodeProgress,
    NodeRecord,
    NodesCached,
    NodeStarted,
)
from engine.api.spec import InputSpec, NodeSpec
from engine.run.core import JobRequest
from engine.run.link import Json, WorkerLink
from engine.run.worker_loop import open_link, serve

SPEC = NodeSpec(
    name="Stub",
    title="Stub",
    category="test",
    pack="stub",
    inputs=(InputSpec(name="do", type="STRING"), InputSpec(name="mark", type="STRING")),
    is_output=True,
    has_validate=True,
)


class StubEngine:
    """Goes through the motions of a job of one node."""

    def __init__(self, link: WorkerLink, start: Json) -> None:
        self.link = link
        self.start = start
        self.spec = self.spec_now()
        self.stop = Event()
        self.overtaken = Event()
        self.running: str | None = None
        self.freed = 0

    def run(self, job: JobRequest) -> None:
        self.stop.clear()
        self.overtaken.clear()
        self.running = job.job_id
        emit, now_ms = self.link.emit, time.time_ns() // 1_000_000
        emit(JobStarted(job_id=job.job_id, timestamp_ms=now_ms))
        hits = int(job.extra_pnginfo.get("disk_hits", 0))
        records = {f"d{i}": NodeRecord(state="disk") for i in range(hits)}
        emit(NodesCached(job_id=job.job_id, records=records))
        emit(NodeStarted(job_id=job.job_id, node_id="1", display_id="1"))
        node = job.prompt["1"]
        if node["inputs"]["do"] == "yield" and not Path(node["inputs"]["mark"]).exists():
            Path(node["inputs"]["mark"]).touch()
            assert self.overtaken.wait(20)
            self.running = None
            emit(JobGaveWay(job_id=job.job_id))
            return
        status = self.do(job.job_id, **node["inputs"])
        if status == "success":
            record = NodeRecord(state="ran", seconds=0.001, reason="first run")
            ui = {"pid": [os.getpid()], "odd": [float("nan"), Path("x")]}
            emit(NodeFinished(job_id=job.job_id, node_id="1", display_id="1", record=record, ui=ui))
        self.running = None
        emit(JobFinished(job_id=job.job_id, status=status, timestamp_ms=now_ms + 1))

    def do(self, job_id: str, do: str, mark: str = "") -> JobStatus:
        if mark:
            with Path(mark).open("a") as file:
                file.write(f"{do}\n")
        match do:
            case "wait":
                return "interrupted" if self.stop.wait(60) else "success"
            case "block":
                time.sleep(60)
            case "die":
                os._exit(9)
            case "once_die":
                if Path(mark).read_text().count("\n") < 3:
                    os._exit(9)
            case "eat":
                held = bytearray(300 << 20)
                self.stop.wait(60)
                del held
            case "print":
                print("a pack prints")
                os.write(1, b"and writes to fd 1\n")
            case "flood":
                for i in range(3000):
                    self.link.emit(
                        NodeProgress(
                            job_id=job_id, node_id="1", display_id="1", value=i, maximum=3000
                        )
                    )
            case "raise":
                raise ValueError("a bug in the engine")
        return "success"

    def prepare(self) -> None:
        pass

    def peek(self, prompt: Json, node_id: str, output: int, job_id: str) -> Json:
        return {"node": node_id, "output": output, "job": job_id, "nodes": len(prompt)}

    def overtake(self, job_id: str) -> None:
        if self.running == job_id:
            self.overtaken.set()

    def interrupt(self, job_id: str | None = None) -> bool:
        if self.running is None or job_id not in (None, self.running):
            return False
        self.stop.set()
        return True

    def free(self, *, unload_models: bool = False, free_memory: bool = False) -> None:
        sys.stderr.write(f"freed {unload_models} {free_memory}\n")

    def validate(self, prompt: Mapping[str, Any], node_ids: Sequence[str]) -> list[Problem]:
        if prompt["1"]["inputs"]["do"] == "hang in check":
            time.sleep(60)
        return [
            Problem(code="custom_validation_failed", message="No.", node_id=i, extra={"a": 1})
            for i in node_ids
            if prompt[i]["inputs"]["do"] == "bad"
        ]

    def catalogue(self) -> Json:
        return {
            "specs": [self.spec.to_json()],
            "packs": [{"name": "p"}],
            "devices": [{"name": "cpu"}],
        }

    def reload(self) -> None:
        sys.stderr.write("reloaded\n")

    def spec_now(self) -> NodeSpec:
        if "choices" not in self.start:
            return SPEC
        choices = tuple(Path(self.start["choices"]).read_text().split())
        return replace(
            SPEC, pack="p", inputs=(InputSpec(name="do", type="COMBO", choices=choices),)
        )

    def refresh(self) -> bool:
        old, self.spec = self.spec, self.spec_now()
        return self.spec != old

    def close(self) -> None:
        sys.stderr.write("closed\n")


def build(link: WorkerLink, start: Json) -> StubEngine:
    """The engine; `start` may ask for a fault while packs are imported."""
    jail = Path(start.get("jail", os.devnull))
    for pack, fault in start.get("packs", {}).items():
        if jail.exists() and pack in jail.read_text().split():
            continue
        link.send("pack_start", {"name": pack})
        if fault == "die":
            os._exit(11)
        if fault == "hang":
            time.sleep(60)
    if "broken" in start:
        raise RuntimeError("no torch here")
    return StubEngine(link, start)


if __name__ == "__main__":
    serve(open_link(), build)
    os._exit(0)
