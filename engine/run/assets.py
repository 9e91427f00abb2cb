"""Files of jobs: what nodes read by name and save under the customary names.

A saved file is named `prefix_00001_.ext`. The counter of each (folder, prefix) lives in SQLite, so
that a folder is listed once ever; a name is bound to (job, node, index), so that a retry of the
job writes the same file again.
"""

import errno
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, cast

from engine.api.errors import EngineError, StorageError, UnsafePath
from engine.api.whole_file import write_whole
from engine.graph.values import annotated
from engine.run.digests import Digests
from engine.run.folders import PLACES, Folders

_SCHEMA = """
CREATE TABLE IF NOT EXISTS counters (
    place TEXT, prefix TEXT, last INTEGER NOT NULL, PRIMARY KEY (place, prefix)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (
    job TEXT, node TEXT, number TEXT, place TEXT, name TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (job, node, number, place)
) WITHOUT ROWID;
"""
_KEPT_DAYS = 30
_TELL_EVERY_S = 1.0
_MARK = re.compile(r"%([^%\n]{1,200})%")
_FORBIDDEN = re.compile(r'[\\/:*?"<>|\x00-\x1f]')
_DATE_PARTS: Mapping[str, str] = {
    "yyyy": "%Y", "yy": "%y", "MM": "%m", "dd": "%d", "hh": "%H", "mm": "%M", "ss": "%S"
}  # fmt: skip
_MARKED_TIMES: Mapping[str, str] = {
    "year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"
}  # fmt: skip

Note = Callable[[str, str], None]  # folder and name


