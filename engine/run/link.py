"""Messages between the server and its worker: frames of JSON and bytes over pipes, never pickle.

A frame is u32 length of the head, u32 length of the tail (both big-endian), a JSON head
`[kind, data]`, and a tail of bytes.
"""

import asyncio
import json
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any, BinaryIO, cast

from engine.api.errors import EngineError
from engine.api.events import JobFinished, JobGaveWay, NodePreview, NodeStarted, RunEvent
from engine.run.event_codec import decode_event, encode_event, plain_json

MAX_HEAD_BYTES = 256 << 20
MAX_TAIL_BYTES = 256 << 20
FLUSH_S = 0.003
FLUSH_EVENTS = 500
QUIET_S = 0.001  # a node that starts this long after the last message is told at once

_SIZES = struct.Struct(">II")
Json = dict[str, Any]


class LinkError(EngineError):
    """The other side sent what is no frame."""

    code = "link_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One message."""

    kind: str
    data: Json = field(default_factory=dict)
    tail: bytes = b""


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame. Raises: LinkError when it is too large."""
    head = plain_json([frame.kind, frame.data]).encode()
    _check(len(head), len(frame.tail))
    return _SIZES.pack(len(head), len(frame.tail)) + head + frame.tail


def decode_frame(head: bytes, tail: bytes) -> Frame:
    """The frame of its two parts. Raises: LinkError."""
    try:
        kind, data = json.loads(head)
    except (ValueError, TypeError, RecursionError) as error:
        raise LinkError(f"A message between server and worker cannot be read: {error}.") from error
    if not isinstance(kind, str) or not isinstance(data, dict):
        raise LinkError("A message between server and worker has no kind or no data.")
    return Frame(kind=kind, data=cast(Json, data), tail=tail)


def _check(head: int, tail: int) -> None:
    if head > MAX_HEAD_BYTES or tail > MAX_TAIL_BYTES:
        raise LinkError(f"A message of {head} + {tail} bytes is too large for the worker's link.")


def decode_events(frame: Frame) -> list[RunEvent]:
    """The run events of an `events` frame. Raises: EngineError."""
    items = cast(Sequence[list[Any]], frame.data.get("events", ()))
    return [decode_event(item, frame.tail) for item in items]


# On the server's side -----------------------------------------------------------------------------


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame, or None at the end. Raises: LinkError."""
    try:
        head_size, tail_size = _SIZES.unpack(await reader.readexactly(_SIZES.size))
        _check(head_size, tail_size)
        head = await reader.readexactly(head_size)
        tail = await reader.readexactly(tail_size) if tail_size else b""
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return decode_frame(head, tail)


# On the worker's side -----------------------------------------------------------------------------


class WorkerLink:
    """The worker's end: blocking reads, and writes of any thread, events gathered for 3 ms."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._lock = Lock()
        self._events: list[list[Any]] = []
        self._sent_s = 0.0
        self._wake = Event()
        self._is_open = True
        Thread(target=self._flush_often, name="weft-link", daemon=True).start()

    def receive(self) -> Frame | None:
        """The next frame, or None when the server is gone. Raises: LinkError."""
        sizes = self._read(_SIZES.size)
        if sizes is None:
            return None
        head_size, tail_size = _SIZES.unpack(sizes)
        _check(head_size, tail_size)
        head = self._read(head_size)
        tail = self._read(tail_size)
        return None if head is None or tail is None else decode_frame(head, tail)

    def send(self, kind: str, data: Mapping[str, Any] | None = None) -> None:
        """Send a message after all events that were emitted before it."""
        with self._lock:
            self._flush()
            self._write(Frame(kind=kind, data=dict(data or {})))

    def emit(self, event: RunEvent) -> None:
        """Send an event soon; pictures, the end of a job and the start of a node at once.

        If a node ends the process, the server knows which one it was; only of nodes that follow
        each other within a millisecond it may know an earlier one.
        """
        with self._lock:
            if isinstance(event, NodePreview):
                self._flush()
                data: Json = {"events": [encode_event(event)]}
                self._write(Frame(kind="events", data=data, tail=event.data))
                return
            self._events.append(encode_event(event))
            is_due = isinstance(event, NodeStarted) and time.monotonic() - self._sent_s > QUIET_S
            if (
                is_due
                or isinstance(event, JobFinished | JobGaveWay)
                or len(self._events) >= FLUSH_EVENTS
            ):
                self._flush()
            elif len(self._events) == 1:
                self._wake.set()

    def close(self) -> None:
        """Send what is left."""
        with self._lock:
            self._flush()
            self._is_open = False
        self._wake.set()

    def _flush(self) -> None:
        if self._events:
            self._sent_s = time.monotonic()
            events, self._events = self._events, []
            self._write(Frame(kind="events", data={"events": events}))

    def _flush_often(self) -> None:
        pause = Event()
        while self._is_open:
            self._wake.wait()
            self._wake.clear()
            pause.wait(FLUSH_S)
            with self._lock:
                self._flush()

    def _write(self, frame: Frame) -> None:
        try:
            self._sink.write(encode_frame(frame))
            self._sink.flush()
        except OSError:
            self._is_open = False  # the server is gone; reading ends too and ends the process

    def _read(self, size: int) -> bytes | None:
        data = self._source.read(size)
        return data if len(data) == size else None
