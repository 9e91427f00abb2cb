"""A SQLite file with one writing thread, whose commits are grouped, and one reading thread."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from engine.api.errors import LaunchError, StorageError

GROUP_S = 0.003  # how long an operation that nobody hurries for waits for company
GROUP_SIZE = 1000

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], Any]
Result = tuple[asyncio.Future[Any], Any, Exception | None]


@dataclass(frozen=True, slots=True)
class _Write:
    operation: Operation
    future: asyncio.Future[Any]
    is_urgent: bool


class Database:
    """Runs operations beside the event loop. What `write` gives is durable when it is awaited."""

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self._path = path
        self._prepare = prepare
        self._writes: SimpleQueue[_Write | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="weft-jobs-read")
        self._read_connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file, make or migrate its tables. Raises: LaunchError, StorageError."""
        loop = asyncio.get_running_loop()
        connection = await loop.run_in_executor(self._reader, self._open)
        self._thread = Thread(
            target=self._write_all, args=(connection, loop), name="weft-jobs-write", daemon=True
        )
        self._thread.start()

    async def close(self) -> None:
        """Finish what was begun and close the file."""
        if self._thread is not None:
            self._writes.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
            await asyncio.get_running_loop().run_in_executor(self._reader, self._close_reader)
        self._reader.shutdown(wait=True)

    def write(
        self, operation: Callable[[sqlite3.Connection], T], *, is_urgent: bool = True
    ) -> "asyncio.Future[T]":
        """Do something in a transaction, in the order of the calls; done when it is on the disk.

        An operation may be called twice, so it must change nothing but the database. What is not
        urgent waits some milliseconds to share a commit. Raises, when awaited: StorageError (disk
        full …), what the operation raises.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._writes.put(_Write(operation, future, is_urgent))
        return future

    async def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Read what is committed. Raises: StorageError."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._read, operation)

    # On the threads -----------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._prepare(connection)
            self._read_connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False
            )
            self._read_connection.execute("PRAGMA query_only = ON")
        except (sqlite3.Error, OSError) as error:
            raise LaunchError(
                f"The job database {self._path} cannot be opened: {error}.",
                hint="Check the disk and the permissions, or move the file away to start anew.",
            ) from error
        return connection

    def _close_reader(self) -> None:
        if self._read_connection is not None:
            self._read_connection.close()

    def _read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        assert self._read_connection is not None
        try:
            return operation(self._read_connection)
        except sqlite3.Error as error:
            raise _storage_error(self._path, error) from error

    def _write_all(self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        while group := self._next_group():
            loop.call_soon_threadsafe(_settle, self._write_group(connection, group))
        connection.close()

    def _next_group(self) -> "list[_Write]":
        """All that waits, with what comes within some milliseconds unless it is urgent.

        Empty at the end.
        """
        group: list[_Write] = []
        deadline = float("inf")
        is_urgent = False
        while len(group) < GROUP_SIZE:
            left = 0.0 if is_urgent else deadline - time.monotonic()
            try:
                write = self._writes.get(left > 0, None if left > GROUP_S else left)
            except Empty:
                break
            if write is None:
                if group:
                    self._writes.put(None)  # the end, once these are done
                break
            if not group:
                deadline = time.monotonic() + GROUP_S
            group.append(write)
            is_urgent = is_urgent or write.is_urgent
        return group

    def _write_group(self, connection: sqlite3.Connection, group: "list[_Write]") -> list[Result]:
        """One transaction for all; if it fails, one for each, so that only the guilty one fails."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            results: list[Result] = [(w.future, w.operation(connection), None) for w in group]
            connection.execute("COMMIT")
            return results
        except Exception as error:  # noqa: BLE001 - it goes to the caller; the thread lives on
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if len(group) > 1:
                return [r for write in group for r in self._write_group(connection, [write])]
            if isinstance(error, sqlite3.Error):
                error = _storage_error(self._path, error)
            return [(group[0].future, None, error)]


def _settle(results: list[Result]) -> None:
    for future, value, error in results:
        if future.cancelled():
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


def _storage_error(path: Path, error: Exception) -> StorageError:
    is_full = "full" in str(error)
    return StorageError(
        f"The job database {path} cannot be used: {error}.",
        hint="Free some space on the disk." if is_full else "Check the disk and its permissions.",
    )
