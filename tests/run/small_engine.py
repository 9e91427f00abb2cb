"""A worker core with small nodes, real caches and files in a folder; records its events."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

from engine.api import AnyValue, Int, NodeOutput, Options, RunContext, node
from engine.api.events import (
    JobFinished,
    NodeFailed,
    NodeFinished,
    NodesCached,
    NodeStarted,
    RunEvent,
)
from engine.api.node import NodeType, node_type_of
from engine.plugins.registry import NodeRegistry
from engine.run.assets import Assets
from engine.run.codec import CodecTable
from engine.run.core import JobRequest, WorkerCore
from engine.run.digests import Digests
from engine.run.disk_cache import DiskCache
from engine.run.folders import make_folders
from engine.run.keys import PastKeys
from engine.run.memory_cache import MemoryCache
from engine.run.store import Caches


class NoModels:
    """Stands where the model pool would be."""

    def __init__(self) -> None:
        self.freed: list[bool] = []

    def free(self, unload_models: bool = True) -> None:
        self.freed.append(unload_models)


@node("Add", category="test")
def add(a: int, b: Annotated[int, Int(1)] = 1) -> int:
    """The sum."""
    return a + b


@node("Show", category="test", is_output=True)
def show(value: AnyValue) -> NodeOutput:
    """Shows a value."""
    return NodeOutput(ui={"values": [value]})


@node("Count", category="test", list_outputs=(0,))
def count(n: int) -> int:
    """The numbers below n, as a list that maps."""
    return list(range(n))  # type: ignore[return-value]


@node("Total", category="test", takes_lists=True)
def total(values: AnyValue) -> int:
    """The sum of a whole list."""
    return sum(values)


@node("Fail", category="test")
def fail(value: AnyValue = None) -> int:
    """Raises."""
    raise ValueError(f"no luck with {value}")


@node("Wait", category="test")
async def wait(seconds: float, value: AnyValue = None) -> AnyValue:
    """Passes a value on after some time."""
    await asyncio.sleep(seconds)
    return value


@node("Pick", category="test", check_lazy=lambda which=None, **_: [which])
def pick(
    which: str,
    left: Annotated[AnyValue, Options(lazy=True)] = None,
    right: Annotated[AnyValue, Options(lazy=True)] = None,
) -> AnyValue:
    """One of two values, lazily."""
    return left if which == "left" else right


@node("Dice", category="test", is_volatile=True)
def dice(ctx: RunContext) -> str:
    """Another value in every job."""
    return ctx.job_id


NODES = (add, show, count, total, fail, wait, pick, dice)


class SmallEngine:
    """A core in `folder`; a new one on the same folder is a restart."""

    def __init__(
        self,
        folder: Path,
        nodes: Sequence[Callable[..., Any] | NodeType] = (),
        *,
        budget_bytes: int = 1 << 24,
        max_entries: int | None = None,
        node_mode: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.events: list[RunEvent] = []
        self.registry = NodeRegistry()
        for item in (*NODES, *nodes):
            self.registry.add(item if isinstance(item, NodeType) else node_type_of(item))
        codecs = CodecTable()
        self.folders = make_folders(base=folder, models=folder / "models")
        state = self.folders.state
        self.warnings: list[str] = []
        self.disk = DiskCache(state / "store", codecs, warn=self.warnings.append)
        self.memory = MemoryCache(
            budget_bytes=budget_bytes, size_of=codecs.size_of, max_entries=max_entries
        )
        self.files = Assets(
            self.folders, Digests(state / "digests.sqlite"), state / "assets.sqlite"
        )
        self.pool = NoModels()
        self.core = WorkerCore(
            self.registry,
            self.pool,  # type: ignore[arg-type]
            self.files,
            Caches(memory=self.memory, disk=self.disk, is_shown_file_there=self.files.is_there),
            self.events.append,
            node_mode=node_mode,
            past=PastKeys(state / "reasons.json"),
        )

    def run(
        self, prompt: dict[str, Any], *outputs: str, job_id: str = "job", previews: bool = True
    ) -> list[RunEvent]:
        """Run a prompt; the events of this run."""
        self.events.clear()
        self.core.run(
            JobRequest(job_id=job_id, prompt=prompt, outputs=outputs, wants_previews=previews)
        )
        return list(self.events)

    def close(self) -> None:
        self.core.close()
        self.files.close()

    # What the events of the last run say

    @property
    def status(self) -> str:
        last = self.events[-1]
        assert isinstance(last, JobFinished)
        return last.status

    @property
    def started(self) -> list[str]:
        return [e.node_id for e in self.events if isinstance(e, NodeStarted)]

    @property
    def cached(self) -> dict[str, str]:
        return {
            node_id: record.state
            for e in self.events
            if isinstance(e, NodesCached)
            for node_id, record in e.records.items()
        }

    @property
    def states(self) -> dict[str, str]:
        found = {e.node_id: e.record.state for e in self.events if isinstance(e, NodeFinished)}
        found.update({e.node_id: "failed" for e in self.events if isinstance(e, NodeFailed)})
        return {**self.cached, **found}

    @property
    def failures(self) -> dict[str, NodeFailed]:
        return {e.node_id: e for e in self.events if isinstance(e, NodeFailed)}

    def reason(self, node_id: str) -> str:
        return next(
            e.record.reason
            for e in self.events
            if isinstance(e, NodeFinished) and e.node_id == node_id
        )

    def shown(self, node_id: str) -> Any:
        """The value that a Show node showed."""
        found = [e for e in self.events if isinstance(e, NodeFinished) and e.node_id == node_id]
        assert found, f"{node_id} did not finish"
        assert found[-1].ui is not None
        return found[-1].ui["values"]


def described(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node in API form; (id, index) tuples are links."""
    links = {k: list(v) if isinstance(v, tuple) else v for k, v in inputs.items()}
    return {"class_type": class_type, "inputs": links}
