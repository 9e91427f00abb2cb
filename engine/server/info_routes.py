"""What the server knows: node types, models, devices, packs, log, health and figures."""

import asyncio
import importlib.metadata
import json
import platform
import sys
import tomllib
from pathlib import Path
from typing import Any, cast

import psutil
from aiohttp import web

from engine.config import ROOT
from engine.server.bodies import BadRequest, Json, NotFound, flag_field, read_object, text_field
from engine.server.prompt_routes import answer
from engine.server.routes import HUB, SERVICES, Query, Route
from engine.server.ws import features

_MAX_HEADER_BYTES = 100 * 1024 * 1024
_LISTED = ("input", "output", "temp")


async def object_info(request: web.Request) -> web.Response:
    """All node types."""
    services = request.app[SERVICES]
    await services.worker.refresh()
    return answer(services.worker.catalogue.to_object_info(services.folders.list_files))


async def object_info_of(request: web.Request) -> web.Response:
    """One node type; `{}` if unknown."""
    services, name = request.app[SERVICES], request.match_info["name"]
    await services.worker.refresh()
    return answer(services.worker.catalogue.object_info_of(name, services.folders.list_files))


# Models -------------------------------------------------------------------------------------------


async def model_folders(request: web.Request) -> web.Response:
    """The kinds of models."""
    return answer(list(request.app[SERVICES].folders.kinds()))


async def model_files(request: web.Request) -> web.Response:
    """The files of one kind of models."""
    folders, kind = request.app[SERVICES].folders, request.match_info["folder"]
    if kind not in _kinds(request):
        raise NotFound(f"There is no model folder '{kind[:200]}'.")
    return answer(list(folders.list_files(kind)))


def _kinds(request: web.Request) -> set[str]:
    return {*request.app[SERVICES].folders.kinds(), "clip", "unet"}


async def embeddings(request: web.Request) -> web.Response:
    """The names of textual inversion embeddings."""
    names = request.app[SERVICES].folders.list_files("embeddings")
    return answer([name.rpartition(".")[0] for name in names])


async def view_metadata(request: web.Request) -> web.Response:
    """What a safetensors file says of itself."""
    folders, kind = request.app[SERVICES].folders, request.match_info["folder"]
    name = request.query.get("filename", "")
    if kind not in _kinds(request) or not name.endswith((".safetensors", ".sft")):
        raise NotFound("There is no safetensors file of that name.")
    path = folders.resolve(kind, name)
    return answer(await asyncio.to_thread(read_metadata, path))


def read_metadata(path: Path) -> Json:
    """The `__metadata__` of a safetensors header. Raises: NotFound, BadRequest."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(_MAX_HEADER_BYTES, path.stat().st_size):
            raise BadRequest(f"'{path.name}' has no safetensors header.", code="corrupt_file")
        text = file.read(size)
    try:
        header: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"The header of '{path.name}' is damaged."
        raise BadRequest(message, code="corrupt_file") from error
    found: Any = cast(Json, header).get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(found, dict):
        raise NotFound(f"'{path.name}' holds no metadata.")
    return cast(Json, found)


async def list_place(request: web.Request) -> web.Response:
    """The files of the input, output or temp folder, the newest first."""
    kind = request.match_info["type"]
    if kind not in _LISTED:
        raise BadRequest(f"'{kind[:40]}' is none of {', '.join(_LISTED)}.")
    folder = request.app[SERVICES].folders.paths(kind)[0]
    names = await asyncio.to_thread(_newest_first, folder)
    return answer(names if kind == "input" else [f"{name} [{kind}]" for name in names])


def _newest_first(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    files = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    return [p.name for p in sorted(files, key=lambda p: p.stat().st_mtime, reverse=True)]


# The machine --------------------------------------------------------------------------------------


async def system_stats(request: web.Request) -> web.Response:
    """The machine, the versions and the devices."""
    memory = psutil.virtual_memory()
    services, cpu = request.app[SERVICES], _cpu(memory)
    return answer(
        {
            "system": {
                "os": sys.platform,
                "ram_total": memory.total,
                "ram_free": memory.available,
                "comfyui_version": "0.3.76",  # the wire format's, which clients ask for
                "weft_version": _own_version(),
                "python_version": sys.version,
                "pytorch_version": _version("torch") or "",
                "embedded_python": False,
                "argv": ["main.py", *services.config.argv],
                "machine": platform.machine(),
            },
            "devices": [{**cpu, **device} for device in services.devices] or [cpu],
        }
    )


def _own_version() -> str:
    """The release, which has its one home in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]["version"]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu(memory: Any) -> Json:
    return {
        "name": "cpu",
        "type": "cpu",
        "index": None,
        "vram_total": memory.total,
        "vram_free": memory.available,
        "torch_vram_total": memory.total,
        "torch_vram_free": memory.available,
    }


async def get_features(request: web.Request) -> web.Response:
    """What this server can do."""
    return answer(features(request.app[SERVICES]))


