"""The prompt's way in and out: submit, queue, history, interrupt, free."""

import asyncio
import math
import re
from typing import Any, cast

from aiohttp import web

from engine.api.errors import GraphInvalid
from engine.api.events import NodeRecord
from engine.graph.prompt import parse_prompt
from engine.graph.validate import Validation, nodes_with_own_check, validate
from engine.graph.wire_errors import node_errors, to_wire, warnings_to_wire
from engine.graph.workflow import to_prompt
from engine.run.job import Submission, Ticket
from engine.server.bodies import (
    BadRequest,
    Json,
    flag_field,
    object_field,
    query_number,
    read_object,
    read_prompt,
    text_field,
    texts_field,
)
from engine.server.history import history_entry, queue_item
from engine.server.routes import SERVICES, Query, Route
from engine.server.services import Services
from engine.server.wire import to_text

MAX_CLIENT_ID = 200
MAX_HISTORY = 10_000  # entries of one answer
_ID = re.compile(r"[\x21-\x7e]{1,200}")


def answer(value: object, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(text=to_text(value), status=status, content_type="application/json")


class Refusal(Exception):
    """A prompt that cannot run, with the body of the 400 answer."""

    def __init__(self, body: Json) -> None:
        super().__init__("refused")
        self.body = body


async def submit(request: web.Request) -> web.Response:
    """Check a prompt and queue it."""
    body, has_odd_numbers = await read_prompt(request)
    try:
        ticket, validation = await enqueue(request, body, has_odd_numbers=has_odd_numbers)
    except Refusal as refusal:
        return answer(refusal.body, 400)
    errors = node_errors(validation)
    out: Json = {
        "prompt_id": ticket.job_id,
        "number": int(ticket.number) if ticket.number.is_integer() else ticket.number,
        "node_errors": errors,
    }
    warnings = warnings_to_wire(validation)
    if warnings or not ticket.is_new:
        out["weft"] = {"warnings": warnings, "is_new": ticket.is_new}
    return answer(out)


async def enqueue(
    request: web.Request, body: Json, *, has_odd_numbers: bool
) -> tuple[Ticket, Validation]:
    """Check the prompt or workflow of a body and queue it.

    Raises: Refusal, GraphInvalid, BadRequest, Conflict.
    """
    services = request.app[SERVICES]
    validation = await _validate(services, body)
    if not validation.can_run or (flag_field(body, "strict") and validation.errors):
        error, nodes = to_wire(validation)
        raise Refusal({"error": error, "node_errors": nodes})
    if has_odd_numbers:
        raise BadRequest("The body holds NaN or an endless number.", code="invalid_json")
    submission = _submission(request, body, validation, node_errors(validation))
    return await services.queue.submit(submission), validation


async def _validate(services: Services, body: Json) -> Validation:
    """Raises: GraphInvalid, BadRequest."""
    catalogue = services.worker.catalogue
    prompt: object = body.get("prompt")
    if prompt is None and body.get("workflow") is not None:
        prompt = to_prompt(body["workflow"], catalogue)
    if prompt is None:
        raise GraphInvalid("The body has no prompt.", code="no_prompt")
    graph, list_files = parse_prompt(prompt), services.folders.list_files
    targets = texts_field(body, "partial_execution_targets")
    validation = validate(graph, catalogue, list_files, targets)
    if any(p.code == "value_not_in_list" for p in validation.errors):
        await services.worker.refresh()  # the choices may have grown since
        if services.worker.catalogue is not catalogue:
            catalogue = services.worker.catalogue
            validation = validate(graph, catalogue, list_files, targets)
    if nodes_with_own_check(validation, catalogue):
        validation = await services.worker.validate(validation)
    return validation


def _submission(
    request: web.Request, body: Json, validation: Validation, errors: Json
) -> Submission:
    extra = dict(object_field(body, "extra_data"))
    object_field(extra, "extra_pnginfo")
    workflow = body.get("workflow")
    if isinstance(workflow, dict) and body.get("prompt") is None:
        extra.setdefault("extra_pnginfo", {"workflow": workflow})
    client_id = text_field(body, "client_id")
    if client_id is None and isinstance(extra.get("client_id"), str):
        client_id = extra["client_id"]
    refused = NodeRecord(state="refused", reason="refused by validation")
    return Submission(
        prompt=validation.graph.to_json(),
        outputs=validation.good_outputs,
        extra_data=extra,
        client_id=(client_id or None) and client_id[:MAX_CLIENT_ID],
        job_id=_identifier("prompt_id", text_field(body, "prompt_id")),
        idempotency_key=_identifier("Idempotency-Key", request.headers.get("Idempotency-Key")),
        number=_number(body.get("number")),
        front=flag_field(body, "front"),
        records=dict.fromkeys(validation.bad_outputs, refused),
        refusals=errors,
    )


def _identifier(name: str, value: str | None) -> str | None:
    """An id of a client's making; an empty one counts as none. Raises: BadRequest."""
    if not value:
        return None
    if not _ID.fullmatch(value):
        raise BadRequest(
            f"'{name}' is no id.",
            hint="An id has 1 to 200 printable ASCII characters and no spaces.",
            code="invalid_field",
        )
    return value


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        raise BadRequest("'number' is no place in the queue.", code="invalid_field")
    return float(value) if math.isfinite(value) else None


async def exec_info(request: web.Request) -> web.Response:
    """How many jobs wait or run."""
    return answer({"exec_info": {"queue_remaining": request.app[SERVICES].queue.remaining}})


# Queue --------------------------------------------------------------------------------------------


async def get_queue(request: web.Request) -> web.Response:
    """The jobs that run and those that wait."""
    queue = request.app[SERVICES].queue
    running, pending = await asyncio.gather(queue.running(), queue.pending())
    return answer(
        {
            "queue_running": [queue_item(job) for job in running],
            "queue_pending": [queue_item(job) for job in pending],
            "weft": {"paused": queue.is_paused},
        }
    )


async def change_queue(request: web.Request) -> web.Response:
    """Cancel waiting jobs, move one, pause or resume."""
    queue, body = request.app[SERVICES].queue, await read_object(request)
    deleted, move = texts_field(body, "delete"), object_field(body, "move")
    moved, before = text_field(move, "id"), text_field(move, "before")
    if move and moved is None:
        raise BadRequest("'move' names no job.", hint='{"move": {"id": ID, "before": ID}}')
    flags = {name: flag_field(body, name) for name in ("clear", "pause", "resume")}
    if flags["clear"]:
        await queue.clear_pending()
    if deleted:
        await queue.cancel(deleted)
    if moved is not None:
        await queue.move(moved, before)
    if flags["pause"] or flags["resume"]:
        await queue.pause(is_paused=flags["pause"])
    return web.Response()


async def interrupt(request: web.Request) -> web.Response:
    """Stop the running job, or only that of `prompt_id`."""
    body = await read_object(request)
    await request.app[SERVICES].worker.interrupt(text_field(body, "prompt_id"))
    return web.Response()


async def free(request: web.Request) -> web.Response:
    """Give memory back."""
    body = await read_object(request)
    await request.app[SERVICES].worker.free(
        unload_models=flag_field(body, "unload_models"),
        free_memory=flag_field(body, "free_memory"),
    )
    return web.Response()


# History ------------------------------------------------------------------------------------------


async def get_history(request: web.Request) -> web.Response:
    """Ended jobs, the oldest first; without `offset` the newest `max_items`."""
    max_items = query_number(request, "max_items", -1) or 0
    offset = query_number(request, "offset", -1) or 0
    jobs = await request.app[SERVICES].queue.history(
        max_items=max_items if 0 <= max_items < MAX_HISTORY else MAX_HISTORY,
        offset=None if offset < 0 else offset,
    )
    return answer({job.id: history_entry(job) for job in jobs})


async def get_history_entry(request: web.Request) -> web.Response:
    """One ended job; `{}` while it has not ended and for unknown ids."""
    job = await request.app[SERVICES].queue.get(request.match_info["id"])
    is_ended = job is not None and job.state in ("success", "error", "interrupted")
    return answer({job.id: history_entry(job)} if job is not None and is_ended else {})


async def change_history(request: web.Request) -> web.Response:
    """Forget ended jobs; their files stay."""
    body = await read_object(request)
    deleted, clears = texts_field(body, "delete"), flag_field(body, "clear")
    if clears:
        await request.app[SERVICES].queue.delete_history()
    elif deleted:
        await request.app[SERVICES].queue.delete_history(deleted)
    return web.Response()


_PROMPT = {"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}}}
_ITEM: list[Any] = [1, "id", cast(Any, _PROMPT), {"client_id": "me"}, ["9"]]

ROUTES = (
    Route(
        method="POST",
        path="/prompt",
        handler=submit,
        summary="Queue a prompt (API form) or a workflow (editor form)",
        body={
            "prompt": _PROMPT,
            "client_id": "me",
            "prompt_id": "optional id; the same id and body give the same job",
            "strict": False,
            "front": False,
            "extra_data": {"extra_pnginfo": {"workflow": {}}},
        },
        answer={"prompt_id": "id", "number": 1, "node_errors": {}},
        errors=(400, 409, 413),
    ),
    Route(
        method="GET",
        path="/prompt",
        handler=exec_info,
        summary="How many jobs wait or run",
        answer={"exec_info": {"queue_remaining": 0}},
    ),
    Route(
        method="GET",
        path="/queue",
        handler=get_queue,
        summary="Running and waiting jobs",
        answer={"queue_running": [_ITEM], "queue_pending": []},
    ),
    Route(
        method="POST",
        path="/queue",
        handler=change_queue,
        summary="Cancel (clear, delete), move, pause or resume",
        body={
            "clear": False,
            "delete": ["id"],
            "move": {"id": "id", "before": "id"},
            "pause": False,
            "resume": False,
        },
        answer_type="",
        errors=(400, 404),
    ),
    Route(
        method="GET",
        path="/history",
        handler=get_history,
        summary="Ended jobs, the oldest first",
        query=(
            Query(name="max_items", description="how many", type="integer"),
            Query(name="offset", description="how many to leave out", type="integer"),
        ),
        answer={"id": {"prompt": _ITEM, "outputs": {}, "status": {}, "meta": {}, "weft": {}}},
        errors=(400,),
    ),
    Route(
        method="GET",
        path="/history/{id}",
        handler=get_history_entry,
        summary="One ended job; {} while it has not ended",
        answer={"id": {"prompt": _ITEM, "outputs": {}, "status": {}, "meta": {}, "weft": {}}},
    ),
    Route(
        method="POST",
        path="/history",
        handler=change_history,
        summary="Forget ended jobs",
        body={"clear": False, "delete": ["id"]},
        answer_type="",
        errors=(400,),
    ),
    Route(
        method="POST",
        path="/interrupt",
        handler=interrupt,
        summary="Stop the running job",
        body={"prompt_id": "optional: only if this one runs"},
        answer_type="",
        errors=(400,),
    ),
    Route(
        method="POST",
        path="/free",
        handler=free,
        summary="Give memory back",
        body={"unload_models": True, "free_memory": True},
        answer_type="",
        errors=(400,),
    ),
)
