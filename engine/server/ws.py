"""The websocket route."""

import asyncio
import contextlib
import json
import uuid
from typing import Any, cast

from aiohttp import WSMsgType, web

from engine.server.connection import Connection, encode_frame
from engine.server.prompt_routes import MAX_CLIENT_ID
from engine.server.routes import HUB, SERVICES, Query, Route
from engine.server.services import Services
from engine.server.wire import Message

Json = dict[str, Any]

MAX_INCOMING_BYTES = 64 * 1024
PREVIEW_FEATURE = "supports_preview_metadata"


def features(services: Services) -> Json:
    """What this server can do, as clients ask for it."""
    return {
        PREVIEW_FEATURE: True,
        "max_upload_size": int(services.config.max_upload_mb * 1024 * 1024),
        "extension": {"weft": {"resume": True, "queue_move": True, "queue_pause": True}},
    }


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """A connection until the client goes: it is told what happens to its jobs."""
    socket = web.WebSocketResponse(max_msg_size=MAX_INCOMING_BYTES, compress=False)
    await socket.prepare(request)
    hub, services = request.app[HUB], request.app[SERVICES]
    client_id = request.query.get("clientId", "")[:MAX_CLIENT_ID] or uuid.uuid4().hex
    transport = request.transport
    if transport is None:
        return socket  # the client is gone already
    connection = Connection(socket, transport, client_id, hub.catch_up)
    connection.follows_all = request.query.get("follow") == "all"
    hub.add(connection, request.query.get("after"))
    writer = asyncio.create_task(connection.write())
    try:
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                _receive(connection, cast(str, message.data), services)
    finally:
        hub.remove(connection)
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
    return socket


def _receive(connection: Connection, text: str, services: Services) -> None:
    """A client may say what it supports; anything else is passed over."""
    try:
        body: Any = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(body, dict) or cast(Json, body).get("type") != "feature_flags":
        return
    data: Any = cast(Json, body).get("data")
    connection.supports_metadata = isinstance(data, dict) and bool(
        cast(Json, data).get(PREVIEW_FEATURE)
    )
    message = Message(type="feature_flags", data=features(services))
    connection.push(encode_frame(message.encode()))


ROUTES = (
    Route(
        method="GET",
        path="/ws",
        handler=websocket,
        summary="Websocket: what happens to the client's jobs",
        query=(
            Query(name="clientId", description="the id that prompts are submitted with"),
            Query(name="follow", description="'all': also what happens to the jobs of others"),
            Query(name="after", description="EPOCH:SEQ, the last message that was read"),
        ),
        answer={"type": "status", "data": {}, "seq": 1},
    ),
)
