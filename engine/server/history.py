"""Jobs as clients read them: queue items, history entries, and the `/jobs` form."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from engine.run.job import Job, JobState
from engine.server.wire import JobView, record_json

Json = dict[str, Any]

_WIRE_STATES: dict[JobState, str] = {
    "pending": "pending",
    "running": "in_progress",
    "success": "completed",
    "error": "failed",
    "interrupted": "cancelled",
    "cancelled": "cancelled",
}
STATES: dict[str, tuple[JobState, ...]] = {
    "pending": ("pending",),
    "in_progress": ("running",),
    "completed": ("success",),
    "failed": ("error",),
    "cancelled": ("interrupted", "cancelled"),
}
_MEDIA = ("images", "gifs", "video", "videos", "audio", "files", "3d")


def queue_item(job: Job) -> list[Any]:
    """`[number, id, prompt, extra_data, outputs]`."""
    extra = dict(job.extra_data)
    if job.client_id is not None:
        extra["client_id"] = job.client_id
    return [_number(job.number), job.id, job.prompt, extra, list(job.outputs)]


def _number(number: float) -> float | int:
    return int(number) if number.is_integer() else number


def history_entry(job: Job) -> Json:
    """An ended job: its prompt, what its nodes show, how it went."""
    return {
        "prompt": queue_item(job),
        "outputs": dict(job.results),
        "status": {
            "status_str": "success" if job.state == "success" else "error",
            "completed": job.state == "success",
            "messages": _messages(job),
        },
        "meta": {node: _owner(job, node) for node in job.results},
        "weft": {
            "nodes": {node: record_json(record) for node, record in job.records.items()},
            "partial": job.is_partial,
            "node_errors": job.refusals,
            "state": job.state,
            "attempt": job.attempt,
        },
    }


def _owner(job: Job, node: str) -> Json:
    owner = job.owners.get(node, node)
    return {
        "node_id": node,
        "display_node": owner,
        "parent_node": owner if owner != node else None,
        "real_node_id": node,
    }


def _messages(job: Job) -> list[list[Any]]:
    """The run's customary messages that are kept: start, cached, how it ended."""
    ran = [node for node, record in job.records.items() if record.state == "ran"]
    view = JobView(job.id, executed=ran)
    return [
        [message.type, dict(message.data)]
        for event in job.events
        for message in view.messages(event)
        if message.type not in ("executing", "progress_state")
    ]


# The /jobs form -----------------------------------------------------------------------------------


def job_summary(job: Job) -> Json:
    """A job in a list."""
    files = list(_files(job.results))
    summary: Json = {
        "id": job.id,
        "status": _WIRE_STATES[job.state],
        "create_time": job.created_ms,
        "execution_start_time": job.started_ms,
        "execution_end_time": job.ended_ms,
        "preview_output": _preview(files),
        "outputs_count": len(files),
        "priority": _number(job.number),
        "workflow_id": _workflow_id(job.extra_data),
    }
    error = _error(job)
    if error is not None:
        summary["execution_error"] = error
    return summary


def job_detail(job: Job) -> Json:
    """A job with its outputs and its prompt."""
    entry = history_entry(job)
    return {
        **job_summary(job),
        "outputs": entry["outputs"],
        "workflow": {"prompt": job.prompt, "extra_data": job.extra_data},
        "execution_status": entry["status"],
        "execution_meta": entry["meta"],
        "weft": entry["weft"],
    }


def _files(results: Mapping[str, Json]) -> Iterator[tuple[str, str, Json]]:
    for node, shown in results.items():
        for kind in _MEDIA:
            files: object = shown.get(kind)
            for file in cast(list[object], files) if isinstance(files, list) else ():
                if isinstance(file, dict):
                    yield node, kind, cast(Json, file)


def _preview(files: Sequence[tuple[str, str, Json]]) -> Json | None:
    """The newest saved file, or else the newest of any kind."""
    saved = [f for f in files if f[2].get("type") == "output"]
    for node, kind, file in reversed(saved or files):
        return {**file, "nodeId": node, "mediaType": kind}
    return None


def _workflow_id(extra_data: Mapping[str, Any]) -> str | None:
    found: Any = extra_data
    for name in ("extra_pnginfo", "workflow", "id"):
        found = cast(Json, found).get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _error(job: Job) -> Json | None:
    return next((data for kind, data in _messages(job) if kind == "execution_error"), None)
