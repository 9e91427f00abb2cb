"""A real HTTP server on a thread that serves one file, with the faults that downloads meet."""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(kw_only=True)
class FileServer:
    """What is served and how. `cuts` are numbers of bytes after which an answer breaks off."""

    content: bytes
    etag: str = '"one"'
    cuts: list[int] = field(default_factory=list)
    linked_etag: str = ""
    status: int = 200
    redirect: str = ""
    knows_ranges: bool = True
    tells_length: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.headers))
        extra = {"X-Linked-ETag": self.linked_etag} if self.linked_etag else {}
        if request.path.startswith("/to/"):
            return web.Response(status=302, headers={"Location": self.redirect, **extra})
        if self.status != 200:
            return web.Response(status=self.status)
        start = self._start(request)
        if start is not None and start >= len(self.content):
            return web.Response(
                status=416, headers={"Content-Range": f"bytes */{len(self.content)}"}
            )
        rest = self.content[start or 0 :]
        response = web.StreamResponse(status=200 if start is None else 206, headers=extra)
        if self.etag:
            response.headers["ETag"] = self.etag
        if self.tells_length:
            response.content_length = len(rest)
        else:
            response.enable_chunked_encoding()
        await response.prepare(request)
        cut = self.cuts.pop(0) if self.cuts else None
        await response.write(rest[:cut])
        if cut is not None:
            assert request.transport is not None
            await asyncio.sleep(0.05)
            request.transport.abort()
            raise ConnectionResetError
        await response.write_eof()
        return response

    def _start(self, request: web.Request) -> int | None:
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if match is None or not self.knows_ranges:
            return None
        wanted = request.headers.get("If-Range")
        return int(match[1]) if wanted in (None, self.etag) else None


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    """The server at work; its `url` is the file's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[web.AppRunner, int]:
        app = web.Application()
        app.router.add_get("/{path:.*}", server.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, runner.addresses[0][1]

    runner, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    server.url = f"http://127.0.0.1:{port}/model.safetensors"
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
