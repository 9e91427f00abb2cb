"""`/weft/models`: every model file with family, size and digest, and the published ones.

Nothing is loaded over the network here: a published model comes with the command that gets it.
"""

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import web

from engine.api.errors import EngineError
from engine.run.digests import Digests
from engine.run.folders import Folders
from engine.run.known_models import by_digest, known_models
from engine.run.weight_header import family_of
from engine.server.bodies import NotFound
from engine.server.model_previews import has_preview, preview_of
from engine.server.prompt_routes import answer
from engine.server.routes import SERVICES, Query, Route

Json = dict[str, Any]


async def list_models(request: web.Request) -> web.Response:
    """All model files by kind, and the published models with the command that gets each."""
    services = request.app[SERVICES]
    state = services.folders.state
    files = await asyncio.to_thread(model_files, services.folders, state / "digests.sqlite")
    reading = services.worker.reading
    told = None if reading is None else {"path": reading[0], "share": round(reading[1], 3)}
    return answer({"models": files, "published": published_models(files), "reading": told})


async def show_preview(request: web.Request) -> web.Response:
    """The picture of a model."""
    folders = request.app[SERVICES].folders
    path = folders.resolve(request.query.get("kind", ""), request.query.get("name", ""))
    data = await asyncio.to_thread(preview_of, path)
    if data is None:
        raise NotFound("This model has no preview.", hint=f"Put {path.stem}.preview.png beside it.")
    headers = {"Cache-Control": "private, max-age=60"}
    return web.Response(body=data, content_type="image/webp", headers=headers)


def model_files(folders: Folders, digests: Path) -> list[Json]:
    """Every file of every model folder. A digest is told if it is known already."""
    known = Digests(digests)
    published = known_models()
    out: list[Json] = []
    for kind in folders.kinds():
        for name in folders.list_files(kind):
            try:
                path = folders.resolve(kind, name)
                stat = path.stat()
            except (EngineError, OSError):
                continue  # gone meanwhile
            family, problem = family_of(path)
            sha256 = known.known(path) or ""
            found = by_digest(published, sha256)
            out.append(
                {
                    "kind": kind,
                    "name": name,
                    "family": family,
                    "size": stat.st_size,
                    "modified": int(stat.st_mtime * 1000),
                    "sha256": sha256,
                    "folder": str(path.parent),
                    "source": folders.source_of(path),
                    "published_as": found.title if found else "",
                    "problem": problem,
                    "has_preview": has_preview(path),
                }
            )
    return out


def published_models(files: list[Json]) -> list[Json]:
    """The published models that are not among the files, by hash or by name and size."""
    digests = {file["sha256"] for file in files}
    sizes = {(file["name"].rpartition("/")[2], file["size"]) for file in files}
    return [
        {
            "name": model.name,
            "title": model.title,
            "file": model.file,
            "kind": model.kind,
            "family": model.family,
            "size": model.bytes,
            "sha256": model.sha256,
            "licence": model.licence,
            "page": model.page,
            "command": model.command,
        }
        for model in known_models()
        if model.sha256 not in digests and (model.file, model.bytes) not in sizes
    ]


ROUTES = (
    Route(
        method="GET",
        path="/weft/models",
        handler=list_models,
        summary="Model files with family, size, digest and folder",
        answer={
            "models": [
                {
                    "kind": "checkpoints",
                    "name": "a.safetensors",
                    "family": "sd1",
                    "size": 120,
                    "modified": 0,
                    "sha256": "",
                    "folder": "/models/checkpoints",
                    "source": "ComfyUI",
                    "published_as": "",
                    "problem": "",
                    "has_preview": False,
                }
            ],
            "reading": {"path": "/models/checkpoints/a.safetensors", "share": 0.4},
            "published": [
                {
                    "name": "sd15",
                    "title": "Stable Diffusion 1.5",
                    "file": "b.safetensors",
                    "kind": "checkpoints",
                    "family": "sd1",
                    "size": 120,
                    "sha256": "",
                    "licence": "CreativeML Open RAIL-M",
                    "page": "https://example.org/b",
                    "command": "python3 main.py models get sd15",
                }
            ],
        },
    ),
    Route(
        method="GET",
        path="/weft/models/preview",
        handler=show_preview,
        summary="The preview of a model: a picture beside its file, or in its metadata",
        query=(
            Query(name="kind", description="checkpoints, loras …"),
            Query(name="name", description="the file's name"),
        ),
        answer_type="image/webp",
        errors=(400, 403, 404),
    ),
)