async def health(_request: web.Request) -> web.Response:
    """The server answers."""
    return answer({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Whether jobs would run now."""
    phase = request.app[SERVICES].worker.phase
    return answer({"ready": phase == "ready", "worker": phase}, 200 if phase == "ready" else 503)


async def metrics(request: web.Request) -> web.Response:
    """Figures in the Prometheus text form."""
    services, hub = request.app[SERVICES], request.app[HUB]
    counts = await services.queue.counts()
    lines = [
        "# HELP weft_jobs Jobs by state.",
        "# TYPE weft_jobs gauge",
        *(f'weft_jobs{{state="{state}"}} {count}' for state, count in counts.items()),
        "# HELP weft_websocket_clients Connected websocket clients.",
        "# TYPE weft_websocket_clients gauge",
        f"weft_websocket_clients {len(hub.connections)}",
        "# HELP weft_websocket_messages_total Messages handed to websocket clients.",
        "# TYPE weft_websocket_messages_total counter",
        f"weft_websocket_messages_total {hub.sent}",
        "# HELP weft_worker_ready Whether the worker takes jobs.",
        "# TYPE weft_worker_ready gauge",
        f"weft_worker_ready {int(services.worker.phase == 'ready')}",
        "# HELP process_resident_memory_bytes Memory of the server process.",
        "# TYPE process_resident_memory_bytes gauge",
        f"process_resident_memory_bytes {psutil.Process().memory_info().rss}",
    ]
    return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")


async def packs(request: web.Request) -> web.Response:
    """The node packs and how each fares; allowing one is left to the command line."""
    return answer({"packs": list(request.app[SERVICES].packs)})


# Log ----------------------------------------------------------------------------------------------


async def logs(request: web.Request) -> web.Response:
    """The newest lines of the log as one text."""
    return answer("\n".join(f"{time} - {text}" for time, text in request.app[HUB].log_lines))


async def raw_logs(request: web.Request) -> web.Response:
    """The newest lines of the log."""
    entries = [{"t": time, "m": text} for time, text in request.app[HUB].log_lines]
    return answer({"entries": entries, "size": {"cols": 80, "rows": 24}})


async def subscribe_logs(request: web.Request) -> web.Response:
    """Send a websocket client the lines of the log, or no longer."""
    body = await read_object(request)
    client_id = text_field(body, "clientId")
    if client_id is None:
        raise BadRequest("The body names no client.", hint='{"clientId": ID, "enabled": true}')
    request.app[HUB].want_logs(client_id, wants=flag_field(body, "enabled"))
    return web.Response()


_NODE = {
    "EmptyLatentImage": {
        "input": {"required": {"width": ["INT", {"default": 512, "min": 16}]}},
        "output": ["LATENT"],
        "name": "EmptyLatentImage",
        "output_node": False,
    }
}
_LOG = {"entries": [{"t": "2026-01-01T00:00:00", "m": "text"}], "size": {"cols": 80, "rows": 24}}


def _get(
    path: str, handler: Any, summary: str, example: Any, errors: tuple[int, ...] = ()
) -> Route:
    return Route(
        method="GET", path=path, handler=handler, summary=summary, answer=example, errors=errors
    )


ROUTES = (
    _get("/object_info", object_info, "All node types", _NODE),
    _get("/object_info/{name}", object_info_of, "One node type; {} if unknown", _NODE),
    _get("/models", model_folders, "Kinds of models", ["checkpoints", "loras"]),
    _get("/models/{folder}", model_files, "Files of a kind", ["a.safetensors"], (404,)),
    _get("/embeddings", embeddings, "Names of embeddings", ["style"]),
    Route(
        method="GET",
        path="/view_metadata/{folder}",
        handler=view_metadata,
        summary="Metadata in a safetensors header",
        query=(Query(name="filename", description="the file's name"),),
        answer={"format": "pt"},
        errors=(400, 403, 404),
    ),
    _get(
        "/system_stats", system_stats, "Machine, versions, devices", {"system": {}, "devices": []}
    ),
    _get("/features", get_features, "What this server can do", {"supports_preview_metadata": True}),
    _get("/health", health, "The server answers", {"status": "ok"}),
    _get("/ready", ready, "Jobs would run now", {"ready": True, "worker": "ready"}, (503,)),
    Route(
        method="GET",
        path="/metrics",
        handler=metrics,
        summary="Figures in the Prometheus text form",
        answer_type="text/plain",
    ),
    _get("/packs", packs, "Node packs and how each fares", {"packs": []}),
    _get("/internal/files/{type}", list_place, "Files, newest first", ["a.png [output]"], (400,)),
    _get("/internal/logs", logs, "The newest lines of the log", "text"),
    _get("/internal/logs/raw", raw_logs, "The newest lines of the log, apart", _LOG),
    Route(
        method="PATCH",
        path="/internal/logs/subscribe",
        handler=subscribe_logs,
        summary="Send a websocket client the log",
        body={"clientId": "me", "enabled": True},
        answer_type="",
        errors=(400,),
    ),
)
