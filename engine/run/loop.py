"""The event-loop thread of a worker, on which asynchronous nodes run beside the main thread."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from threading import Lock, Thread
from typing import Any


class LoopThread:
    """An asyncio loop on a thread of its own, started by the first coroutine.

    The thread runs within `mode()`, such as `torch.no_grad`, which holds for one thread.
    """

    def __init__(self, mode: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        self._mode = mode
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._lock = Lock()

    def submit(
        self,
        coroutine: Coroutine[Any, Any, Any],
        when_done: Callable[[Future[Any]], None] | None = None,
    ) -> Future[Any]:
        """Start a coroutine; `when_done` is called on the loop's thread."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        if when_done is not None:
            future.add_done_callback(when_done)
        return future

    def close(self) -> None:
        """Stop the loop and wait for its thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = Thread(
                    target=self._run, args=(self._loop,), name="weft-nodes-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._mode():
            loop.run_forever()
