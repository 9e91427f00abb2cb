"""Notices packs that were saved, for `--dev`; whoever owns it calls `poll` from time to time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.plugins.packs import PackSource, find_packs, pack_files

_State = Mapping[str, tuple[int, int]]


class PackWatcher:
    """Remembers the times and sizes of all packs' files."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._states = self._look()

    def poll(self) -> tuple[str, ...]:
        """The packs that changed, came or went since the last call."""
        before, self._states = self._states, self._look()
        names = sorted(before.keys() | self._states.keys())
        return tuple(n for n in names if before.get(n) != self._states.get(n))

    def _look(self) -> dict[str, _State]:
        return {source.name: _state(source) for source in find_packs(self._folders)}


def _state(source: PackSource) -> _State:
    state: dict[str, tuple[int, int]] = {}
    for name, path in pack_files(source):
        try:
            stat = path.stat()
        except FileNotFoundError:  # an editor replaces the file at this moment
            continue
        state[name] = (stat.st_mtime_ns, stat.st_size)
    return state
