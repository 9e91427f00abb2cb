"""`/jobs`: the queue and the history in the form of newer clients."""

from typing import Any

from aiohttp import web

from engine.run.job import JobFilter, JobState
from engine.server.bodies import BadRequest, NotFound, query_number, read_object, texts_field
from engine.server.history import STATES, job_detail, job_summary
from engine.server.prompt_routes import answer
from engine.server.routes import HUB, SERVICES, Query, Route

MAX_PAGE = 1000


async def list_jobs(request: web.Request) -> web.Response:
    """A page of jobs."""
    wanted = _filter(request)
    page = await request.app[SERVICES].queue.list_jobs(wanted)
    shown = wanted.offset + len(page.jobs)
    return answer(
        {
            "jobs": [job_summary(job) for job in page.jobs],
            "pagination": {
                "offset": wanted.offset,
                "limit": wanted.limit,
                "total": page.total,
                "has_more": shown < page.total,
            },
        }
    )


def _filter(request: web.Request) -> JobFilter:
    """Raises: BadRequest."""
    states: list[JobState] = []
    for name in filter(None, request.query.get("status", "").split(",")):
        if name.strip() not in STATES:
            raise BadRequest(
                f"The status '{name[:40]}' is none of {', '.join(STATES)}.", code="invalid_field"
            )
        states.extend(STATES[name.strip()])
    limit, offset = query_number(request, "limit"), query_number(request, "offset", 0) or 0
    if (limit is not None and limit < 1) or offset < 0:
        raise BadRequest("'limit' is at least 1 and 'offset' at least 0.", code="invalid_field")
    sort = request.query.get("sort_by", "created_at")
    order = request.query.get("sort_order", "desc")
    if sort not in ("created_at", "execution_duration") or order not in ("asc", "desc"):
        raise BadRequest(
            "'sort_by' is created_at or execution_duration, 'sort_order' asc or desc.",
            code="invalid_field",
        )
    return JobFilter(
        states=states,
        sort="created" if sort == "created_at" else "duration",
        descending=order == "desc",
        limit=min(limit or MAX_PAGE, MAX_PAGE),
        offset=offset,
    )


async def get_job(request: web.Request) -> web.Response:
    """One job in any state."""
    job = await request.app[SERVICES].queue.get(request.match_info["id"])
    if job is None:
        raise NotFound(f"There is no job {request.match_info['id'][:200]}.", code="unknown_job")
    detail = job_detail(job)
    steps = request.app[HUB].films.steps(job.id)
    return answer({**detail, "weft": {**detail["weft"], "steps": steps}})


async def get_step(request: web.Request) -> web.Response:
    """The picture after one step of a node, as it was shown while the job ran."""
    index = request.match_info["index"]
    films, where = request.app[HUB].films, (request.match_info["id"], request.match_info["node"])
    frame = films.frame(*where, int(index)) if index.isdecimal() and len(index) < 9 else None
    if frame is None:
        raise NotFound("This step's picture is not kept.", hint="Run again to see the steps.")
    headers = {"Cache-Control": "private, max-age=3600"}
    return web.Response(body=frame.data, content_type=frame.mime, headers=headers)


async def cancel_job(request: web.Request) -> web.Response:
    """Cancel a job that waits, or interrupt it if it runs; an ended one stays as it is."""
    job_id = request.match_info["id"]
    job = await request.app[SERVICES].queue.get(job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id[:200]}.", code="unknown_job")
    return answer({"cancelled": await _cancel(request, job_id)})


async def cancel_jobs(request: web.Request) -> web.Response:
    """Cancel several jobs; gives those that were waiting or running."""
    ids = texts_field(await read_object(request), "job_ids")
    if ids is None:
        raise BadRequest("The body names no jobs.", hint='{"job_ids": [ID, …]}')
    cancelled = [job_id for job_id in ids if await _cancel(request, job_id)]
    return answer({"cancelled": cancelled})


async def _cancel(request: web.Request, job_id: str) -> bool:
    services = request.app[SERVICES]
    if await services.queue.cancel([job_id]):
        return True
    return await services.worker.interrupt(job_id)


_SUMMARY: dict[str, Any] = {
    "id": "id",
    "status": "completed",
    "create_time": 0,
    "execution_start_time": 0,
    "execution_end_time": 0,
    "preview_output": {"filename": "a_00001_.png", "subfolder": "", "type": "output"},
    "outputs_count": 1,
    "priority": 1,
}

ROUTES = (
    Route(
        method="GET",
        path="/jobs",
        handler=list_jobs,
        summary="Jobs in any state, by pages",
        query=(
            Query(name="status", description="pending,in_progress,completed,failed,cancelled"),
            Query(name="limit", description="how many", type="integer"),
            Query(name="offset", description="how many to leave out", type="integer"),
            Query(name="sort_by", description="created_at or execution_duration"),
            Query(name="sort_order", description="asc or desc"),
        ),
        answer={
            "jobs": [_SUMMARY],
            "pagination": {"offset": 0, "limit": 100, "total": 1, "has_more": False},
        },
        errors=(400,),
    ),
    Route(
        method="GET",
        path="/jobs/{id}",
        handler=get_job,
        summary="One job with its outputs and its prompt",
        answer={
            **_SUMMARY,
            "outputs": {},
            "workflow": {"prompt": {}, "extra_data": {}},
            "weft": {"nodes": {}, "steps": {"3": [1, 2]}},
        },
        errors=(404,),
    ),
    Route(
        method="GET",
        path="/weft/steps/{id}/{node}/{index}",
        handler=get_step,
        summary="A sampler's picture after one step; `weft.steps` of the job tells which are kept",
        answer_type="image/jpeg",
        errors=(404,),
    ),
    Route(
        method="POST",
        path="/jobs/{id}/cancel",
        handler=cancel_job,
        summary="Cancel or interrupt a job",
        answer={"cancelled": True},
        errors=(404,),
    ),
    Route(
        method="POST",
        path="/jobs/cancel",
        handler=cancel_jobs,
        summary="Cancel or interrupt several jobs",
        body={"job_ids": ["id"]},
        answer={"cancelled": ["id"]},
        errors=(400,),
    ),
)
