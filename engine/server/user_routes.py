"""The user's own files and settings, kept as plain files under `user/default/`."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from engine.api.errors import UnsafePath
from engine.api.whole_file import write_whole
from engine.server.bodies import (
    BadRequest,
    Conflict,
    Json,
    NotFound,
    parse_json,
    read_body,
    read_json,
    read_object,
)
from engine.server.routes import CONFIG, SERVICES, WRITES, Query, Route

SETTINGS = "comfy.settings.json"  # the customary name; the engine itself reads nothing from it
_MAX_LISTED = 100_000


def _root(request: web.Request) -> Path:
    return request.app[CONFIG].user_dir / "default"


def _path(request: web.Request, name: str) -> Path:
    """A place in the user's folder. Raises: UnsafePath."""
    if not name.strip("/"):
        raise BadRequest("The request names no file.")
    return request.app[SERVICES].folders.join_under(_root(request), name)


def _file(request: web.Request, name: str) -> Path:
    path = _path(request, name)
    if not path.is_file():
        raise NotFound(f"The user has no file '{name[:200]}'.")
    return path


# Users and settings -------------------------------------------------------------------------------


async def users(_request: web.Request) -> web.Response:
    """There is one user."""
    return web.json_response({"storage": "server", "migrated": True})


async def add_user(_request: web.Request) -> web.Response:
    """Refused: there is one user."""
    raise BadRequest("This server has one user.", code="single_user")


async def settings(request: web.Request) -> web.Response:
    """All settings of the editor."""
    return web.json_response(await asyncio.to_thread(_read_settings, _settings_path(request)))


async def setting(request: web.Request) -> web.Response:
    """One setting, or null."""
    values = await asyncio.to_thread(_read_settings, _settings_path(request))
    return web.json_response(values.get(request.match_info["id"]))


async def change_settings(request: web.Request) -> web.Response:
    """Set several settings; the others stay."""
    return await _merge(request, await read_object(request))


async def change_setting(request: web.Request) -> web.Response:
    """Set one setting to any JSON value."""
    return await _merge(request, {request.match_info["id"]: await read_json(request)})


async def _merge(request: web.Request, changes: Json) -> web.Response:
    path = _settings_path(request)
    async with request.app[WRITES]:
        values = await asyncio.to_thread(_read_settings, path)
        body = json.dumps({**values, **changes}, indent=1).encode()
        await asyncio.to_thread(write_whole, path, lambda file: file.write(body))
    return web.Response(status=200)


def _settings_path(request: web.Request) -> Path:
    return _root(request) / SETTINGS


def _read_settings(path: Path) -> Json:
    try:
        value = parse_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"The settings file '{path.name}' holds no object.")
    return cast(Json, value)


# Files --------------------------------------------------------------------------------------------


async def list_files(request: web.Request) -> web.Response:
    """The files of a folder of the user: names, or objects with `full_info`."""
    folder = request.query.get("dir", "")
    if not folder:
        raise BadRequest("The query names no folder.", hint="/userdata?dir=workflows")
    root = _path(request, folder)
    if not root.is_dir():
        raise NotFound(f"The user has no folder '{folder[:200]}'.")
    recurse, full = _is_yes(request, "recurse"), _is_yes(request, "full_info")
    found = await asyncio.to_thread(_walk, root, recurse)
    if full:
        return web.json_response([_info(path, root) for path in found])
    names = [path.relative_to(root).as_posix() for path in found]
    if _is_yes(request, "split"):
        return web.json_response([[name, *name.split("/")] for name in names])
    return web.json_response(names)


def _walk(root: Path, recurse: bool) -> list[Path]:
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        found.extend(Path(folder) / name for name in files if not name.startswith("."))
        if not recurse or len(found) > _MAX_LISTED:
            folders.clear()
    return sorted(found)


def _info(path: Path, root: Path) -> Json:
    stat = path.stat()
    return {
        "path": path.relative_to(root).as_posix(),
        "size": stat.st_size,
        "modified": int(stat.st_mtime * 1000),
        "created": int(stat.st_ctime * 1000),
    }


async def list_folder(request: web.Request) -> web.Response:
    """What lies directly in a folder of the user: files and folders."""
    name = request.query.get("path", "")
    root = _path(request, name) if name.strip("/") else _root(request)
    if not root.is_dir():
        if not name.strip("/"):
            return web.json_response([])
        raise NotFound(f"The user has no folder '{name[:200]}'.")
    return web.json_response(await asyncio.to_thread(_entries, root, _root(request)))


def _entries(folder: Path, root: Path) -> list[Json]:
    out: list[Json] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        is_folder = path.is_dir()
        entry: Json = {"name": path.name, "type": "directory" if is_folder else "file"}
        out.append({**entry, **({} if is_folder else _info(path, root))})
        out[-1]["path"] = path.relative_to(root).as_posix()
    return out


