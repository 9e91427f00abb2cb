"""The page, its files, and the small answers without which customary clients do not boot."""

import mimetypes
from functools import lru_cache
from pathlib import Path

from aiohttp import web

from engine.config import ROOT
from engine.server.bodies import NotFound
from engine.server.routes import CONFIG, Route

WEB = ROOT / "web"
DEFAULT_WORKFLOW = ROOT / "engine" / "default_workflow.json"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; media-src 'self' blob:; font-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
KEPT_BYTES = 256 * 1024
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css"}


async def page(request: web.Request) -> web.StreamResponse:
    """The page."""
    return send_file(request, _folder(request) / "index.html")


async def page_file(request: web.Request) -> web.StreamResponse:
    """A file of the page; whatever else is asked for and unknown is a 404 in JSON."""
    path = find_page_file(_folder(request), request.match_info["path"])
    if path is None:
        raise NotFound(f"There is no {request.method} {request.path[:200]}.")
    return send_file(request, path)


def find_page_file(folder: Path, name: str) -> Path | None:
    """A file of the page's folder by its path in an address; None if there is none in it."""
    parts = name.split("/")
    if any(p in ("", ".", "..") or p.startswith(".") or "\\" in p or "\0" in p for p in parts):
        return None
    root = folder.resolve()
    path = root.joinpath(*parts).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def _folder(request: web.Request) -> Path:
    return request.app[CONFIG].front_end_root or WEB


def send_file(request: web.Request, path: Path) -> web.StreamResponse:
    """A file for a browser, which asks each time whether it has changed.

    A page is a hundred small files that are asked for at once: those are kept in memory.
    """
    guessed = mimetypes.guess_type(path.name)[0]
    media_type = _TYPES.get(path.suffix) or guessed or "application/octet-stream"
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    headers = {"Content-Type": media_type, "Cache-Control": "no-cache"}
    if request.app[CONFIG].front_end_root is None:
        headers["Content-Security-Policy"] = POLICY
    stat = path.stat()
    if stat.st_size > KEPT_BYTES:
        return web.FileResponse(path, headers=headers)
    tag = f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
    asked = request.if_none_match or ()
    is_known = any(one.value == tag for one in asked)
    response = web.Response(status=304) if is_known else web.Response(body=_read(path, tag))
    response.headers.update(headers)
    response.etag = tag
    return response


@lru_cache(maxsize=512)
def _read(path: Path, _tag: str) -> bytes:
    """The bytes of a small file as it was when it had this tag."""
    return path.read_bytes()


async def default_workflow(_request: web.Request) -> web.StreamResponse:
    """The workflow that a new user starts with, in API form."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-cache"}
    return web.FileResponse(DEFAULT_WORKFLOW, headers=headers)


async def no_object(_request: web.Request) -> web.Response:
    """Nothing, as an object."""
    return web.json_response({})


async def no_list(_request: web.Request) -> web.Response:
    """Nothing, as a list."""
    return web.json_response([])


ROUTES = (
    Route(
        method="GET",
        path="/",
        handler=page,
        summary="The page",
        answer_type="text/html",
        has_api_twin=False,
    ),
    Route(
        method="GET",
        path="/weft/default_workflow",
        handler=default_workflow,
        summary="The default workflow in API form",
        answer={"3": {"class_type": "KSampler", "inputs": {}}},
    ),
    *(
        Route(method="GET", path=path, handler=no_object, summary=summary, answer={})
        for path, summary in (
            ("/i18n", "Translations of node packs: none"),
            ("/workflow_templates", "Templates of node packs: none"),
            ("/global_subgraphs", "Shared sub-graphs: none"),
            ("/node_replacements", "Replacements of node types: none"),
        )
    ),
    *(
        Route(method="GET", path=path, handler=no_list, summary=summary, answer=[])
        for path, summary in (
            ("/experiment/models", "Model folders in a newer form: none"),
            ("/templates/index.json", "Template gallery: none"),
        )
    ),
)

FILES = Route(
    method="GET",
    path="/{path:.+}",
    handler=page_file,
    summary="A file of the page",
    answer_type="application/octet-stream",
    errors=(404,),
    has_api_twin=False,
)
