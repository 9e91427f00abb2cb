"""Keeps a worker alive and fed: leases jobs, follows their events, ends them in the database.

A worker that dies, hangs after an interrupt, hangs in the import of a pack or grows past its limit
is replaced; the queue and the server go on. All methods belong to the event loop's thread.
"""

import asyncio
import contextlib
import logging

from engine.api.events import LogLine
from engine.api.spec import BUILTIN_PACK, NodeSpec
from engine.graph.catalogue import Catalogue
from engine.graph.validate import Validation, nodes_with_own_check, with_problems
from engine.run.bus import Bus, CatalogueChanged, WorkerChanged, WorkerPhase
from engine.run.catalogue_store import CatalogueStore
from engine.run.job import Json
from engine.run.job_run import Outbox
from engine.run.queue import JobQueue
from engine.run.worker_session import WorkerOptions, WorkerSession, WorkerUnavailable

log = logging.getLogger("weft.worker")


class Supervisor:
    """The worker as the server sees it; starts another one whenever it ends."""

    def __init__(
        self, queue: JobQueue, bus: Bus, catalogue: CatalogueStore, options: WorkerOptions
    ) -> None:
        self._queue = queue
        self._bus = bus
        self._store = catalogue
        self._options = options
        self._outbox = Outbox(bus)
        self._session: WorkerSession | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._phase: WorkerPhase = "stopped"
        self._trouble = ""

    async def start(self) -> None:
        """Begin to keep a worker; returns before it is ready."""
        self._keeper = asyncio.create_task(self._keep(), name="weft-supervisor")

    async def stop(self) -> None:
        """Hand the running job back to the queue and end the worker."""
        self._is_stopping = True
        if self._session is not None:
            self._session.stop()
        if self._keeper is not None:
            if self._session is None:
                self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper

    @property
    def phase(self) -> WorkerPhase:
        return self._phase

    @property
    def trouble(self) -> str:
        """Why the last worker could not start; empty when it could."""
        return self._trouble

    @property
    def catalogue(self) -> Catalogue:
        """Raises: NotReady."""
        return self._store.known.catalogue

    @property
    def reading(self) -> tuple[str, float] | None:
        """The model file whose digest the worker makes now, and the share that is read."""
        return self._session.reading if self._session else None

    @property
    def memory_bytes(self) -> int | None:
        """What the worker uses now."""
        return self._session.memory_bytes if self._session else None

    @property
    def pid(self) -> int | None:
        """The process of the worker, if there is one."""
        return self._session.pid if self._session else None

    # Requests -----------------------------------------------------------------------------------

    async def interrupt(self, job_id: str | None = None) -> bool:
        """Stop the running job (if it is that one); False if it does not run.

        A worker that does not stop within the grace time is replaced.
        """
        return self._session is not None and self._session.interrupt(job_id)

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """Ask the worker to give memory back as soon as no job runs."""
        if self._session is not None and self._phase == "ready":
            data = {"unload_models": unload_models, "free_memory": free_memory}
            self._session.send("free", data)

    async def reload_packs(self) -> None:
        """Load the packs again, once the running job has ended."""
        if self._session is not None and self._phase == "ready":
            self._session.send("reload")

    async def refresh(self) -> None:
        """Bring the choices up to date that class-style nodes of packs read at that moment."""
        session = self._session
        if session is None or self._phase != "ready":
            return
        if any(map(_may_list_files, self.catalogue)):
            await session.refresh()

    async def peek(self, prompt: Json, node_id: str, output: int, job_id: str) -> Json:
        """What is kept for an output of a prompt, also while a job runs.

        Raises: WorkerUnavailable when the worker does not answer in time.
        """
        session = self._session
        if session is None:
            raise WorkerUnavailable("The worker that keeps the results does not run.")
        return await session.peek(prompt, node_id, output, job_id)

    async def validate(self, validation: Validation) -> Validation:
        """The validation with what the own checks of its nodes say.

        Raises: WorkerUnavailable when the worker does not answer in time.
        """
        catalogue = self.catalogue
        node_ids = nodes_with_own_check(validation, catalogue)
        if not node_ids:
            return validation
        session = self._session
        if session is None:
            raise WorkerUnavailable("The worker that checks these nodes does not run.")
        problems = await session.validate(validation.graph.to_json(), node_ids)
        return with_problems(validation, catalogue, problems)

    # Keeping a worker ---------------------------------------------------------------------------

    async def _keep(self) -> None:
        failures = 0
        while not self._is_stopping:
            self._set_phase("starting", self._trouble)
            session = self._session = WorkerSession(self._queue, self._outbox, self._options, self)
            ending = await session.live()
            self._session = None
            is_well = ending.was_ready or ending.reason == "pack"  # starts without that pack
            failures = 0 if is_well else failures + 1
            self._trouble = "" if is_well else ending.message
            if self._is_stopping:
                break
            log.warning("%s", ending.message)
            self._bus.publish(LogLine(text=ending.message, level="warning"))
            waits = self._options.restart_waits_s
            await asyncio.sleep(waits[min(failures, len(waits) - 1)])
        self._set_phase("stopped", "")

    def is_ready(self) -> None:
        """The session's worker takes jobs."""
        self._trouble = ""
        self._set_phase("ready", "")

    def take_catalogue(self, data: Json) -> None:
        """The session's worker told its node types."""
        if self._store.update(data):
            self._bus.publish(CatalogueChanged())

    def _set_phase(self, phase: WorkerPhase, message: str) -> None:
        if phase != self._phase:
            self._phase = phase
            self._bus.publish(WorkerChanged(phase=phase, message=message))


def _may_list_files(spec: NodeSpec) -> bool:
    return spec.pack != BUILTIN_PACK and any(item.choices is not None for item in spec.inputs)