class Assets:
    """The files of one worker; `view` gives what a node call may do with them.

    `announce` is told how far the reading of a large file is while a job waits for its digest.
    """

    def __init__(
        self,
        folders: Folders,
        digests: Digests,
        database: Path,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self.folders = folders
        self.digests = digests
        self._names = _Names(database)
        self._announce = announce

    def resolve(self, folder: str, name: str) -> Path:
        """The existing file of a name, which may end in ` [input]`, ` [output]` or ` [temp]`.

        Raises: MissingModel, UnsafePath.
        """
        if folder in PLACES:
            folder, name = annotated(folder, name)
        return self.folders.resolve(folder, name)

    def file_digest(self, folder: str, name: str, check: Callable[[], None] = lambda: None) -> str:
        """The digest of a file by its name, or of a folder of datasets with all its files.

        `check` is called while it is read, and may raise.

        A name that ends in `/` stands for all files in that sub-folder.
        Raises: MissingModel, UnsafePath, StorageError.
        """
        if name.endswith("/"):
            files = sorted(self.folders.below(folder, name).items())
            return str([(file, self.digests.digest(path)) for file, path in files])
        started = told = time.monotonic()

        def progress(path: Path, done: int, size: int) -> None:
            nonlocal told
            check()
            now = time.monotonic()
            if self._announce is not None and now - told > _TELL_EVERY_S:
                told = now
                left = (now - started) * (size - done) / done
                self._announce(f"Reading {path.name}: {100 * done // size} %, {left:.0f} s left.")

        path = self.resolve(folder, name)
        if path.is_dir():
            return self.digests.folder_digest(path, progress)
        return self.digests.digest(path, progress)

    def read_ahead(self, tell: Callable[[str, float], None] | None = None) -> None:
        """Read the model files whose digests are not known, beside everything else.

        `tell` hears which file is read and which share of it is done, about once a second.
        """
        told = ("", 0.0)

        def progress(path: Path, done: int, size: int) -> None:
            nonlocal told
            now = time.monotonic()
            is_due = str(path) != told[0] or done == size or now - told[1] > 1.0
            if tell is not None and is_due:
                told = (str(path), now)
                tell(str(path), done / max(1, size))

        self.digests.start_background(self._model_files(), progress)

    def _model_files(self) -> Iterator[Path]:
        for kind in self.folders.kinds():
            for name in self.folders.list_files(kind):
                with suppress(EngineError):  # it went away meanwhile
                    yield self.folders.resolve(kind, name)

    def is_there(self, shown: Mapping[str, Any]) -> bool:
        """Whether a file that a node shows ({"filename", "subfolder", "type"}) still exists."""
        name = f"{shown.get('subfolder') or ''}/{shown.get('filename')}".lstrip("/")
        place = shown.get("type", "output")
        try:
            return place in PLACES and self.folders.join(str(place), name).is_file()
        except UnsafePath:
            return False

    def view(
        self,
        job_id: str,
        node_id: str,
        call_index: int,
        prompt: Callable[[], Mapping[str, Any]],
        note: Note = lambda _, __: None,
    ) -> "CallFiles":
        """The files as one call of a node sees them; `note` is told which it asks for by name."""
        return CallFiles(
            assets=self,
            job_id=job_id,
            node_id=node_id,
            call_index=call_index,
            prompt=prompt,
            note=note,
        )

    def reserve(
        self, place: str, prefix: str, extension: str, bound_to: tuple[str, str, str]
    ) -> tuple[str, int]:
        """The prefix and number of the next file with a prefix, the same again for a retry.

        `bound_to` is (job, node, index). Raises: StorageError, UnsafePath.
        """
        directory = self.folders.join(place, f"{prefix}_").parent
        stem = _split(prefix)[1]
        return self._names.reserve(place, prefix, directory, stem, extension, bound_to)

    def close(self) -> None:
        """End the reading ahead and close the database."""
        self.digests.close()
        self._names.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFiles:
    """Implements `engine.api.context.Files` for one call of a node."""

    assets: Assets
    job_id: str
    node_id: str
    call_index: int
    prompt: Callable[[], Mapping[str, Any]]
    note: Note

    def resolve(self, folder: str, name: str) -> Path:
        self.note(folder, name)
        return self.assets.resolve(folder, name)

    def below(self, folder: str, name: str) -> Mapping[str, Path]:
        return self.assets.folders.below(folder, name)

    def place(self, folder: str, name: str) -> Path:
        return self.assets.folders.join(folder, name)

    def digest(self, path: Path) -> str:
        return self.assets.digests.digest(path)

    def work_folder(self, name: str) -> Path:
        return self.assets.folders.join_under(self.assets.folders.state, name)

    def save(
        self,
        write: Callable[[BinaryIO], None],
        *,
        prefix: str,
        extension: str,
        folder: str = "output",
        index: int = 0,
        size_px: tuple[int, int] | None = None,
    ) -> dict[str, str]:
        """See `engine.api.context.Files.save`."""
        filled = filled_prefix(prefix, self.prompt, size_px, datetime.now())
        bound_to = (self.job_id, self.node_id, f"{self.call_index}.{index}")
        stored, number = self.assets.reserve(folder, filled, extension, bound_to)
        subfolder, stem = _split(stored)
        filename = file_name(stem, number, extension)
        path = self.assets.folders.join(
            folder, f"{subfolder}/{filename}" if subfolder else filename
        )
        _write_whole(path, write)
        return {"filename": filename, "subfolder": subfolder, "type": folder}


def filled_prefix(
    prefix: str,
    prompt: Callable[[], Mapping[str, Any]],
    size_px: tuple[int, int] | None,
    now: datetime,
) -> str:
    """A prefix with its marks filled in: %date:yyyy-MM-dd%, %year%, %width%, %Node.widget% …

    Unknown marks stay as they are.
    """
    if "%" not in prefix:
        return prefix

    def value(match: re.Match[str]) -> str:
        mark = match[1]
        if mark.startswith("date:"):
            return _FORBIDDEN.sub("-", _date(mark[5:], now))
        if mark == "date":
            return now.strftime("%Y%m%d%H%M%S")
        if mark in _MARKED_TIMES:
            return now.strftime(_MARKED_TIMES[mark])
        if size_px is not None and mark in ("width", "height"):
            return str(size_px[0 if mark == "width" else 1])
        found = _widget(mark, prompt()) if "." in mark else None
        return match[0] if found is None else _FORBIDDEN.sub("_", str(found))[:100]

    return _MARK.sub(value, prefix)


def _date(pattern: str, now: datetime) -> str:
    parts = re.split("(yyyy|yy|MM|dd|hh|mm|ss)", pattern)
    return "".join(now.strftime(_DATE_PARTS[p]) if p in _DATE_PARTS else p for p in parts)


def _widget(mark: str, prompt: Mapping[str, Any]) -> object:
    """The input `widget` of the node that `title.widget` names by title, type or id."""
    name, _, widget = mark.rpartition(".")
    for node_id, node in prompt.items():
        title = (node.get("_meta") or {}).get("title")
        if name in (title, node.get("class_type"), node_id):
            value = cast("Mapping[str, Any]", node.get("inputs", {})).get(widget)
            if isinstance(value, str | int | float):
                return value
    return None


def _split(prefix: str) -> tuple[str, str]:
    """Sub-folder and start of the file name."""
    folder, _, stem = prefix.replace("\\", "/").rpartition("/")
    return "/".join(p for p in folder.split("/") if p not in ("", ".")), stem


def file_name(stem: str, number: int, extension: str) -> str:
    """The customary name of the file of that number."""
    return f"{stem}_{number:05}_.{extension.lstrip('.')}"


def _write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file so that it is there as a whole or not at all. Raises: StorageError."""
    try:
        write_whole(path, write, is_durable=False)
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """A failed write, with what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason, hint = "the disk is full", "Free some space, then run the job again."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason, hint = "permission denied", "Allow writing there, or use --output-directory."
    else:
        reason, hint = str(error.strerror or error), "Check the disk and the folder."
    return StorageError(f"The file {path} cannot be written: {reason}.", hint=hint)


class _Names:
    """Counters and bound names, in SQLite; several processes may share them."""

    def __init__(self, database: Path) -> None:
        self._path = database
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None

    def reserve(
        self,
        place: str,
        prefix: str,
        directory: Path,
        stem: str,
        extension: str,
        bound_to: tuple[str, str, str],
    ) -> tuple[str, int]:
        with self._lock:
            try:
                connection = self._connection = self._connection or _open(self._path)
                connection.execute("BEGIN IMMEDIATE")
                try:
                    found = self._reserve(
                        connection, place, prefix, directory, stem, extension, bound_to
                    )
                    connection.execute("COMMIT")
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise StorageError(
                    f"The file names in {self._path} cannot be used: {error}.",
                    hint="Check the disk and its permissions; the file may be deleted.",
                ) from error
            return found

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _reserve(
        self,
        connection: sqlite3.Connection,
        place: str,
        prefix: str,
        directory: Path,
        stem: str,
        extension: str,
        bound_to: tuple[str, str, str],
    ) -> tuple[str, int]:
        row = connection.execute(
            "SELECT name FROM names WHERE job = ? AND node = ? AND number = ? AND place = ?",
            (*bound_to, place),
        ).fetchone()
        if row is not None:
            known, _, digits = str(row[0]).rpartition("/#")
            return known, int(digits)
        row = connection.execute(
            "SELECT last FROM counters WHERE place = ? AND prefix = ?", (place, prefix)
        ).fetchone()
        number = (_highest(directory, stem) if row is None else int(row[0])) + 1
        if row is not None and (directory / file_name(stem, number, extension)).exists():
            number = _highest(directory, stem) + 1  # somebody else put files there
        connection.execute(
            "INSERT OR REPLACE INTO counters VALUES (?, ?, ?)", (place, prefix, number)
        )
        connection.execute(
            "INSERT INTO names VALUES (?, ?, ?, ?, ?, ?)",
            (*bound_to, place, f"{prefix}/#{number}", time.time()),
        )
        return prefix, number


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        return _connect(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:  # damaged: numbers are found again by listing the folders
        for suffix in ("", "-wal", "-shm"):
            with suppress(OSError):
                path.with_name(path.name + suffix).unlink()
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(_SCHEMA)
        connection.execute("DELETE FROM names WHERE at < ?", (time.time() - _KEPT_DAYS * 86400,))
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _highest(directory: Path, stem: str) -> int:
    """The highest number among the files with a prefix in a folder."""
    pattern = re.compile(re.escape(stem) + r"_(\d{1,18})(?:\D|$)")
    highest = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                match = pattern.match(entry.name)
                if match:
                    highest = max(highest, int(match[1]))
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise storage_error(directory, error) from error
    return highest
