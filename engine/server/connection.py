"""One websocket connection: a queue of frames of its own, so that it can only delay itself.

Frames are encoded once for all clients, and those that wait are written together: one call of the
operating system for the messages of a whole job instead of one for each.
"""

import asyncio
import struct
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import WSCloseCode, web

MAX_BACKLOG_BYTES = 8 * 1024 * 1024
WRITE_BYTES = 64 * 1024  # written at once
BUFFERED_BYTES = 256 * 1024  # more than this in the socket's buffer: the client reads slowly
SLOW_WAIT_S = 0.02

_TEXT, _BINARY = 0x81, 0x82  # the last fragment of a message, not masked, not compressed
_SHORT, _LONG = 126, 1 << 16


def encode_frame(body: bytes, *, is_binary: bool = False) -> bytes:
    """A whole websocket message as a server sends it (RFC 6455, section 5.2)."""
    kind, size = _BINARY if is_binary else _TEXT, len(body)
    if size < _SHORT:
        return struct.pack(">BB", kind, size) + body
    if size < _LONG:
        return struct.pack(">BBH", kind, 126, size) + body
    return struct.pack(">BBQ", kind, 127, size) + body


class Connection:
    """A client: frames wait here until its socket takes them.

    State frames keep their order. Of a transient `slot` only the newest frame waits, in the place
    of the older one. When too much waits it is dropped, and `catch_up` is called once the client
    reads again.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.WriteTransport,
        client_id: str,
        catch_up: "Callable[[Connection], None]",
    ) -> None:
        self.client_id = client_id
        self.supports_metadata = False
        self.follows_all = False
        self.wants_logs = False
        self.waiting_bytes = 0
        self._socket = socket
        self._transport = transport
        self._catch_up = catch_up
        self._is_behind = False
        self._waiting: OrderedDict[object, bytes] = OrderedDict()
        self._wake = asyncio.Event()

    def follows(self, client_id: str | None) -> bool:
        """Whether it is told of the jobs of a client (None: of jobs that no client named)."""
        return self.follows_all or client_id == self.client_id

    def push(self, frame: bytes, slot: str | None = None) -> None:
        """Let a frame wait for the socket; never blocks."""
        if self._is_behind:
            return
        key = object() if slot is None else slot
        self.waiting_bytes += len(frame) - len(self._waiting.get(key, b""))
        self._waiting[key] = frame
        if self.waiting_bytes > MAX_BACKLOG_BYTES:
            self._is_behind = True
            self._waiting.clear()
            self.waiting_bytes = 0
        self._wake.set()

    async def write(self) -> None:
        """Send what waits, until the connection ends."""
        while not self._transport.is_closing():
            await self._wake.wait()
            self._wake.clear()
            if self._is_behind:
                self._is_behind = False
                self._catch_up(self)
            while self._waiting and not self._transport.is_closing():
                self._transport.write(self._take())
                while self._transport.get_write_buffer_size() > BUFFERED_BYTES:
                    await asyncio.sleep(SLOW_WAIT_S)

    async def close(self) -> None:
        """Tell the client that the server goes."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops")

    def _take(self) -> bytes:
        frames: list[bytes] = []
        size = 0
        while self._waiting and size < WRITE_BYTES:
            frames.append(self._waiting.popitem(last=False)[1])
            size += len(frames[-1])
        self.waiting_bytes -= size
        return b"".join(frames)
