"""SHA-256 of files, remembered in SQLite by path, size, times and inode."""

import hashlib
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from threading import Event, Lock, Thread

from engine.api.errors import MissingModel, StorageError

Progress = Callable[[Path, int, int], None]  # file, bytes done, bytes in all

_BLOCK = 4 << 20
_READ_WHOLE = 5_000  # folders of more files are told apart by names, sizes and times
_SCHEMA = """
CREATE TABLE IF NOT EXISTS digests (
    path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER,
    digest TEXT NOT NULL
) WITHOUT ROWID;
"""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_Stamp = tuple[int, int, int, int]


class Digests:
    """Digests of files, remembered over restarts. Thread-safe; several processes may share it."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._known: dict[str, tuple[_Stamp, str]] = {}
        self._lock = Lock()
        self._stop = Event()
        self._thread: Thread | None = None
        with suppress(OSError, sqlite3.Error):
            database.parent.mkdir(parents=True, exist_ok=True)
            with closing(_connect(database)) as connection:
                rows = connection.execute("SELECT * FROM digests").fetchall()
            self._known = {path: (tuple(stamp), digest) for path, *stamp, digest in rows}

    def known(self, path: Path) -> str | None:
        """The digest, if the file is unchanged since it was read last, or its name tells it."""
        told = told_digest(path)
        if told is not None:
            return told
        found = self._known.get(str(path))
        try:
            return found[1] if found and found[0] == _stamp(path) else None
        except OSError:
            return None

    def digest(self, path: Path, progress: Progress | None = None) -> str:
        """The SHA-256 of a file (hex); `progress` is told while the file is read.

        For a folder see `folder_digest`.
        Raises: MissingModel, StorageError.
        """
        if path.is_dir():
            return self.folder_digest(path, progress)
        try:
            stamp = _stamp(path)
            known = self.known(path)
            if known is not None:
                return known
            digest = _sha256(path, stamp[0], progress, None)
            assert digest is not None, "only a stopped reading gives nothing"
            if _stamp(path) == stamp:
                self._remember(path, stamp, digest)
        except FileNotFoundError as error:
            raise MissingModel(f"The file {path} is gone.") from error
        except OSError as error:
            raise StorageError(
                f"The file {path} cannot be read: {error.strerror}.",
                hint="Check the disk and the permissions.",
            ) from error
        return digest

    def folder_digest(self, folder: Path, progress: Progress | None = None) -> str:
        """A digest over the names and digests of all files in and below a folder.

        Of more than 5000 files, names, sizes and times stand for their content.
        Raises: MissingModel, StorageError.
        """
        files = sorted(_files_below(folder))
        digest = hashlib.sha256()
        for path in files:
            if len(files) > _READ_WHOLE:
                with suppress(OSError):
                    digest.update(repr((str(path.relative_to(folder)), _stamp(path))).encode())
            else:
                line = f"{path.relative_to(folder).as_posix()}\n{self.digest(path, progress)}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def learn(self, path: Path, digest: str) -> None:
        """Keep the digest of a file that was computed while it was written."""
        with suppress(OSError):
            self._remember(path, _stamp(path), digest)

    def start_background(self, paths: Iterable[Path], progress: Progress | None = None) -> None:
        """Read files whose digests are not known, at idle priority, on a thread of its own.

        `paths` is iterated there, and `progress` is told there.
        """
        self._thread = Thread(
            target=self._read_all, args=(paths, progress), name="weft-digests", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop reading in the background."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _read_all(self, files: Iterable[Path], progress: Progress | None) -> None:
        if sys.platform == "linux":  # elsewhere it would be the whole process
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, 19)
        for path in files:
            if path.is_dir():
                continue  # a model in diffusers' layout: read when it is used
            if self._stop.is_set():
                return
            with suppress(OSError):
                if told_digest(path) is not None:
                    continue
                stamp = _stamp(path)
                found = self._known.get(str(path))
                if found is None or found[0] != stamp:
                    digest = _sha256(path, stamp[0], progress, self._stop)
                    if digest is not None and _stamp(path) == stamp:
                        self._remember(path, stamp, digest)

    def _remember(self, path: Path, stamp: _Stamp, digest: str) -> None:
        with self._lock:
            self._known[str(path)] = (stamp, digest)
            with suppress(OSError, sqlite3.Error), closing(_connect(self._database)) as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)",
                    (str(path), *stamp, digest),
                )


def _files_below(folder: Path) -> Iterable[Path]:
    """The files that are not hidden, nor in hidden folders."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root) / name for name in names if not name.startswith("."))


def told_digest(path: Path) -> str | None:
    """The SHA-256 that the Hugging Face cache names a file by: `…/blobs/<64 hex digits>`."""
    try:
        target = Path(os.path.normpath(path.parent / path.readlink()))
    except OSError:
        return None  # no link: every other file
    repository = target.parent.parent.name
    is_blob = target.parent.name == "blobs" and repository.startswith("models--")
    is_named_so = is_blob and _SHA256.fullmatch(target.name) is not None
    return target.name if is_named_so and path.exists() else None


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    # An inode may not fit SQLite's signed 64 bits.
    inode = status.st_ino & 0x7FFF_FFFF_FFFF_FFFF
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode


def _sha256(path: Path, size: int, progress: Progress | None, stop: Event | None) -> str | None:
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            if stop is not None and stop.is_set():
                return None
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(path, done, size)
    return digest.hexdigest()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return _opened(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        path.unlink(missing_ok=True)  # damaged; everything in it can be made again
        return _opened(path)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(_SCHEMA)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection
