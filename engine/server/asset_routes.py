"""Pictures and other files: `/view`, uploads, metadata of model files, listings."""

import asyncio
import hashlib
import re
import secrets
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from engine.api.errors import UnsafePath
from engine.server.bodies import BadRequest, NotFound, TooLarge, parse_json
from engine.server.pictures import check_picture, put_mask, variant
from engine.server.routes import CONFIG, SERVICES, WRITES, Query, Route

KINDS = ("output", "input", "temp")
# What a browser shows and never runs; everything else is only offered for download.
_SHOWN = {
    **{f".{name}": f"image/{name}" for name in ("png", "jpeg", "webp", "gif", "bmp", "avif")},
    **{f".{name}": f"video/{name}" for name in ("mp4", "webm")},
    **{f".{name}": f"audio/{name}" for name in ("flac", "ogg", "wav", "opus")},
    ".jpg": "image/jpeg",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".json": "application/json",
    ".txt": "text/plain",
}
_MAX_FIELD_BYTES = 64 * 1024
_CHUNK_BYTES = 256 * 1024
_MARK = re.compile(r"(.+) \[(output|input|temp)\]", re.DOTALL)


async def view(request: web.Request) -> web.StreamResponse:
    """One file of the output, input or temp folder."""
    name = request.query.get("filename", "")
    if not name:
        raise BadRequest("The query names no file.", hint="/view?filename=NAME&type=output")
    kind = request.query.get("type") or "output"
    if marked := _MARK.fullmatch(name):
        name, kind = marked.groups()
    path = _find(request, _kind(kind), request.query.get("subfolder", ""), name)
    preview, channel = request.query.get("preview"), request.query.get("channel", "rgba")
    if channel not in ("rgba", "rgb", "a"):
        raise BadRequest(f"The channel '{channel[:20]}' is none of rgb, a, rgba.")
    if not preview and channel == "rgba":
        shown_as = _SHOWN.get(path.suffix.lower())
        return web.FileResponse(path, headers=_safe_headers(path.name, shown_as))
    etag = _variant_etag(path, preview, channel)
    if any(tag.value in (etag, "*") for tag in request.if_none_match or ()):
        return web.Response(status=304, headers={"ETag": f'"{etag}"'})
    body, media_type = await asyncio.to_thread(variant, path, preview, channel)
    headers = {**_safe_headers(path.name, media_type), "ETag": f'"{etag}"'}
    return web.Response(body=body, headers=headers)


def _find(request: web.Request, kind: str, subfolder: str, name: str) -> Path:
    """An existing file. Raises: UnsafePath, NotFound."""
    path = request.app[SERVICES].folders.join(kind, f"{subfolder}/{name}" if subfolder else name)
    if not path.is_file():
        raise NotFound(f"There is no file '{name[:200]}' in the {kind} folder.")
    return path


def _kind(text: str) -> str:
    if text not in KINDS:
        raise BadRequest(f"The type '{text[:40]}' is none of {', '.join(KINDS)}.")
    return text


def _variant_etag(path: Path, preview: str | None, channel: str) -> str:
    stat = path.stat()
    parts = f"{stat.st_mtime_ns} {stat.st_size} {preview} {channel}"
    return hashlib.sha256(parts.encode(errors="replace")).hexdigest()[:24]


def _safe_headers(name: str, shown_as: str | None) -> dict[str, str]:
    """Headers with which a user's file cannot act as a page of this server."""
    quoted = re.sub(r'[^ -~]|["\\]', "_", name)
    return {
        "Content-Type": shown_as or "application/octet-stream",
        "Content-Disposition": f'{"inline" if shown_as else "attachment"}; filename="{quoted}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "no-cache",
    }


# Uploads ------------------------------------------------------------------------------------------


async def upload_image(request: web.Request) -> web.Response:
    """Keep a picture in a folder; an other picture of that name gets ` (1)`."""
    async with _upload(request) as (fields, filename, temporary):
        await asyncio.to_thread(check_picture, temporary)
        return await _keep(request, fields, filename, temporary)


async def upload_mask(request: web.Request) -> web.Response:
    """Keep `original_ref` with the alpha channel of the uploaded mask."""
    async with _upload(request) as (fields, filename, temporary):
        original = _original(request, fields)
        masked = temporary.with_suffix(".mask")
        try:
            await asyncio.to_thread(put_mask, original, temporary, masked)
            return await _keep(request, fields, filename, masked)
        finally:
            masked.unlink(missing_ok=True)


def _original(request: web.Request, fields: dict[str, str]) -> Path:
    reference: Any = parse_json(fields.get("original_ref", "null").encode())
    if not isinstance(reference, dict):
        raise BadRequest("'original_ref' is no object {filename, subfolder, type}.")
    parts = cast("dict[str, object]", reference)
    name, subfolder = parts.get("filename"), parts.get("subfolder") or ""
    kind = parts.get("type") or "output"
    if not (isinstance(name, str) and isinstance(subfolder, str) and isinstance(kind, str)):
        raise BadRequest("'original_ref' is no object {filename, subfolder, type}.")
    return _find(request, _kind(kind), subfolder, name)


