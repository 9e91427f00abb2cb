"""A running server on a real socket, over real services."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType
from aiohttp.test_utils import TestClient, TestServer

from engine.config import Config
from engine.server.app import build_app
from tests.server.worker import TestServices, config_for


@dataclass
class Site:
    """A server, its services, and a client of it."""

    client: TestClient[Any, Any]
    services: TestServices
    base: Path

    async def get(self, path: str, **more: Any) -> tuple[int, Any]:
        return await self.call("GET", path, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        return await self.call("POST", path, json=body, **more)

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with self.client.request(method, path, **more) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.read())

    async def queue(self, prompt: dict[str, Any], **more: Any) -> str:
        status, answer = await self.post("/prompt", {"prompt": prompt, **more})
        assert status == 200, answer
        return answer["prompt_id"]


Open = Callable[..., Awaitable[Site]]


@pytest.fixture
async def open_site(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens servers on one folder; `worker=False` leaves jobs waiting."""
    sites: list[Site] = []

    async def open_one(*, worker: bool = True, **more: Any) -> Site:
        config: Config = config_for(tmp_path, **more)
        services = TestServices(config)
        services.starts_worker = worker
        client = TestClient(TestServer(build_app(services)))
        await client.start_server()
        sites.append(Site(client, services, tmp_path))
        return sites[-1]

    yield open_one
    for site in sites:
        await site.client.close()


@pytest.fixture
async def site(open_site: Open) -> Site:
    return await open_site()


async def read_until(
    socket: ClientWebSocketResponse, is_last: Callable[[dict[str, Any]], bool]
) -> list[Any]:
    """Messages up to the one that fits: JSON ones as objects, binary ones as bytes."""
    found: list[Any] = []
    while True:
        message = await socket.receive(timeout=5)
        assert message.type in (WSMsgType.TEXT, WSMsgType.BINARY), message
        found.append(message.data if message.type is WSMsgType.BINARY else message.json())
        if message.type is WSMsgType.TEXT and is_last(found[-1]):
            return found


def is_end(message: dict[str, Any]) -> bool:
    """The last message of a job."""
    return message["type"] == "executing" and message["data"]["node"] is None
