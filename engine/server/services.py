"""What the server asks of the rest of the engine; `engine.bootstrap` builds it."""

import asyncio
from typing import Protocol

from engine.config import Config
from engine.graph.validate import Validation
from engine.run.bus import Bus, WorkerPhase
from engine.run.catalogue_store import CatalogueStore, Contents
from engine.run.folders import Folders
from engine.run.queue import JobQueue

FIRST_WORKER_S = 120.0


class Worker(Protocol):
    """The worker process as the server sees it."""

    @property
    def phase(self) -> WorkerPhase: ...

    async def interrupt(self, job_id: str | None = None) -> bool: ...

    async def free(self, *, unload_models: bool, free_memory: bool) -> None: ...

    async def validate(self, validation: Validation) -> Validation: ...


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
    def catalogue(self) -> CatalogueStore: ...
    @property
    def supervisor(self) -> Worker: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


async def contents_of(services: Services) -> Contents:
    """The node types, packs and devices; at the very first start they come with the worker.

    Raises: NotReady when the first worker takes too long.
    """
    try:
        async with asyncio.timeout(FIRST_WORKER_S):
            return await services.catalogue.wait()
    except TimeoutError:
        return services.catalogue.known