def _is_yes(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("true", "1")


async def get_file(request: web.Request) -> web.StreamResponse:
    """One file of the user."""
    path = _file(request, request.match_info["file"])
    headers = {
        "Content-Type": "application/json"
        if path.suffix == ".json"
        else "application/octet-stream",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "no-cache",
    }
    return web.FileResponse(path, headers=headers)


async def put_file(request: web.Request) -> web.Response:
    """Write one file of the user; `overwrite=false` refuses to replace one."""
    path = _path(request, request.match_info["file"])
    body = await read_body(request, int(request.app[CONFIG].max_upload_mb * 1024 * 1024))
    async with request.app[WRITES]:
        _check_free(request, path)
        await asyncio.to_thread(write_whole, path, lambda file: file.write(body))
    return _written(request, path)


async def delete_file(request: web.Request) -> web.Response:
    """Delete one file of the user."""
    _file(request, request.match_info["file"]).unlink(missing_ok=True)
    return web.Response(status=204)


async def move_file(request: web.Request) -> web.Response:
    """Give one file of the user another name."""
    source = _file(request, request.match_info["file"])
    target = _path(request, request.match_info["dest"])
    async with request.app[WRITES]:
        _check_free(request, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    return _written(request, target)


def _check_free(request: web.Request, path: Path) -> None:
    """Raises: Conflict, UnsafePath for a folder."""
    if path.is_dir():
        raise UnsafePath(f"'{path.name}' is a folder.")
    if request.query.get("overwrite", "true").lower() == "false" and path.exists():
        raise Conflict(f"The user has a file '{path.name}' already.", code="file_exists")


def _written(request: web.Request, path: Path) -> web.Response:
    root = _root(request)
    full: Any = _info(path, root) if _is_yes(request, "full_info") else None
    return web.json_response(full or path.relative_to(root).as_posix())


_FULL = Query(name="full_info", description="answer objects with size and times", type="boolean")
_OVERWRITE = Query(name="overwrite", description="false refuses to replace a file", type="boolean")
_INFO = {"path": "workflows/a.json", "size": 120, "modified": 0, "created": 0}

ROUTES = (
    Route(
        method="GET",
        path="/users",
        handler=users,
        summary="There is one user",
        answer={"storage": "server", "migrated": True},
    ),
    Route(
        method="POST", path="/users", handler=add_user, summary="Refused: one user", errors=(400,)
    ),
    Route(method="GET", path="/settings", handler=settings, summary="All settings", answer={}),
    Route(
        method="POST",
        path="/settings",
        handler=change_settings,
        summary="Set several settings",
        body={"Comfy.Locale": "en"},
        answer_type="",
        errors=(400,),
    ),
    Route(method="GET", path="/settings/{id}", handler=setting, summary="One setting", answer="en"),
    Route(
        method="POST",
        path="/settings/{id}",
        handler=change_setting,
        summary="Set one setting",
        body="en",
        answer_type="",
        errors=(400,),
    ),
    Route(
        method="GET",
        path="/userdata",
        handler=list_files,
        summary="Files in a folder of the user",
        query=(
            Query(name="dir", description="the folder"),
            Query(name="recurse", description="with folders below", type="boolean"),
            Query(name="split", description="names as lists of their parts", type="boolean"),
            _FULL,
        ),
        answer=["a.json"],
        errors=(400, 403, 404),
    ),
    Route(
        method="GET",
        path="/v2/userdata",
        handler=list_folder,
        summary="Files and folders in a folder of the user",
        query=(Query(name="path", description="the folder; empty is the root"),),
        answer=[{"name": "a.json", "type": "file", **_INFO}],
        errors=(403, 404),
    ),
    Route(
        method="GET",
        path="/userdata/{file}",
        handler=get_file,
        summary="A file of the user ('/' in its name is written %2F)",
        answer_type="application/octet-stream",
        errors=(403, 404),
    ),
    Route(
        method="POST",
        path="/userdata/{file}",
        handler=put_file,
        summary="Write a file of the user",
        query=(_OVERWRITE, _FULL),
        body_type="application/octet-stream",
        answer="workflows/a.json",
        errors=(403, 409, 413),
    ),
    Route(
        method="DELETE",
        path="/userdata/{file}",
        handler=delete_file,
        summary="Delete a file of the user",
        answer_type="",
        errors=(403, 404),
    ),
    Route(
        method="POST",
        path="/userdata/{file}/move/{dest}",
        handler=move_file,
        summary="Rename a file of the user",
        query=(_OVERWRITE, _FULL),
        answer="workflows/b.json",
        errors=(403, 404, 409),
    ),
)
