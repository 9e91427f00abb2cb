"""`POST /weft/run`: one request in, the finished picture out; for scripts without a websocket."""

import asyncio
from typing import Any

from aiohttp import web

from engine.graph.document import is_workflow
from engine.run.job import Job
from engine.server.bodies import BadRequest, Json, read_prompt
from engine.server.history import history_entry
from engine.server.prompt_routes import Refusal, answer, enqueue
from engine.server.routes import SERVICES, Query, Route

_POLL_S = 0.02


async def run(request: web.Request) -> web.StreamResponse:
    """Queue a prompt, wait for its end, and answer with its first picture or its history entry."""
    wanted = request.query.get("format", "file")
    if wanted not in ("file", "json"):
        raise BadRequest(f"There is no format '{wanted[:20]}'.", hint="Use file or json.")
    body, has_odd_numbers = await read_prompt(request)
    try:
        ticket, _ = await enqueue(request, _wrapped(body), has_odd_numbers=has_odd_numbers)
    except Refusal as refusal:
        return answer(refusal.body, 400)
    queue = request.app[SERVICES].queue
    while queue.is_live(ticket.job_id):
        await asyncio.sleep(_POLL_S)
    job = await queue.get(ticket.job_id)
    entry = history_entry(job) if job else {}
    if job is None or job.state != "success":
        state = job.state if job else "cancelled"
        error = {"type": state, "message": f"The job ended as {state}.", "details": _failure(entry)}
        return answer({"error": error, "prompt_id": ticket.job_id, "history": entry}, 422)
    file = _first_file(job)
    if wanted == "json" or file is None:
        return answer({"prompt_id": job.id, "history": entry})
    folders = request.app[SERVICES].folders
    path = folders.join(file["type"], f"{file['subfolder']}/{file['filename']}".lstrip("/"))
    return web.FileResponse(path, headers={"X-Weft-Job": job.id})


def _wrapped(body: Json) -> Json:
    """A request body around a prompt or workflow that was sent bare, as its file is."""
    if "prompt" in body or "workflow" in body:
        return {"strict": True, **body}
    return {"strict": True, "workflow" if is_workflow(body) else "prompt": body}


def _failure(entry: Json) -> str:
    for kind, data in entry.get("status", {}).get("messages", ()):
        if kind == "execution_error":
            return f"Node {data['node_id']} ({data['node_type']}): {data['exception_message']}"
    return ""


def _first_file(job: Job) -> dict[str, Any] | None:
    files = [f for shown in job.results.values() for f in shown.get("images", ())]
    return min(files, key=lambda f: f.get("type") != "output", default=None)


ROUTES = (
    Route(
        method="POST",
        path="/weft/run",
        handler=run,
        summary="Run a prompt or workflow to its end; the answer is its first picture",
        query=(Query(name="format", description="file (default) or json"),),
        body={"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}}},
        answer_type="image/png",
        errors=(400, 409, 413, 422),
        has_api_twin=False,
    ),
)
