"""The form of a route: what is registered and what `/openapi.json` says of it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from engine.config import Config
from engine.server.auth import Access
from engine.server.hub import Hub
from engine.server.services import Services

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CONFIG = web.AppKey("config", Config)
SERVICES = web.AppKey("services", Services)
ACCESS = web.AppKey("access", Access)
HUB = web.AppKey("hub", Hub)
WRITES = web.AppKey("writes", asyncio.Lock)  # one file after the other, so that names stay free


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query parameter."""

    name: str
    description: str
    type: str = "string"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route; it is served under its path and under `/api` + path.

    `body` is an example of the JSON that it takes; `answer` one of what it gives, or a media type.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    query: tuple[Query, ...] = ()
    body: Any = None
    body_type: str = "application/json"
    answer: Any = None
    answer_type: str = "application/json"
    errors: tuple[int, ...] = ()
    has_api_twin: bool = True