@asynccontextmanager
async def _upload(request: web.Request) -> AsyncGenerator[tuple[dict[str, str], str, Path]]:
    """The fields of a multipart body, the picture's name, and its bytes in a temporary file."""
    folder = request.app[CONFIG].temp_dir
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".upload-{secrets.token_hex(8)}"
    try:
        fields, filename = await _read_parts(request, temporary)
        if not filename:
            raise BadRequest("The upload has no file field 'image'.")
        yield fields, filename, temporary
    finally:
        temporary.unlink(missing_ok=True)


async def _read_parts(request: web.Request, temporary: Path) -> tuple[dict[str, str], str]:
    """The fields and the picture's name; its bytes go into a file. Raises: BadRequest, TooLarge."""
    if not request.content_type.startswith("multipart/"):
        raise BadRequest("An upload is a multipart/form-data body with a field 'image'.")
    limit = int(request.app[CONFIG].max_upload_mb * 1024 * 1024)
    if (request.content_length or 0) > limit + _MAX_FIELD_BYTES:
        raise _too_large(limit)
    fields: dict[str, str] = {}
    filename = ""
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise BadRequest("A part of the upload has parts of its own.")
            if part.name == "image" and part.filename:
                filename = part.filename
                await _store(part, temporary, limit)
            elif part.name:
                fields[part.name] = await _field(part)
    except (ValueError, HttpProcessingError) as error:  # aiohttp's words for a broken body
        raise BadRequest("The multipart body is broken.") from error
    return fields, filename


async def _store(part: BodyPartReader, path: Path, limit: int) -> None:
    size = 0
    with path.open("wb") as file:
        while chunk := await part.read_chunk(_CHUNK_BYTES):
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            await asyncio.to_thread(file.write, chunk)


async def _field(part: BodyPartReader) -> str:
    value = b""
    while chunk := await part.read_chunk():
        value += chunk
        if len(value) > _MAX_FIELD_BYTES:
            raise TooLarge(f"The field '{part.name}' is too long.")
    return value.decode("utf-8", "replace")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The file is larger than {limit / 1024 / 1024:g} MB.",
        hint="The limit is set by --max-upload-size.",
    )


async def _keep(
    request: web.Request, fields: dict[str, str], filename: str, file: Path
) -> web.Response:
    kind = _kind(fields.get("type") or "input")
    subfolder = fields.get("subfolder", "").replace("\\", "/").strip("/")
    if "/" in filename or "\\" in filename:
        raise UnsafePath(f"The file name '{filename[:200]}' holds a folder.")
    name = f"{subfolder}/{filename}" if subfolder else filename
    target = request.app[SERVICES].folders.join(kind, name)
    overwrites = fields.get("overwrite", "").lower() in ("true", "1")
    async with request.app[WRITES]:
        kept = await asyncio.to_thread(_move, file, target, overwrites)
    return web.json_response({"name": kept, "subfolder": subfolder, "type": kind})


def _move(file: Path, target: Path, overwrites: bool) -> str:
    """Put the file in its place; the same bytes under the same name are kept once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    place, number = target, 0
    while not overwrites and place.exists() and not _is_same(file, place):
        number += 1
        place = target.with_name(f"{target.stem} ({number}){target.suffix}")
    near = place.with_name(f".{secrets.token_hex(8)}.part")
    try:
        shutil.copyfile(file, near)
        near.replace(place)
    finally:
        near.unlink(missing_ok=True)
    return place.name


def _is_same(a: Path, b: Path) -> bool:
    if not b.is_file() or a.stat().st_size != b.stat().st_size:
        return False
    with a.open("rb") as left, b.open("rb") as right:
        return hashlib.file_digest(left, "sha256").digest() == (
            hashlib.file_digest(right, "sha256").digest()
        )


_UPLOADED = {"name": "cat.png", "subfolder": "", "type": "input"}

ROUTES = (
    Route(
        method="GET",
        path="/view",
        handler=view,
        summary="A picture or other file of the output, input or temp folder",
        query=(
            Query(name="filename", description="the file's name"),
            Query(name="subfolder", description="folders between"),
            Query(name="type", description="output, input or temp"),
            Query(name="preview", description="webp;90 or jpeg;80: a re-coded picture"),
            Query(name="channel", description="rgb, a or rgba"),
        ),
        answer_type="image/*",
        errors=(400, 403, 404),
    ),
    Route(
        method="POST",
        path="/upload/image",
        handler=upload_image,
        summary="Keep a picture; fields image, type, subfolder, overwrite",
        body_type="multipart/form-data",
        answer=_UPLOADED,
        errors=(400, 403, 413),
    ),
    Route(
        method="POST",
        path="/upload/mask",
        handler=upload_mask,
        summary="Keep a picture with another's alpha channel; also original_ref",
        body_type="multipart/form-data",
        answer=_UPLOADED,
        errors=(400, 403, 404, 413),
    ),
)
