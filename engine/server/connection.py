"""One websocket connection: a queue of frames of its own, so that it can only delay itself."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import ClientConnectionResetError, WSCloseCode, WSMsgType, web

MAX_BACKLOG_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Frame:
    """An encoded message, shared by all clients that get it."""

    body: bytes
    is_binary: bool = False


class Connection:
    """A client: frames wait here until its socket takes them.

    State frames keep their order. Of a transient `slot` only the newest frame waits, in the place
    of the older one. When too much waits it is dropped, and `catch_up` is called once the client
    reads again.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        client_id: str,
        catch_up: "Callable[[Connection], None]",
    ) -> None:
        self.client_id = client_id
        self.supports_metadata = False
        self.wants_logs = False
        self._socket = socket
        self._catch_up = catch_up
        self._is_behind = False
        self._waiting: OrderedDict[object, Frame] = OrderedDict()
        self.waiting_bytes = 0
        self._wake = asyncio.Event()

    def push(self, frame: Frame, slot: str | None = None) -> None:
        """Let a frame wait for the socket; never blocks."""
        if self._is_behind:
            return
        key = object() if slot is None else slot
        older = self._waiting.get(key)
        self._waiting[key] = frame
        self.waiting_bytes += len(frame.body) - (len(older.body) if older else 0)
        if self.waiting_bytes > MAX_BACKLOG_BYTES:
            self._is_behind = True
            self._waiting.clear()
            self.waiting_bytes = 0
        self._wake.set()

    async def write(self) -> None:
        """Send what waits, until the connection ends."""
        with contextlib.suppress(ClientConnectionResetError, ConnectionError):
            while not self._socket.closed:
                await self._wake.wait()
                self._wake.clear()
                if self._is_behind:
                    self._is_behind = False
                    self._catch_up(self)
                while self._waiting:
                    _, frame = self._waiting.popitem(last=False)
                    self.waiting_bytes -= len(frame.body)
                    kind = WSMsgType.BINARY if frame.is_binary else WSMsgType.TEXT
                    await self._socket.send_frame(frame.body, kind)

    async def close(self) -> None:
        """Tell the client that the server goes."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops")
