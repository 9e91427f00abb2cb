"""Results of nodes on disk: key -> digest -> bytes, so that work survives a restart.

A result is one file named by the SHA-256 of its bytes, written beside and renamed; only then its
key is committed to the index, an SQLite file that may be deleted at any time. A file whose bytes do
not have their digest counts as absent. Writing happens on a thread of its own and never fails a
job. Several processes may share a store; each knows the entries of its start and its own.
"""

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

from engine.api.errors import EngineError, StorageError
from engine.run.codec import CodecTable
from engine.run.memory_cache import Result

_SLOW_S = 0.1
_START_RATE = 100e6  # bytes a second, until a write was measured
_PENDING_BYTES = 1 << 30
_PIN_DAYS = 7
_ORPHAN_S = 3600.0
_SPARE_BYTES = 200 << 20
_QUIET_S = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries_1 (
    key TEXT PRIMARY KEY, digest TEXT NOT NULL, size INTEGER NOT NULL, used REAL NOT NULL, job TEXT
) WITHOUT ROWID;
"""


@dataclass(slots=True, kw_only=True)
class Entry:
    """Where the bytes of a key are. `job` is the unfinished job that needs it, if any."""

    digest: str
    size: int
    used: float
    job: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Write:
    key: str
    result: Result
    size: int
    job_id: str


def default_budget(folder: Path) -> int:
    """Bytes that the store may take: 10 GB, or a tenth of the free disk if that is less."""
    return min(10 * 10**9, shutil.disk_usage(folder).free // 10)


class DiskCache:
    """The store in a folder. `warn` is told, at most once a minute, when writing fails.

    Raises: StorageError when the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        codecs: CodecTable,
        *,
        budget_bytes: int | None = None,
        warn: Callable[[str], None],
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"The folder {folder} for results cannot be made: {error.strerror}.",
                hint="Check the disk and the permissions, or choose another --base-directory.",
            ) from error
        self._folder = folder
        self._codecs = codecs
        self._budget = default_budget(folder) if budget_bytes is None else budget_bytes
        self._warn = warn
        self._lock = Lock()
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # least recently used first
        self._digests: Counter[str] = Counter()
        self._bytes = 0
        self._touched: set[str] = set()
        self._pending_bytes = 0
        self._rate = _START_RATE
        self._quiet_until = 0.0
        self._database = self._open_index()
        self._tasks: SimpleQueue[_Write | Event | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="weft-store", daemon=True)
        self._thread.start()

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def get(self, key: str) -> Result | None:
        """The result of a key; None when it is absent or damaged."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            entry.used = time.time()
            self._entries.move_to_end(key)
            self._touched.add(key)
        try:
            data = self._path(entry.digest).read_bytes()
            if hashlib.sha256(data).hexdigest() == entry.digest:
                return _unpacked(data, self._codecs)
        except (OSError, ValueError, LookupError, EngineError):
            pass  # gone, or written by a version that could store other things
        self.discard(key)
        return None

    def offer(self, key: str, result: Result, *, job_id: str, shows_files: bool = False) -> None:
        """Store a result later, if its node ran longer than 100 ms and than writing it takes.

        Results that show files are always stored, since they stand for an effect. The entry is not
        thrown out before `job_id` has ended.
        """
        if result.seconds < _SLOW_S and not shows_files:
            return
        size = sum(self._codecs.size_of(v) for values in result.outputs for v in values)
        if (result.seconds * self._rate < size and not shows_files) or size > self._budget:
            return
        with self._lock:
            if key in self._entries or self._pending_bytes + size > _PENDING_BYTES:
                return
            self._pending_bytes += size
        self._tasks.put(_Write(key=key, result=result, size=size, job_id=job_id))

    def discard(self, key: str) -> None:
        """Forget a key, and its file if no other key has the same bytes."""
        with self._lock:
            self._remove(key)
            self._commit("DELETE FROM entries_1 WHERE key = ?", [(key,)])

    def job_ended(self, job_id: str) -> None:
        """Entries that were kept for this job may go again."""
        with self._lock:
            keys = [key for key, entry in self._entries.items() if entry.job == job_id]
            for key in keys:
                self._entries[key].job = None
            if keys:
                self._commit("UPDATE entries_1 SET job = NULL WHERE job = ?", [(job_id,)])

    def flush(self) -> None:
        """Wait until everything offered so far is stored or given up."""
        done = Event()
        self._tasks.put(done)
        while self._thread.is_alive() and not done.wait(0.1):
            pass

    def close(self) -> None:
        """Store what was offered, and close the index."""
        self._tasks.put(None)
        self._thread.join()
        with self._lock:
            used = [(self._entries[k].used, k) for k in self._touched if k in self._entries]
            self._commit("UPDATE entries_1 SET used = ? WHERE key = ?", used)
            self._database.close()

    # The index ------------------------------------------------------------------------------------

    def _open_index(self) -> sqlite3.Connection:
        path = self._folder / "index.sqlite"
        try:
            database = _connect(path)
            rows = database.execute(
                "SELECT key, digest, size, used, job FROM entries_1 ORDER BY used"
            )
            for key, digest, size, used, job in rows.fetchall():
                self._add(key, Entry(digest=digest, size=size, used=used, job=job))
        except sqlite3.OperationalError as error:  # locked, read-only …: live without an index
            self._complain(f"Results cannot be kept over restarts: {error}.")
            database = _connect(":memory:")
        except sqlite3.DatabaseError:
            self._entries.clear()
            self._digests.clear()
            self._bytes = 0
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            database = _connect(path)
        return database

    def _add(self, key: str, entry: Entry) -> None:
        self._entries[key] = entry
        self._digests[entry.digest] += 1
        if self._digests[entry.digest] == 1:
            self._bytes += entry.size

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._digests[entry.digest] -= 1
        if self._digests[entry.digest] == 0:
            del self._digests[entry.digest]
            self._bytes -= entry.size
            with suppress(OSError):
                self._path(entry.digest).unlink(missing_ok=True)

    def _commit(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        try:
            with self._database:
                self._database.executemany(statement, rows)
        except sqlite3.Error as error:
            self._complain(f"The index of stored results cannot be written: {error}.")

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    # Writing, on its own thread -------------------------------------------------------------------

    def _work(self) -> None:
        self._sweep()
        while True:
            task = self._tasks.get()
            if task is None:
                return
            if isinstance(task, Event):
                task.set()
                continue
            try:
                self._write(task)
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                why = "the disk is full" if full else str(error)
                self._complain(f"A result could not be stored for later runs: {why}.")
            except Exception as error:  # noqa: BLE001 - a codec of a foreign value; the job goes on
                self._complain(f"A result could not be stored for later runs: {error!r}.")
            finally:
                with self._lock:
                    self._pending_bytes -= task.size

    def _write(self, task: _Write) -> None:
        started = time.perf_counter()
        data = _packed(task.result, self._codecs)
        if data is None:
            return
        if shutil.disk_usage(self._folder).free < len(data) + _SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        if not path.exists() or path.stat().st_size != len(data):
            path.parent.mkdir(exist_ok=True)
            beside = path.with_name(f"{digest}.{os.urandom(4).hex()}.tmp")
            try:
                beside.write_bytes(data)
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
        entry = Entry(digest=digest, size=len(data), used=time.time(), job=task.job_id)
        with self._lock:
            self._add(task.key, entry)
            row = (task.key, digest, entry.size, entry.used, entry.job)
            self._commit("INSERT OR REPLACE INTO entries_1 VALUES (?, ?, ?, ?, ?)", [row])
            self._evict()
        if len(data) > 1 << 20:
            self._rate = 0.5 * (self._rate + len(data) / (time.perf_counter() - started))

    def _evict(self) -> None:
        """Throw out the least recently used entries that no unfinished job needs."""
        if self._bytes <= self._budget:
            return
        old = time.time() - _PIN_DAYS * 86400
        gone: list[tuple[str]] = []
        for key in list(self._entries):
            entry = self._entries[key]
            if entry.job is None or entry.used < old:
                self._remove(key)
                gone.append((key,))
                if self._bytes <= self._budget:
                    break
        self._commit("DELETE FROM entries_1 WHERE key = ?", gone)

    def _sweep(self) -> None:
        """Delete files that no index entry names: from crashes, or after the index was deleted."""
        old = time.time() - _ORPHAN_S
        for path in self._folder.glob("??/*"):
            with suppress(OSError):
                if path.name not in self._digests and path.stat().st_mtime < old:
                    path.unlink()

    def _complain(self, message: str) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            self._warn(message)


def _connect(path: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


# The bytes of a result: a length, a JSON head, then the values one after the other ----------------


def _packed(result: Result, codecs: CodecTable) -> bytes | None:
    """A result as bytes; None when one of its values has no codec."""
    bodies: list[bytes] = []
    outputs: list[list[tuple[str, int]]] = []
    for values in result.outputs:
        dumped: list[tuple[str, int]] = []
        for value in values:
            stored = codecs.dump(value)
            if stored is None:
                return None
            dumped.append((stored[0], len(stored[1])))
            bodies.append(stored[1])
        outputs.append(dumped)
    ui = codecs.dump(None if result.ui is None else dict(result.ui))
    if ui is None or ui[0] != "json":
        return None
    bodies.append(ui[1])
    reads = [(*place, digest) for place, digest in result.reads.items()]
    told = {"outputs": outputs, "ui": len(ui[1]), "seconds": result.seconds, "reads": reads}
    head = json.dumps(told).encode()
    return b"".join([len(head).to_bytes(4, "big"), head, *bodies])


def _unpacked(data: bytes, codecs: CodecTable) -> Result:
    start = 4 + int.from_bytes(data[:4], "big")
    head = json.loads(data[4:start])
    outputs: list[list[Any]] = []
    for dumped in head["outputs"]:
        values: list[Any] = []
        for name, length in dumped:
            values.append(codecs.load(name, data[start : start + length]))
            start += length
        outputs.append(values)
    ui = json.loads(data[start : start + head["ui"]].decode("utf-8", "surrogatepass"))
    reads = {(folder, name): digest for folder, name, digest in head["reads"]}
    return Result(outputs=tuple(outputs), ui=ui, seconds=head["seconds"], reads=reads)
