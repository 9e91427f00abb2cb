"""A worker as a child process: its start, its messages, its log and its end."""

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from engine.run.link import Frame, Json, encode_frame, read_frame
from engine.run.process_memory import anonymous_bytes

WORKER_COMMAND = (sys.executable, "-m", "engine.worker_main")
TAIL_LINES = 30


class WorkerProcess:
    """A child process with the link on its stdin and stdout; stderr is its log."""

    def __init__(self, process: asyncio.subprocess.Process, on_log: Callable[[str], None]) -> None:
        self._process = process
        self._on_log = on_log
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._log_task = asyncio.create_task(self._read_log())

    @staticmethod
    async def spawn(
        command: Sequence[str], folder: Path, start: Json, on_log: Callable[[str], None]
    ) -> "WorkerProcess":
        """Start a worker in a folder and send it the first message."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=folder,
            env={**os.environ, "PYTHONFAULTHANDLER": "1", "PYTHONIOENCODING": "utf-8:replace"},
        )
        worker = WorkerProcess(process, on_log)
        worker.send("start", start)
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log_tail(self) -> tuple[str, ...]:
        """The last lines of its log."""
        return tuple(self._tail)

    @property
    def memory_bytes(self) -> int | None:
        return anonymous_bytes(self._process.pid)

    def send(self, kind: str, data: Json | None = None, tail: bytes = b"") -> None:
        """Send a message; to a worker that is gone it is lost, as its end will tell."""
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(encode_frame(Frame(kind=kind, data=data or {}, tail=tail)))

    async def frames(self) -> AsyncIterator[Frame]:
        """Its messages until it ends. Raises: LinkError."""
        assert self._process.stdout is not None
        while (frame := await read_frame(self._process.stdout)) is not None:
            yield frame

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> int:
        """Wait for its end; gives the exit code (negative: the signal)."""
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):  # a grandchild may hold the pipe
            await asyncio.wait_for(self._log_task, 1.0)
        assert self._process.stdin is not None
        self._process.stdin.close()
        return code

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        while chunk := await self._process.stderr.read(1 << 16):
            *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            rest = rest[-(1 << 16) :]
            for line in lines:
                self._log(line)
        self._log(rest)

    def _log(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self._tail.append(text)
            self._on_log(text)
