"""Scripts and other files that allowed node packs have for editors, from their WEB_DIRECTORY."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from engine.server.bodies import NotFound
from engine.server.page_routes import find_page_file, send_file
from engine.server.prompt_routes import answer
from engine.server.routes import SERVICES, Route
from engine.server.services import Services


async def list_scripts(request: web.Request) -> web.Response:
    """The addresses of all scripts of node packs."""
    return answer(await asyncio.to_thread(_scripts, request.app[SERVICES]))


def _scripts(services: Services) -> list[str]:
    return [
        f"/extensions/{quote(pack)}/{quote(path.relative_to(folder).as_posix())}"
        for pack, folder in _web_folders(services)
        for path in sorted(folder.rglob("*.js"))
        if find_page_file(folder, path.relative_to(folder).as_posix())
    ]


async def pack_file(request: web.Request) -> web.StreamResponse:
    """A file in the WEB_DIRECTORY of a loaded pack."""
    folder = dict(_web_folders(request.app[SERVICES])).get(request.match_info["pack"])
    path = folder and find_page_file(folder, request.match_info["path"])
    if not path:
        raise NotFound(f"There is no {request.method} {request.path[:200]}.")
    return send_file(request, path)


def _web_folders(services: Services) -> Iterator[tuple[str, Path]]:
    for pack in services.packs:
        if pack.get("state") == "loaded" and pack.get("web_folder"):
            yield str(pack["name"]), Path(pack["web_folder"])


ROUTES = (
    Route(
        method="GET",
        path="/extensions",
        handler=list_scripts,
        summary="Scripts of node packs",
        answer=["/extensions/my_pack/widget.js"],
    ),
    Route(
        method="GET",
        path="/extensions/{pack}/{path:.+}",
        handler=pack_file,
        summary="A file that a node pack has for editors",
        answer_type="application/octet-stream",
        errors=(404,),
    ),
)
