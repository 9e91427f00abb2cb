"""`/weft/datasets`: the captions of a folder of pictures to train on, and its thumbnails."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from engine.api.caption_files import Captions, inside, is_picture, read_captions, write_captions
from engine.run.folders import DATASETS
from engine.server.bodies import BadRequest, NotFound, object_field, read_object, text_field
from engine.server.pictures import thumbnail
from engine.server.prompt_routes import answer
from engine.server.routes import SERVICES, WRITES, Query, Route

_MAX_SHOWN = 5_000
_THUMBNAIL_PX = 256

Json = dict[str, Any]


def _folder(request: web.Request, name: str | None) -> Path:
    """A folder of datasets. Raises: MissingModel, UnsafePath, BadRequest."""
    if not name:
        raise BadRequest("The request names no dataset folder.")
    return request.app[SERVICES].folders.resolve("datasets", name)


async def captions(request: web.Request) -> web.Response:
    """The pictures of a dataset folder with their captions."""
    name = request.query.get("folder")
    folder = _folder(request, name)
    found = await asyncio.to_thread(read_captions, folder)
    return answer(await asyncio.to_thread(_told, request, name, folder, found))


async def change_captions(request: web.Request) -> web.Response:
    """Write some captions where they lie; 409 when they are no longer those that were read."""
    body = await read_object(request)
    name, revision = text_field(body, "folder"), text_field(body, "revision")
    folder = _folder(request, name)
    texts = object_field(body, "texts")
    if not all(isinstance(text, str) for text in texts.values()):
        raise BadRequest("'texts' is no object of captions by file name.", code="invalid_field")
    async with request.app[WRITES]:
        written = await asyncio.to_thread(
            write_captions, folder, cast(dict[str, str], texts), revision or ""
        )
    return answer(await asyncio.to_thread(_told, request, name, folder, written))


def _told(request: web.Request, name: str | None, folder: Path, found: Captions) -> Json:
    uploads = request.app[SERVICES].folders.join("input", DATASETS)
    present = [row for row in found.rows if inside(folder, row.file_name).is_file()]
    return {
        "folder": name,
        "kind": found.kind,
        "source": found.source,
        "revision": found.revision,
        "count": len(present),
        "takes_pictures": folder.is_relative_to(uploads),  # of /upload/image
        "pictures": [{"file": r.file_name, "text": r.text} for r in present[:_MAX_SHOWN]],
    }


async def picture(request: web.Request) -> web.Response:
    """A small form of one picture of a dataset folder."""
    folder = _folder(request, request.query.get("folder"))
    name = request.query.get("file", "")
    path = inside(folder, name)
    if not is_picture(path.name) or not path.is_file():
        raise NotFound(f"There is no picture '{name[:200]}' in this dataset.")
    stat = path.stat()
    parts = f"{path} {stat.st_mtime_ns} {stat.st_size}"
    etag = hashlib.sha256(parts.encode(errors="replace")).hexdigest()[:24]
    if any(tag.value in (etag, "*") for tag in request.if_none_match or ()):
        return web.Response(status=304, headers={"ETag": f'"{etag}"'})
    headers = {
        "ETag": f'"{etag}"',
        "Content-Type": "image/webp",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "no-cache",
    }
    return web.Response(
        body=await asyncio.to_thread(thumbnail, path, _THUMBNAIL_PX), headers=headers
    )


_FOLDER = Query(name="folder", description="the dataset's name, as the node has it")
_CAPTIONS = {
    "folder": "cats",
    "kind": "metadata",
    "source": "metadata.jsonl",
    "revision": "0f3a",
    "count": 1,
    "takes_pictures": True,
    "pictures": [{"file": "a.png", "text": "a cat"}],
}

ROUTES = (
    Route(
        method="GET",
        path="/weft/datasets/captions",
        handler=captions,
        summary="The pictures of a dataset folder with their captions",
        query=(_FOLDER,),
        answer=_CAPTIONS,
        errors=(400, 403, 404),
        has_api_twin=False,
    ),
    Route(
        method="POST",
        path="/weft/datasets/captions",
        handler=change_captions,
        summary="Write some captions; revision is that of the captions that were read",
        body={"folder": "cats", "revision": "0f3a", "texts": {"a.png": "a cat"}},
        answer=_CAPTIONS,
        errors=(400, 403, 404, 409),
        has_api_twin=False,
    ),
    Route(
        method="GET",
        path="/weft/datasets/picture",
        handler=picture,
        summary="A thumbnail of one picture of a dataset folder",
        query=(_FOLDER, Query(name="file", description="the picture's name in the folder")),
        answer_type="image/webp",
        errors=(400, 403, 404),
        has_api_twin=False,
    ),
)
