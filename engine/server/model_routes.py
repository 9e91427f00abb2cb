"""`/weft/models`: every model file with family, size and digest, read without loading weights."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from engine.api.errors import EngineError
from engine.run.digests import Digests
from engine.run.folders import Folders
from engine.server.prompt_routes import answer
from engine.server.routes import SERVICES, Route

Json = dict[str, Any]

_MAX_HEADER_BYTES = 100 * 1024 * 1024

# A tensor that only checkpoints of this family have, the most telling first.
_MARKS: Mapping[str, str] = {
    "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": "sdxl",
    "conditioner.embedders.0.model.transformer.resblocks.0.attn.in_proj_weight": "sdxl refiner",
    "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight": "sd2",
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": "sd15",
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": "sd3",
    "model.diffusion_model.double_blocks.0.img_attn.qkv.weight": "flux",
    "double_blocks.0.img_attn.qkv.weight": "flux",
    "joint_blocks.0.x_block.attn.qkv.weight": "sd3",
}
_BASES: Mapping[str, str] = {  # what LoRA files and others say in their metadata
    "stable-diffusion-v1": "sd15",
    "stable-diffusion-v2": "sd2",
    "stable-diffusion-xl-v1-base": "sdxl",
    "sd_v1": "sd15",
    "sd_v2": "sd2",
    "sdxl_base_v1-0": "sdxl",
    "flux-1-dev": "flux",
}


async def list_models(request: web.Request) -> web.Response:
    """All model files by kind."""
    services = request.app[SERVICES]
    state = services.folders.state
    files = await asyncio.to_thread(model_files, services.folders, state / "digests.sqlite")
    return answer({"models": files})


def model_files(folders: Folders, digests: Path) -> list[Json]:
    """Every file of every model folder. A digest is told if it is known already."""
    known = Digests(digests)
    out: list[Json] = []
    for kind in folders.kinds():
        for name in folders.list_files(kind):
            try:
                path = folders.resolve(kind, name)
                stat = path.stat()
            except (EngineError, OSError):
                continue  # gone meanwhile
            family, problem = family_of(path)
            out.append(
                {
                    "kind": kind,
                    "name": name,
                    "family": family,
                    "size": stat.st_size,
                    "modified": int(stat.st_mtime * 1000),
                    "sha256": known.known(path) or "",
                    "folder": str(path.parent),
                    "problem": problem,
                }
            )
    return out


def family_of(path: Path) -> tuple[str, str]:
    """(family, problem) as the header of a safetensors file tells; empty where it does not."""
    if path.suffix not in (".safetensors", ".sft"):
        return "", ""
    try:
        header = _header(path)
    except (OSError, ValueError, RecursionError):
        return "", "It is no whole safetensors file."
    metadata: object = header.get("__metadata__")
    told = cast(Json, metadata) if isinstance(metadata, dict) else {}
    if isinstance(told.get("weft.family"), str):
        return told["weft.family"], ""
    mark = next((family for key, family in _MARKS.items() if key in header), "")
    names = (told.get("modelspec.architecture"), told.get("ss_base_model_version"))
    base = next((_BASES[n.split("/")[0]] for n in map(str, names) if n.split("/")[0] in _BASES), "")
    return mark or base, ""


def _header(path: Path) -> Json:
    """Raises: OSError, ValueError."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise ValueError("no header")
        header: object = json.loads(file.read(size))
    if not isinstance(header, dict):
        raise ValueError("no object")
    return cast(Json, header)


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
                    "family": "sd15",
                    "size": 120,
                    "modified": 0,
                    "sha256": "",
                    "folder": "/models/checkpoints",
                    "problem": "",
                }
            ]
        },
    ),
)
