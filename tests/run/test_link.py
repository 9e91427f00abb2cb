"""Frames between server and worker: real pipes, hostile bytes."""

import asyncio
import contextlib
import os
import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from engine.api.errors import EngineError
from engine.api.events import (
    ErrorReport,
    JobFinished,
    JobStarted,
    LogLine,
    NodeFailed,
    NodeFinished,
    NodePreview,
    NodeProgress,
    NodeRecord,
    NodesCached,
    NodeStarted,
    NodeText,
    RunEvent,
)
from engine.run.event_codec import decode_event, encode_event, plain_json
from engine.run.link import (
    Frame,
    LinkError,
    WorkerLink,
    decode_events,
    decode_frame,
    encode_frame,
    read_frame,
)

NODE: dict[str, Any] = {"job_id": "j", "node_id": "1:2", "display_id": "1"}
ERROR = ErrorReport(code="c", message="m", hint="h", exception_type="E", traceback=("one", "two"))
RECORD = NodeRecord(state="ran", seconds=0.25, reason="input text changed")
EVENTS: list[RunEvent] = [
    JobStarted(job_id="j", timestamp_ms=1),
    NodesCached(job_id="j", records={"1": RECORD, "2": NodeRecord(state="disk")}),
    NodeStarted(**NODE),
    NodeProgress(**NODE, value=0.5, maximum=2.0),
    NodePreview(**NODE, mime="image/jpeg", data=b"\xff\xd8picture"),
    NodeText(**NODE, text="Zürich \ud83d"),
    NodeFinished(**NODE, record=RECORD, ui={"images": [{"filename": "a.png"}]}),
    NodeFinished(**NODE, record=RECORD),
    NodeFailed(**NODE, node_type="KSampler", error=ERROR, inputs={"seed": "1"}),
    JobFinished(job_id="j", status="error", timestamp_ms=2, error=ERROR),
    JobFinished(job_id="j", status="success", timestamp_ms=2),
    LogLine(text="line", level="warning"),
]


@dataclass
class Pipes:
    """A worker's link, and the server's ends of its two pipes."""

    link: WorkerLink
    to_worker: int
    from_worker: int

    def receive(self) -> Frame:
        sizes = self.read(8)
        head, tail = struct.unpack(">II", sizes)
        return decode_frame(self.read(head), self.read(tail))

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = os.read(self.from_worker, size - len(data))
            assert part
            data += part
        return data


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    worker_reads, to_worker = os.pipe()
    from_worker, worker_writes = os.pipe()
    source, sink = os.fdopen(worker_reads, "rb"), os.fdopen(worker_writes, "wb")
    link = WorkerLink(source, sink)
    yield Pipes(link, to_worker, from_worker)
    link.close()
    source.close()
    sink.close()
    for end in (to_worker, from_worker):
        os.close(end)


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
def test_every_event_survives_the_codec(event: RunEvent):
    tail = event.data if isinstance(event, NodePreview) else b""
    frame = Frame(kind="events", data={"events": [encode_event(event)]}, tail=tail)
    data = encode_frame(frame)
    sizes = struct.unpack(">II", data[:8])
    decoded = decode_frame(data[8 : 8 + sizes[0]], data[8 + sizes[0] :])
    assert decode_events(decoded) == [event]


def test_events_arrive_whole_in_order_and_gathered(pipes: Pipes):
    for event in EVENTS:
        pipes.link.emit(event)
    pipes.link.send("ready", {"a": 1})
    received: list[RunEvent] = []
    frames = 0
    while (frame := pipes.receive()).kind == "events":
        received += decode_events(frame)
        frames += 1
    assert received == EVENTS
    assert frames <= 7  # previews, ends of jobs and a first start of a node go at once
    assert frame == Frame(kind="ready", data={"a": 1})


def test_a_lone_event_is_sent_within_a_few_milliseconds(pipes: Pipes):
    started = time.perf_counter()
    pipes.link.emit(EVENTS[0])
    assert decode_events(pipes.receive()) == [EVENTS[0]]
    assert time.perf_counter() - started < 5


def test_values_that_are_no_json_are_made_so(pipes: Pipes):
    class Array:
        def tolist(self) -> list[float]:
            return [1.0, float("inf")]

    ui = {"a": [float("nan"), {1: Array(), "p": object}], "t": (1, 2)}
    pipes.link.emit(NodeFinished(**NODE, record=RECORD, ui=ui))
    (event,) = decode_events(pipes.receive())
    assert isinstance(event, NodeFinished) and event.ui is not None
    assert event.ui["a"][0] is None and event.ui["a"][1]["1"] == [1.0, None]
    assert event.ui["t"] == [1, 2]
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert len(plain_json([deep])) < 1000
    circle: dict[str, Any] = {}
    circle.update(a=circle, b=circle)
    assert plain_json(circle) == '{"a":null,"b":null}'


def test_the_worker_reads_frames_and_sees_the_end(pipes: Pipes):
    frames = [Frame(kind="run", data={"n": i}, tail=b"x" * i * 1000) for i in range(5)]
    os.write(pipes.to_worker, b"".join(encode_frame(f) for f in frames))
    assert [pipes.link.receive() for _ in frames] == frames
    os.write(pipes.to_worker, encode_frame(frames[4])[:-1])
    os.close(pipes.to_worker)
    pipes.to_worker = os.open(os.devnull, os.O_RDONLY)
    assert pipes.link.receive() is None


async def read_all(data: bytes) -> list[Frame]:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    frames: list[Frame] = []
    while (frame := await read_frame(reader)) is not None:
        frames.append(frame)
    return frames


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">II", 0xFFFFFFFF, 0),
        struct.pack(">II", 2, 0xFFFFFFFF),
        struct.pack(">II", 3, 0) + b"{}x",
        struct.pack(">II", 2, 0) + b"{}",
        struct.pack(">II", 6, 0) + b'["a",]',
        struct.pack(">II", 8, 0) + b'["a",[]]',
        struct.pack(">II", 7, 0) + b"[1, {}]",
        struct.pack(">II", 4, 0) + b"\xff\xfe\xfd\xfc",
        struct.pack(">II", 100_000, 0) + b"[" * 100_000,
    ],
)
async def test_hostile_frames_are_refused(data: bytes):
    with pytest.raises(LinkError):
        await read_all(data)


async def test_random_bytes_end_in_an_error_or_an_end():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    good = b"".join(encode_frame(Frame(kind="a", data={"b": i}, tail=b"t")) for i in range(5))
    assert len(await read_all(good)) == 5
    for _ in range(300):
        bad = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        with contextlib.suppress(LinkError):
            await read_all(bytes(bad[: rng.randrange(len(bad))]))


@pytest.mark.parametrize(
    "data",
    [[], ["Unknown"], ["JobStarted"], ["JobStarted", 1, 2, 3], [{}], ["NodeFinished", *"12345"]],
)
def test_hostile_events_are_refused(data: list[Any]):
    with pytest.raises(EngineError):
        decode_event(data)
