"""`POST /weft/grid`: a prompt and its axes in, one job with a cell for each combination out."""

import re
from typing import Any

from aiohttp import web

from engine.api.errors import GraphInvalid
from engine.graph.grid import Grid, expand, read_grid
from engine.graph.prompt import parse_prompt
from engine.graph.validate import validate
from engine.graph.values import Choices
from engine.graph.workflow import to_prompt
from engine.server.bodies import Json, flag_field, object_field, read_prompt
from engine.server.prompt_routes import Refusal, answer, enqueue
from engine.server.routes import SERVICES, Route

_COPY = re.compile(r":(?:[xyz]\d+){1,3}(?![\w:])")


async def make_grid(request: web.Request) -> web.Response:
    """Check a grid and queue it as one job; with `dry_run` only say what it would be."""
    body, has_odd_numbers = await read_prompt(request)
    grid = _read(request, body)
    told = _told(grid)
    if flag_field(body, "dry_run"):
        return answer(told)
    extra = object_field(body, "extra_data")
    if body.get("workflow") is not None and body.get("prompt") is None:
        extra = {"extra_pnginfo": {"workflow": body["workflow"]}, **extra}
    queued = {**body, "prompt": expand(grid), "workflow": None, "strict": True, "extra_data": extra}
    try:
        ticket, _ = await enqueue(request, queued, has_odd_numbers=has_odd_numbers)
    except Refusal as refusal:
        return answer(_on_base_nodes(refusal.body), 400)
    return answer({"prompt_id": ticket.job_id, **told})


def _read(request: web.Request, body: Json) -> Grid:
    """Raises: GraphInvalid with what is wrong with the axes and with the prompt, all at once."""
    services = request.app[SERVICES]
    catalogue, list_files = services.worker.catalogue, services.folders.list_files
    prompt: object = body.get("prompt")
    if prompt is None and body.get("workflow") is not None:
        prompt = to_prompt(body["workflow"], catalogue)
    if prompt is None:
        raise GraphInvalid("The body has no prompt.", code="no_prompt")
    try:
        return read_grid(prompt, body, catalogue, Choices(list_files))
    except GraphInvalid as invalid:
        if invalid.code != "grid":
            raise
        others = validate(parse_prompt(prompt), catalogue, list_files).errors
        problems = (*invalid.problems, *others)
        raise GraphInvalid(_summary(problems), problems=problems, code="grid") from invalid


def _summary(problems: Any) -> str:
    return problems[0].message if len(problems) == 1 else f"{len(problems)} errors in the grid."


def _told(grid: Grid) -> Json:
    count = 1
    for length in grid.shape:
        count *= length
    axes = [
        {"node": a.node_id, "input": a.input_name, "title": a.title, "labels": list(a.labels)}
        for a in grid.axes
    ]
    picture = [grid.picture.node_id, grid.picture.index]
    return {"count": count, "axes": axes, "picture": picture, "sheet": grid.sheet_id}


def _on_base_nodes(body: Json) -> Json:
    """A refusal with the base prompt's nodes in place of their copies, each problem once."""
    merged: dict[str, Json] = {}
    for node_id, entry in body["node_errors"].items():
        told = _renamed(entry)
        known = merged.setdefault(_renamed(node_id), {**told, "errors": []})
        known["errors"] += [e for e in told["errors"] if e not in known["errors"]]
    error = _renamed(body["error"])
    lines = dict.fromkeys(str(error.get("details", "")).splitlines())
    return {"error": {**error, "details": "\n".join(lines)}, "node_errors": merged}


def _renamed(value: Any) -> Any:
    if isinstance(value, str):
        return _COPY.sub("", value)
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if isinstance(value, dict):
        return {key: _renamed(item) for key, item in value.items()}
    return value


_PROMPT = {"3": {"class_type": "KSampler", "inputs": {"cfg": 8.0}}}
_AXIS = {"node": "3", "input": "cfg", "values": "2-8 [4]"}

ROUTES = (
    Route(
        method="POST",
        path="/weft/grid",
        handler=make_grid,
        summary="Queue a prompt once for each combination of values of one to three inputs",
        body={
            "prompt": _PROMPT,
            "axes": [_AXIS, {"node": "3", "input": "sampler_name", "values": ["euler", "ddim"]}],
            "picture": "9",
            "title": "cfg and samplers",
            "dry_run": False,
        },
        answer={
            "prompt_id": "id",
            "count": 8,
            "axes": [{"node": "3", "input": "cfg", "title": "cfg", "labels": ["2", "4"]}],
            "picture": ["8", 0],
            "sheet": "grid",
        },
        errors=(400, 409, 413),
        has_api_twin=False,
    ),
)
