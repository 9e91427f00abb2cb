"""The worker core: runs jobs and tells what happens as events; knows no transport.

`run` is called on the worker's main thread, one job after the other; everything else may be called
from any thread. `emit` is called from several threads.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from engine.api.context import Files, RunContext, Saving
from engine.api.errors import Cancelled, EngineError, GaveWay, GraphInvalid, Problem
from engine.api.events import (
    ErrorReport,
    JobFinished,
    JobGaveWay,
    JobStarted,
    JobStatus,
    LogLine,
    RunEvent,
)
from engine.api.node import NodeType
from engine.api.spec import NodeSpec
from engine.graph.catalogue import Catalogue
from engine.graph.fingerprint import Fingerprinter
from engine.graph.prompt import Graph, Link, Node, parse_prompt
from engine.run.context import JobScope, NodeContext, Previews
from engine.run.executor import Run
from engine.run.failures import error_report
from engine.run.keys import PastKeys, RunKeys
from engine.run.loop import LoopThread
from engine.run.peek import Peeked, peek, reading_limit
from engine.run.reads import ReadFiles
from engine.run.store import Caches
from engine.run.task import Completion, RunParts
from engine.run.texts import MadeTexts

if TYPE_CHECKING:
    from engine.diffusion.residency import ModelPool


class Registry(Protocol):
    """The node types of a worker."""

    def get(self, name: str) -> NodeType: ...

    def specs(self) -> Sequence[NodeSpec]: ...


class JobFiles(Protocol):
    """The files of a worker, of which each node call gets a view of its own."""

    def file_digest(self, folder: str, name: str, check: Callable[[], None]) -> str: ...

    def view(
        self,
        job_id: str,
        node_id: str,
        call_index: int,
        prompt: Callable[[], Mapping[str, Any]],
        note: Callable[[str, str], None],
    ) -> Files: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """One job as the worker gets it: a validated prompt, with constants as the nodes take them.

    `outputs` are the nodes to run; none means all output nodes.
    """

    job_id: str
    prompt: Mapping[str, Any]
    outputs: Sequence[str] = ()
    extra_pnginfo: Mapping[str, Any] = field(default_factory=dict[str, Any])
    wants_previews: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Current:
    """The job that runs now, and how it is stopped."""

    job_id: str
    cancelled: Event
    overtaken: Event
    completions: SimpleQueue[Completion | None]


class WorkerCore:
    """Runs jobs with the node types of a registry.

    `environment` stands for all that decides results beside the graph: code, library versions,
    device class, precision. Nodes are called within `node_mode()` (`torch.no_grad`). After the
    registry changed, call `reload`.
    """

    def __init__(
        self,
        registry: Registry,
        pool: "ModelPool",
        files: JobFiles,
        caches: Caches,
        emit: Callable[[RunEvent], None],
        *,
        environment: str = "",
        past: PastKeys | None = None,
        saving: Saving | None = None,
        node_mode: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._registry = registry
        self._pool = pool
        self._files = files
        self._caches = caches
        self._emit = emit
        self._environment = environment
        self._past = past or PastKeys()
        self._saving = saving or Saving()
        self._node_mode = node_mode
        self._loop = LoopThread(node_mode)
        self._previews = Previews(emit)
        self._copying_types: set[str] = set()
        self._current: _Current | None = None
        self._catalogue = Catalogue({spec.name: spec for spec in registry.specs()})

    @property
    def catalogue(self) -> Catalogue:
        return self._catalogue

    def reload(self, unavailable: Mapping[str, str] | None = None) -> None:
        """Take in the node types that the registry has now, and why others cannot be used."""
        specs = {spec.name: spec for spec in self._registry.specs()}
        self._catalogue = Catalogue(specs, unavailable)
        self._copying_types.clear()

    def run(self, job: JobRequest) -> None:
        """Run a job to its end; all that happens is told by events, and nothing is raised."""
        current = _Current(
            job_id=job.job_id, cancelled=Event(), overtaken=Event(), completions=SimpleQueue()
        )
        self._current = current  # first: who hears of the start may ask at once
        self._emit(JobStarted(job_id=job.job_id, timestamp_ms=_now_ms()))
        status: JobStatus = "error"
        error: ErrorReport | None = None
        try:
            status = "success" if self._execute(job, current) else "error"
        except GaveWay:
            self._emit(JobGaveWay(job_id=job.job_id))
            return
        except Cancelled:
            status = "interrupted"
        except Exception as failure:  # noqa: BLE001 - the worker's loop: one job fails, not the worker
            error = error_report(failure)
        finally:
            self._current = None
        self._previews.finish()
        if self._caches.disk is not None:
            self._caches.disk.job_ended(job.job_id)
        self._emit(
            JobFinished(job_id=job.job_id, status=status, timestamp_ms=_now_ms(), error=error)
        )

    def interrupt(self, job_id: str | None = None) -> bool:
        """Stop the running job, if it is that one, at its next check; False if it is not."""
        current = self._current
        if current is None or job_id not in (None, current.job_id):
            return False
        current.cancelled.set()
        current.completions.put(None)
        return True

    def overtake(self, job_id: str) -> None:
        """Tell the running job, if it is that one, that others go before it."""
        current = self._current
        if current is not None and current.job_id == job_id:
            current.overtaken.set()

    def free(self, *, unload_models: bool = False, free_memory: bool = False) -> None:
        """Let go of loaded models, and with `free_memory` of the results in memory as well."""
        if unload_models or free_memory:
            self._pool.free(unload_models)
        if free_memory:
            self._caches.memory.clear()

    def validate(self, prompt: Mapping[str, Any], node_ids: Sequence[str]) -> list[Problem]:
        """What the own checks of these nodes find. Raises: GraphInvalid."""
        graph = parse_prompt(prompt)
        problems: list[Problem] = []
        for node_id in node_ids:
            node = graph.nodes[node_id]
            for problem in self._own_problems(node, graph):
                problems.append(replace(problem, node_id=node.id, node_type=node.class_type))
        return problems

    def peek(self, prompt: Mapping[str, Any], node_id: str, output: int, job_id: str) -> Peeked:
        """What is kept for an output of a prompt with constants as the nodes take them.

        `job_id` is the job whose results count for nodes that run in every job. May be called
        while a job runs. Raises: GraphInvalid, EngineError.
        """
        maker = self._fingerprinter(job_id, reading_limit())
        return peek(parse_prompt(prompt), node_id, output, maker, self._past, self._caches)

    def close(self) -> None:
        """End the threads and write what is to be kept."""
        self._past.save()
        self._loop.close()
        self._previews.close()
        if self._caches.disk is not None:
            self._caches.disk.close()

    def _execute(self, job: JobRequest, current: _Current) -> bool:
        graph = parse_prompt(job.prompt)
        outputs = tuple(job.outputs) or self._output_nodes(graph)
        if not outputs or not all(node_id in graph.nodes for node_id in outputs):
            raise GraphInvalid(
                "The prompt has no output to run."
                if not outputs
                else f"The prompt has no node {next(i for i in outputs if i not in graph.nodes)}.",
                code="prompt_no_outputs",
            )

        def check_cancelled() -> None:
            if current.cancelled.is_set():
                raise Cancelled

        maker = self._fingerprinter(job.job_id, check_cancelled)
        texts = MadeTexts(graph, self._catalogue, outputs)
        wanted = (*texts.sources, *(i for i in outputs if i not in texts.sources))
        keys = RunKeys(graph, wanted, maker, self._past)
        reads = ReadFiles(maker)

        def prompt(node_id: str) -> Mapping[str, Any]:
            return job.prompt if node_id in graph.nodes else run.prompt()

        def make_context(node_id: str, display_id: str, call_index: int) -> RunContext:
            files = self._files.view(
                job.job_id,
                node_id,
                call_index,
                prompt=lambda: prompt(node_id),
                note=partial(reads.note, node_id),
            )
            return NodeContext(scope=scope, node_id=node_id, display_id=display_id, files=files)

        scope = JobScope(
            job_id=job.job_id,
            prompt=prompt,
            extra_pnginfo=job.extra_pnginfo,
            saving=self._saving,
            texts=lambda node_id: texts.before(node_id, run.kept_values),
            models=self._pool,
            wants_previews=job.wants_previews,
            previews=self._previews,
            emit=self._emit,
            is_cancelled=current.cancelled.is_set,
            is_overtaken=current.overtaken.is_set,
        )
        run = Run(
            RunParts(
                job_id=job.job_id,
                graph=graph,
                outputs=wanted,
                catalogue=self._catalogue,
                find_type=self._registry.get,
                keys=keys,
                reads=reads,
                store=self._caches,
                make_context=make_context,
                emit=self._emit,
                is_cancelled=current.cancelled.is_set,
                free_memory=lambda: self.free(unload_models=True),
                completions=current.completions,
                loop=self._loop,
                copying_types=self._copying_types,
            )
        )
        try:
            with self._node_mode():
                return run.execute()
        finally:
            keys.remember()

    def _fingerprinter(self, job_id: str, check: Callable[[], None]) -> Fingerprinter:
        return Fingerprinter(
            self._catalogue,
            file_digest=lambda folder, name: self._files.file_digest(folder, name, check),
            is_changed=self._is_changed,
            environment=self._environment,
            job_id=job_id,
        )

    def _output_nodes(self, graph: Graph) -> tuple[str, ...]:
        found: list[str] = []
        for node_id, node in graph.nodes.items():
            spec = self._catalogue.get(node.class_type)
            if spec is not None and spec.is_output:
                found.append(node_id)
        return tuple(found)

    def _is_changed(self, node: Node) -> object:
        """What a node says about changes; NaN (run in every job) when its own code fails."""
        ask = self._registry.get(node.class_type).is_changed
        if ask is None:
            return None
        try:
            return ask({n: None if type(v) is Link else v for n, v in node.inputs.items()})
        except Exception as error:  # noqa: BLE001 - the seam to a node's own code
            self._emit(
                LogLine(
                    level="warning", text=f"{node.label}: its check for changes failed: {error}"
                )
            )
            return math.nan

    def _own_problems(self, node: Node, graph: Graph) -> Sequence[Problem]:
        check = self._registry.get(node.class_type).validate
        if check is None:
            return ()
        values = {n: v for n, v in node.inputs.items() if type(v) is not Link}
        types: dict[str, str] = {}
        for name, link in node.links():
            source = graph.nodes.get(link.node_id)
            spec = source and self._catalogue.get(source.class_type)
            if spec and 0 <= link.index < len(spec.outputs):
                types[name] = spec.outputs[link.index].type
        try:
            found = check(values, types)
            if isinstance(found, Sequence):
                return found
            return self._loop.submit(_awaited(found)).result()
        except Exception as error:  # noqa: BLE001 - the seam to a node's own code
            hint = error.hint if isinstance(error, EngineError) else None
            return [
                Problem(
                    code="exception_during_validation",
                    message=f"The own check of {node.label} failed: {error}",
                    hint=hint,
                )
            ]


async def _awaited(found: Any) -> Sequence[Problem]:
    return await found


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
