"""Results of nodes in memory, least recently used first out, by bytes; and what a result is."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from engine.run.reads import Place, Reads


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a node gave: per output its list of values (one item unless mapped), and its `ui`.

    `reads` are the files that went into it beside those of its key (see `engine.run.reads`).
    """

    outputs: tuple[list[Any], ...] = ()
    ui: Mapping[str, Any] | None = None
    seconds: float = 0.0
    reads: Reads = field(default_factory=dict[Place, str | None])


class MemoryCache:
    """Keeps results within a budget of bytes, or of entries (`max_entries`). Thread-safe."""

    def __init__(
        self,
        *,
        budget_bytes: int,
        size_of: Callable[[Any], int],
        max_entries: int | None = None,
    ) -> None:
        self._budget = budget_bytes
        self._max_entries = max_entries
        self._size_of = size_of
        self._entries: OrderedDict[str, tuple[Result, int]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def get(self, key: str) -> Result | None:
        """The result of a key, which becomes the most recently used."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: str, result: Result) -> None:
        """Keep a result; one that is larger than the whole budget is not kept."""
        size = 200 + sum(self._size_of(v) for values in result.outputs for v in values)
        if result.ui is not None:
            size += self._size_of(result.ui)
        with self._lock:
            self._remove(key)
            if size > self._budget or self._max_entries == 0:
                return
            self._entries[key] = (result, size)
            self._bytes += size
            while self._bytes > self._budget or self._has_too_many:
                self._remove(next(iter(self._entries)))

    def discard(self, key: str) -> None:
        with self._lock:
            self._remove(key)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    @property
    def _has_too_many(self) -> bool:
        return self._max_entries is not None and len(self._entries) > self._max_entries

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry[1]
