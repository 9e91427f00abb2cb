"""A real Weft server as a child process, and a plain client that speaks to it as scripts do."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, WSMsgType

from engine.config import ROOT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerProcess:
    """`python main.py …` on a folder of its own; can be killed and started again on it."""

    def __init__(self, base: Path, *flags: str, environment: dict[str, str] | None = None):
        self.base = base
        self.flags = flags
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None
        self.log = base / "server.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, timeout_s: float = 60) -> "ServerProcess":
        command = [sys.executable, str(ROOT / "main.py"), "--base-directory", str(self.base)]
        command += ["--port", str(self.port), "--disable-auto-launch", "--no-first-picture"]
        log = self.log.open("a", encoding="utf-8")
        self.process = subprocess.Popen(
            [*command, *self.flags],
            stdout=log,
            stderr=log,
            text=True,
            env=self.environment,
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.get("/health")
                return self
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the server did not start:\n{self.log_text()}") from None
                time.sleep(0.05)

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-4000:]

    def stop(self) -> int:
        """A graceful stop; gives the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)

    def kill_everything(self) -> None:
        """SIGKILL to the server and all of its children at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> "ServerProcess":
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill_everything()

    # The client ---------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, JSON or bytes) of one request."""
        data = (
            body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        )
        request = urllib.request.Request(self.url + path, data, method=method)
        answer: Any
        try:
            answer = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            status, content, headers = answer.status, answer.read(), answer.headers
        is_json = headers.get_content_type() == "application/json" and content
        return status, json.loads(content) if is_json else content

    def get(self, path: str) -> Any:
        return self.call("GET", path)[1]

    def post(self, path: str, body: Any) -> Any:
        return self.call("POST", path, body)[1]

    def queue_prompt(self, prompt: dict[str, Any], **more: Any) -> str:
        status, answer = self.call("POST", "/prompt", {"prompt": prompt, **more})
        assert status == 200, answer
        return answer["prompt_id"]

    def wait_for(self, job_id: str, *, timeout_s: float = 240) -> dict[str, Any]:
        """The history entry of a job, once it has ended."""
        deadline = time.monotonic() + timeout_s
        while not (entry := self.get(f"/history/{job_id}").get(job_id)):
            assert time.monotonic() < deadline, f"job {job_id} did not end:\n{self.log_text()}"
            time.sleep(0.02)
        return entry

    def run(self, prompt: dict[str, Any], **more: Any) -> dict[str, Any]:
        return self.wait_for(self.queue_prompt(prompt, **more))

    def wait_for_message(self, fits: Callable[[dict[str, Any]], bool], *, timeout_s: float = 120):
        """The first websocket message that fits; a client that comes late gets the state first."""

        async def listen() -> dict[str, Any]:
            address = f"{self.url}/ws?clientId=e2e"
            async with ClientSession() as client, client.ws_connect(address) as socket:
                async for message in socket:
                    if message.type == WSMsgType.TEXT and fits(message.json()):
                        return message.json()
            raise AssertionError("the server closed the websocket")

        return asyncio.run(asyncio.wait_for(listen(), timeout_s))
