"""Model files that lie in no folder of one kind, by kind and name; listed again after a while."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

LooseLister = Callable[[Path], Iterator[tuple[str, str, Path]]]  # root -> kind, name, file

_FRESH_S = 5.0
_Names = Mapping[str, Mapping[str, Path]]


@dataclass(slots=True, kw_only=True)
class LooseFiles:
    """The loose files of one source. Thread-safe."""

    root: Path
    lister: LooseLister
    _known: _Names = field(default_factory=dict[str, Mapping[str, Path]])
    _listed_s: float = float("-inf")
    _lock: Lock = field(default_factory=Lock)

    def of_kind(self, kind: str) -> Mapping[str, Path]:
        """Files of one kind by name."""
        with self._lock:
            if time.monotonic() - self._listed_s > _FRESH_S:
                self._known = self._list()
                self._listed_s = time.monotonic()
            return self._known.get(kind, {})

    def _list(self) -> _Names:
        found: dict[str, dict[str, Path]] = {}
        try:
            for kind, name, path in self.lister(self.root):
                found.setdefault(kind, {}).setdefault(name, path)
        except OSError:
            pass  # the disk went away; what was found so far counts
        return found
