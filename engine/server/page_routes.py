"""The page, its files, and the small answers without which customary clients do not boot."""

import hashlib
import mimetypes
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from aiohttp import web

from engine.config import ROOT
from engine.server.bodies import NotFound
from engine.server.page_bundle import bundle, modules_of
from engine.server.routes import CONFIG, Route

WEB = ROOT / "web"
ENTRY = "app.js"
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
    folder, name = _folder(request), request.match_info["path"]
    path = find_page_file(folder, name)
    if path is None:
        raise NotFound(f"There is no {request.method} {request.path[:200]}.")
    if (folder, name) == (WEB, ENTRY) and not request.app[CONFIG].dev:
        tag = _tag(*modules_of(WEB))
        return _send(request, path, tag, lambda: _bundle(tag))
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
    """A file for a browser, which asks each time whether it has changed."""
    if path.stat().st_size > KEPT_BYTES:
        return web.FileResponse(path, headers=_headers(request, path))
    return _send(request, path, _tag(path), path.read_bytes)


def _send(
    request: web.Request, path: Path, tag: str, read: Callable[[], bytes]
) -> web.StreamResponse:
    """Bytes under the name of a file, or nothing if the browser has those with this tag."""
    is_known = any(one.value == tag for one in request.if_none_match or ())
    response = web.Response(status=304) if is_known else web.Response(body=read())
    response.headers.update(_headers(request, path))
    response.etag = tag
    return response


def _headers(request: web.Request, path: Path) -> dict[str, str]:
    guessed = mimetypes.guess_type(path.name)[0]
    media_type = _TYPES.get(path.suffix) or guessed or "application/octet-stream"
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    headers = {"Content-Type": media_type, "Cache-Control": "no-cache"}
    if request.app[CONFIG].front_end_root is None:
        headers["Content-Security-Policy"] = POLICY
    return headers


def _tag(*paths: Path) -> str:
    """A word that changes when one of the files does."""
    stats = [path.stat() for path in paths]
    told = [(path.name, s.st_mtime_ns, s.st_size) for path, s in zip(paths, stats, strict=True)]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _bundle(_tag: str) -> bytes:
    """All modules of the page in one, as they were when they had this tag."""
    return bundle(WEB, ENTRY).encode()


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
