"""Composition root of the server process: queue, bus, worker and folders. Never loads torch."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from engine.api.errors import LaunchError
from engine.config import ROOT, Config
from engine.plugins.packs import LEDGER_NAME, quarantine_pack
from engine.run.bus import Bus
from engine.run.catalogue_store import CatalogueStore, catalogue_path
from engine.run.folders import Folders
from engine.run.instance_lock import InstanceLock
from engine.run.queue import JobQueue
from engine.run.settings import config_to_json, folders_of
from engine.run.supervisor import Supervisor
from engine.run.worker_session import WorkerOptions

FIRST_CATALOGUE_S = 300.0
POLL_S = 0.2
DEV_POLL_S = 1.0


@dataclass(slots=True, kw_only=True)
class Services:
    """Everything behind the routes of one server."""

    config: Config
    folders: Folders
    bus: Bus
    queue: JobQueue
    worker: Supervisor
    catalogue: CatalogueStore
    lock: InstanceLock
    _watcher: asyncio.Task[None] | None = field(default=None)

    @property
    def devices(self) -> Sequence[Mapping[str, Any]]:
        """The worker's devices, as the last worker told."""
        return self.catalogue.contents.devices if self.catalogue.contents else ()

    @property
    def packs(self) -> Sequence[Mapping[str, Any]]:
        """What became of each pack, as the last worker told."""
        return self.catalogue.contents.packs if self.catalogue.contents else ()

    async def start(self) -> None:
        """Take the data folder, open the queue, start the worker.

        Returns at once when the node types are known from an earlier start, otherwise when the
        first worker has told them. Raises: LaunchError.
        """
        self.lock.acquire(self.config.port)
        try:
            if self.config.temp_override is None:
                shutil.rmtree(self.config.temp_dir, ignore_errors=True)
            await self.queue.start()
            self.catalogue.load()
            await self.worker.start()
            await self._first_catalogue()
        except BaseException:
            await self.stop()
            raise
        if self.config.dev:
            self._watcher = asyncio.create_task(self._watch_packs())

    async def stop(self) -> None:
        """Hand the running job back, end the worker, close the queue, let the folder go."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        await self.worker.stop()
        await self.queue.stop()
        self.lock.release()

    async def _first_catalogue(self) -> None:
        waiting = asyncio.create_task(self.catalogue.wait())
        for _ in range(int(FIRST_CATALOGUE_S / POLL_S)):
            done, _pending = await asyncio.wait([waiting], timeout=POLL_S)
            if done or self.worker.trouble:
                break
        if not waiting.done():
            waiting.cancel()
            reason = self.worker.trouble or f"it did not answer in {FIRST_CATALOGUE_S:g} s"
            raise LaunchError(f"The worker cannot start: {reason}")

    async def _watch_packs(self) -> None:
        """With --dev: load packs again when one of their files was saved."""
        known = _catalogue_path(self.config, self.folders)
        while True:
            await asyncio.sleep(DEV_POLL_S)
            now = await asyncio.to_thread(_catalogue_path, self.config, self.folders)
            if now != known:
                known = now
                await self.worker.reload_packs()


def build_services(config: Config, *, options: WorkerOptions | None = None) -> Services:
    """The services of a server; `options` are for workers of another kind.

    Raises: LaunchError when a folder or file of the configuration cannot be read.
    """
    folders = folders_of(config)
    bus = Bus()
    queue = JobQueue(folders.state / "jobs.sqlite", publish=bus.publish)
    store = CatalogueStore(_catalogue_path(config, folders))
    return Services(
        config=config,
        folders=folders,
        bus=bus,
        queue=queue,
        worker=Supervisor(queue, bus, store, options or _worker_options(config, folders)),
        catalogue=store,
        lock=InstanceLock(folders.state),
    )


def _worker_options(config: Config, folders: Folders) -> WorkerOptions:
    limit = config.ram_limit_mb
    absolute = replace(config, base_dir=config.base_dir.absolute())
    return WorkerOptions(
        folder=ROOT,
        start={"config": config_to_json(absolute)},
        quarantine=partial(quarantine_pack, folders.custom_nodes, folders.state),
        wants_previews=config.preview_method != "none",
        memory_limit_bytes=None if limit is None else limit << 20,
    )


def _catalogue_path(config: Config, folders: Folders) -> Path:
    packs = folders.custom_nodes if config.load_packs else ()
    sources = [ROOT / "nodes", ROOT / "engine", *packs, folders.state / LEDGER_NAME]
    options = (config.load_packs, config.allow_all_packs, config.dev, config.device)
    options += (config.precision, sys.version)
    return catalogue_path(folders.state, sources, str(options))
