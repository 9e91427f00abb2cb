"""What the server asks of the rest of the engine; `engine.bootstrap` builds it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from engine.config import Config
from engine.graph.catalogue import Catalogue
from engine.graph.validate import Validation
from engine.run.bus import Bus, WorkerPhase
from engine.run.folders import Folders
from engine.run.queue import JobQueue


class Worker(Protocol):
    """The worker process as the server sees it."""

    @property
    def phase(self) -> WorkerPhase: ...

    @property
    def catalogue(self) -> Catalogue:
        """Raises: NotReady."""
        ...

    @property
    def reading(self) -> tuple[str, float] | None:
        """The model file whose digest is made now, and the share that is read."""
        ...

    async def interrupt(self, job_id: str | None = None) -> bool: ...

    async def free(self, *, unload_models: bool, free_memory: bool) -> None: ...

    async def refresh(self) -> None:
        """Bring choices up to date that nodes of packs read at that moment."""
        ...

    async def validate(self, validation: Validation) -> Validation: ...

    async def peek(
        self, prompt: dict[str, Any], node_id: str, output: int, job_id: str
    ) -> dict[str, Any]:
        """What is kept for an output of a prompt: {"words", "seconds", "value" or None}."""
        ...


class Services(Protocol):
    """Everything behind the routes."""

    @property
    def config(self) -> Config: ...
    @property
    def folders(self) -> Folders: ...
    @property
    def queue(self) -> JobQueue: ...
    @property
    def bus(self) -> Bus: ...
    @property
    def worker(self) -> Worker: ...
    @property
    def devices(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def packs(self) -> Sequence[Mapping[str, Any]]: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
