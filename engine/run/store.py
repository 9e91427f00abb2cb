"""The caches of a worker as one: memory first, then disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.api.events import NodeRecord
from engine.run.disk_cache import DiskCache
from engine.run.memory_cache import MemoryCache, Result

FROM_MEMORY = NodeRecord(state="memory", reason="its result was in memory")
FROM_DISK = NodeRecord(state="disk", reason="its result was on disk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caches:
    """Where results of nodes are looked for and kept.

    `is_shown_file_there` tells whether a file that a result shows still exists; a result whose
    file is gone counts as absent, so that it is saved again.
    """

    memory: MemoryCache
    disk: DiskCache | None
    is_shown_file_there: Callable[[Mapping[str, Any]], bool]

    def find(self, key: str) -> tuple[Result, NodeRecord] | None:
        """A kept result and where it was."""
        result = self.memory.get(key)
        record = FROM_MEMORY
        if result is None and self.disk is not None:
            result = self.disk.get(key)
            record = FROM_DISK
            if result is not None:
                self.memory.put(key, result)
        if result is None:
            return None
        if result.ui and not all(map(self.is_shown_file_there, shown_files(result.ui))):
            self.drop(key)
            return None
        return result, record

    def look(self, key: str) -> tuple[Result, NodeRecord] | None:
        """A kept result and where it was, for showing it: the caches stay as they are."""
        result = self.memory.get(key)
        if result is not None:
            return result, FROM_MEMORY
        result = None if self.disk is None else self.disk.get(key)
        return None if result is None else (result, FROM_DISK)

    def peek(self, key: str) -> NodeRecord | None:
        """Where a kept result is, without loading it."""
        if key in self.memory:
            return FROM_MEMORY
        return FROM_DISK if self.disk is not None and key in self.disk else None

    def keep(self, key: str, result: Result, job_id: str) -> None:
        """Keep a result in memory, and on disk if making it again costs more than reading it."""
        self.memory.put(key, result)
        if self.disk is not None:
            files = shown_files(result.ui)
            self.disk.offer(key, result, job_id=job_id, shows_files=bool(files))

    def drop(self, key: str) -> None:
        """Forget a result."""
        self.memory.discard(key)
        if self.disk is not None:
            self.disk.discard(key)


def shown_files(ui: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The files that a node shows, as {"filename", "subfolder", "type"}."""
    if not ui:
        return []
    return [
        item
        for values in ui.values()
        if isinstance(values, list | tuple)
        for item in values
        if isinstance(item, dict) and "filename" in item
    ]
