"""The web application: its routes, what every answer carries, and how failures are told."""

import asyncio
import logging
from collections.abc import AsyncIterator
from itertools import product

from aiohttp import web

from engine.api.caption_files import CaptionsChanged
from engine.api.errors import (
    EngineError,
    GraphInvalid,
    MissingModel,
    OutOfMemory,
    StorageError,
    UnsafePath,
)
from engine.graph.wire_errors import invalid_to_wire
from engine.run.catalogue_store import NotReady
from engine.run.job import Conflict
from engine.run.queue import UnknownJob
from engine.run.supervisor import WorkerUnavailable
from engine.server import (
    asset_routes,
    dataset_routes,
    extension_routes,
    grid_routes,
    info_routes,
    job_routes,
    model_routes,
    page_routes,
    peek_routes,
    prompt_routes,
    run_routes,
    text_routes,
    user_routes,
    ws,
)
from engine.server.auth import (
    Refused,
    access_of,
    check_request,
    cors_headers,
    has_query_token,
    set_session_cookie,
)
from engine.server.bodies import BadRequest
from engine.server.hub import Hub
from engine.server.openapi import openapi_route
from engine.server.routes import ACCESS, CONFIG, HUB, SERVICES, WRITES, Handler, Route
from engine.server.services import Services
from engine.server.wire import error_body, to_text

log = logging.getLogger("weft.server")

_STATUS: dict[type[EngineError], int] = {
    UnsafePath: 403,
    MissingModel: 404,
    StorageError: 507,
    OutOfMemory: 503,
    NotReady: 503,
    WorkerUnavailable: 503,
    Conflict: 409,
    CaptionsChanged: 409,
    UnknownJob: 404,
}


def build_app(services: Services) -> web.Application:
    """The server over its services; starts and stops them with itself.

    Raises: EngineError when a token is required and none is configured.
    """
    config = services.config
    app = web.Application(middlewares=[answer_errors, check_access])
    app[CONFIG] = config
    app[SERVICES] = services
    app[ACCESS] = access_of(config)
    app[HUB] = Hub(services)
    app[WRITES] = asyncio.Lock()
    app.cleanup_ctx.append(_run_services)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(_close_clients)
    for route in all_routes():
        add_route(app, route)
    return app


def all_routes() -> tuple[Route, ...]:
    """Every route of the server, in the order in which they are tried."""
    routes = (
        *prompt_routes.ROUTES,
        *run_routes.ROUTES,
        *grid_routes.ROUTES,
        *text_routes.ROUTES,
        *job_routes.ROUTES,
        *peek_routes.ROUTES,
        *asset_routes.ROUTES,
        *info_routes.ROUTES,
        *model_routes.ROUTES,
        *dataset_routes.ROUTES,
        *user_routes.ROUTES,
        *extension_routes.ROUTES,
        *page_routes.ROUTES,
        *ws.ROUTES,
    )
    return (*routes, openapi_route(routes), page_routes.FILES)


def add_route(app: web.Application, route: Route) -> None:
    """Register a route, and its twin under `/api`."""
    methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
    prefixes = ("", "/api") if route.has_api_twin else ("",)
    for method, prefix in product(methods, prefixes):
        app.router.add_route(method, prefix + route.path, route.handler)


async def _run_services(app: web.Application) -> AsyncIterator[None]:
    services, hub = app[SERVICES], app[HUB]
    await services.start()
    await hub.start()
    yield
    await hub.stop()
    await services.stop()


async def _close_clients(app: web.Application) -> None:
    await app[HUB].close_clients()  # before the server waits for its handlers to end


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell every failure as JSON; an unexpected one is logged with its traceback."""
    try:
        return await handler(request)
    except GraphInvalid as error:
        body, nodes = invalid_to_wire(error)
        return web.json_response({"error": body, "node_errors": nodes}, status=400)
    except EngineError as error:
        return _told(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        status, reason = error.status, f"{error.reason}: {request.method} {request.path[:200]}"
        refusal = EngineError(reason, code=_CODES.get(status, "http_error"))
        return web.json_response(error_body(refusal), status=status, headers=_kept(error))
    except ConnectionError:
        raise  # the client is gone; there is nobody to tell
    except OSError as error:
        log.exception("%s %s", request.method, request.path)
        reason = error.strerror or type(error).__name__
        return _told(StorageError(f"A file could not be read or written: {reason}."))
    except Exception:  # seam: no fault of a handler may show its insides or end the connection
        log.exception("%s %s", request.method, request.path)
        fault = EngineError("The server made an error; its log tells more.", code="internal_error")
        return web.json_response(error_body(fault), status=500)


_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def _kept(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


def _told(error: EngineError) -> web.Response:
    headers: dict[str, str] = {}
    if isinstance(error, BadRequest | Refused):
        status = error.status
        if status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="Weft", charset="UTF-8"'
    else:
        status = next((s for kind, s in _STATUS.items() if isinstance(error, kind)), 400)
    return web.json_response(error_body(error), status=status, headers=headers, dumps=to_text)


@web.middleware
async def check_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Host, Origin and token, before anything else is done with a request."""
    access = request.app[ACCESS]
    check_request(access, request)
    if request.method == "OPTIONS":
        return web.Response(status=204)
    if has_query_token(access, request):
        if request.path == "/" and request.method == "GET":
            response: web.StreamResponse = web.Response(status=303, headers={"Location": "./"})
            set_session_cookie(access, request, response)
            return response
        response = await handler(request)
        if not response.prepared:
            set_session_cookie(access, request, response)
        return response
    return await handler(request)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    headers = response.headers
    headers["Server"] = "Weft"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers.setdefault("Content-Security-Policy", "frame-ancestors 'self'")
    cors = cors_headers(request.app[ACCESS], request)
    if cors:
        headers.update(cors)
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
