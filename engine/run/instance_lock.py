"""One server per data folder: a lock that the system lets go when its process ends, however."""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from engine.api.errors import LaunchError


class InstanceLock:
    """The right to use a data folder. The lock is SQLite's, which works on every platform."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "server.lock"
        self._about = state_dir / "server.json"
        self._connection: sqlite3.Connection | None = None

    def acquire(self, port: int) -> None:
        """Take the folder. Raises: LaunchError naming the server that has it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise LaunchError(
                f"The folder {self._path.parent} cannot be written: {error}.",
                hint="Check its permissions, or use another --base-directory.",
            ) from error
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            connection.close()
            raise LaunchError(
                f"Another server uses the folder {self._path.parent}{self._other()}.",
                hint="Use that one, stop it, or start this one with another --base-directory.",
            ) from error
        self._connection = connection
        self._about.write_text(json.dumps({"pid": os.getpid(), "port": port}), encoding="utf-8")

    def release(self) -> None:
        """Let the folder go; may be called twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._about.unlink(missing_ok=True)

    def _other(self) -> str:
        try:
            about: dict[str, Any] = json.loads(self._about.read_text(encoding="utf-8"))
            return f" (process {about['pid']}, port {about['port']})"
        except (OSError, ValueError, KeyError, TypeError):
            return ""
