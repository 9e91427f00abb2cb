"""`/openapi.json`, made from the table of routes."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from engine.server.routes import Route

Json = dict[str, Any]

_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                name: {"type": "string"} for name in ("type", "message", "details", "hint")
            },
        }
    },
}
_MEANINGS = {
    400: "The request cannot be understood",
    401: "A token is required",
    403: "Host, Origin or file name is not allowed",
    404: "There is no such thing",
    409: "It contradicts what is there",
    413: "The body is too large",
    422: "The job ran and failed; its history entry is in the answer",
    503: "Not ready yet",
}


def openapi_route(routes: Sequence[Route]) -> Route:
    """The route that describes `routes` and itself."""
    document: Json = {}

    async def openapi(_request: web.Request) -> web.Response:
        """This description."""
        return web.json_response(document)

    route = Route(
        method="GET",
        path="/openapi.json",
        handler=openapi,
        summary="This description",
        answer={"openapi": "3.1.0"},
    )
    document.update(describe([*routes, route]))
    return route


def describe(routes: Sequence[Route]) -> Json:
    """The OpenAPI 3.1 document of the routes."""
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Weft",
            "version": "1",
            "description": "Every path is also served under /api. Errors are JSON objects "
            '{"error": {type, message, details, hint}}.',
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
        "security": [{}, {"bearer": []}, {"basic": []}],
    }


def _operation(route: Route) -> Json:
    operation: Json = {
        "operationId": f"{route.method.lower()}{_identifier(route.path)}",
        "summary": route.summary,
        "responses": {"200": _answer(route), **_errors(route)},
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _path_parameters(route.path)
    ]
    parameters += [
        {
            "name": q.name,
            "in": "query",
            "description": q.description,
            "schema": {"type": q.type},
        }
        for q in route.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.method in ("POST", "PATCH") and (route.body is not None or _is_raw(route)):
        content: Json = {} if route.body is None else {"example": route.body}
        operation["requestBody"] = {"content": {route.body_type: content}}
    return operation


def _is_raw(route: Route) -> bool:
    return route.body_type != "application/json"


def _answer(route: Route) -> Mapping[str, Any]:
    if not route.answer_type:
        return {"description": "Done"}
    content: Json = {} if route.answer is None else {"example": route.answer}
    return {"description": route.summary, "content": {route.answer_type: content}}


def _errors(route: Route) -> Json:
    schema = {"schema": {"$ref": "#/components/schemas/Error"}}
    return {
        str(status): {"description": _MEANINGS[status], "content": {"application/json": schema}}
        for status in (*route.errors, 401, 403)
    }


def _identifier(path: str) -> str:
    return "".join(part.title() for part in path.replace("{", "").replace("}", "").split("/"))


def _path_parameters(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]
