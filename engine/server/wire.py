"""What clients read: run events as websocket messages, errors as JSON; knows no connection.

Text messages are `{type, data}`; the binary ones are big-endian: kind, lengths, bytes.
"""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from engine.api.errors import EngineError
from engine.api.events import (
    ErrorReport,
    JobFinished,
    JobGaveWay,
    JobStarted,
    NodeFailed,
    NodeFinished,
    NodePreview,
    NodeProgress,
    NodeRecord,
    NodesCached,
    NodeShown,
    NodeStarted,
    NodeText,
    RunEvent,
)

Json = dict[str, Any]
NodePhase = Literal["running", "finished", "error"]

PREVIEW = 1
TEXT = 3
PREVIEW_WITH_METADATA = 4
_IMAGE_KINDS = {"image/jpeg": 1, "image/png": 2}


def to_text(value: object) -> str:
    """Compact JSON; the one way in which this server writes it."""
    return json.dumps(value, separators=(",", ":"))


def error_body(error: EngineError) -> Json:
    """The answer for an expected failure."""
    return {
        "error": {
            "type": error.code,
            "message": error.message,
            "details": "",
            "hint": error.hint,
            "extra_info": {},
        }
    }


# One message --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message for clients. `slot` marks a transient one: the newest of a slot wins.

    `binary` is the body of a binary message; `legacy` its form for clients without metadata.
    """

    type: str
    data: Mapping[str, Any]
    slot: str | None = None
    binary: bytes | None = None
    legacy: bytes | None = None

    def encode(self, seq: int | None = None) -> bytes:
        """The body of a text message."""
        body: Json = {"type": self.type, "data": self.data}
        if seq is not None:
            body["seq"] = seq
        return to_text(body).encode()


def preview_frames(event: NodePreview) -> tuple[bytes, bytes]:
    """A preview with metadata and its customary form without."""
    head = to_text(
        {
            "node_id": event.node_id,
            "display_node_id": event.display_id,
            "parent_node_id": event.display_id if event.display_id != event.node_id else None,
            "real_node_id": event.node_id,
            "prompt_id": event.job_id,
            "image_type": event.mime,
        }
    ).encode()
    kind = _IMAGE_KINDS.get(event.mime, 1)
    return (
        struct.pack(">II", PREVIEW_WITH_METADATA, len(head)) + head + event.data,
        struct.pack(">II", PREVIEW, kind) + event.data,
    )


def text_frame(event: NodeText) -> bytes:
    """A line of text on a node."""
    node_id = event.node_id.encode()
    return struct.pack(">II", TEXT, len(node_id)) + node_id + event.text.encode(errors="replace")


# One job as its clients see it --------------------------------------------------------------------


@dataclass(slots=True)
class NodeView:
    """How far a node is."""

    node_id: str
    display_id: str
    phase: NodePhase = "running"
    value: float = 0.0
    maximum: float = 1.0
    record: NodeRecord | None = None
    shown: Mapping[str, Any] | None = None


@dataclass(slots=True)
class JobView:
    """The running job `job_id`, kept from its events; what `progress_state` and errors need."""

    job_id: str
    client_id: str | None = None
    nodes: dict[str, NodeView] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    executed: list[str] = field(default_factory=list)
    found: dict[str, NodeRecord] = field(default_factory=dict)
    current: str | None = None
    failure: NodeFailed | None = None
    has_told_cached: bool = False

    def messages(self, event: RunEvent) -> list[Message]:
        """The customary messages of one event, in their order; updates the view.

        `execution_cached` always follows the start, also when nothing was found.
        """
        if self.has_told_cached or isinstance(event, JobStarted | NodesCached):
            return self._messages(event)
        return [self._cached({}), *self._messages(event)]

    def _cached(self, records: Mapping[str, NodeRecord]) -> Message:
        self.has_told_cached = True
        self.executed.extend(records)
        self.found.update(records)
        return self.cached()

    def cached(self) -> Message:
        """Which nodes' results were found at the start, and where."""
        data: Json = {"nodes": list(self.found), "prompt_id": self.job_id}
        if self.found:
            data["weft"] = {node: record_json(record) for node, record in self.found.items()}
        return Message(type="execution_cached", data=data)

    def _messages(self, event: RunEvent) -> list[Message]:
        match event:
            case JobStarted():
                return [self._timed("execution_start", event.timestamp_ms)]
            case NodesCached():
                return [self._cached(event.records)]
            case NodeStarted():
                return [self._started(event)]
            case NodeProgress():
                return [self._progress(event)]
            case NodePreview():
                framed, legacy = preview_frames(event)
                slot = f"preview {self.job_id}"
                return [Message(type="b_preview", data={}, slot=slot, binary=framed, legacy=legacy)]
            case NodeText():
                slot = f"text {self.job_id} {event.node_id}"
                frame = text_frame(event)
                return [Message(type="text", data={}, slot=slot, binary=frame, legacy=frame)]
            case NodeShown():
                return [self._shown(event)]
            case NodeFinished():
                return self._finished(event)
            case NodeFailed():
                self.failure = self.failure or event
                self._phase(event.node_id, event.display_id, "error")
                return []
            case JobFinished():
                return self._ended(event)
            case JobGaveWay():
                return [Message(type="weft_gave_way", data={"prompt_id": self.job_id})]
            case _:
                return []

    def _timed(self, kind: str, timestamp_ms: int, **more: Any) -> Message:
        return Message(
            type=kind, data={"prompt_id": self.job_id, **more, "timestamp": timestamp_ms}
        )

    def _started(self, event: NodeStarted) -> Message:
        self.current = event.node_id
        self._phase(event.node_id, event.display_id, "running")
        return self.executing(event.node_id, event.display_id)

    def executing(self, node_id: str | None, display_id: str | None) -> Message:
        """Which node runs now; None at the end of the job."""
        data: Json = {"node": node_id, "prompt_id": self.job_id}
        if node_id is not None:
            data = {"node": node_id, "display_node": display_id, "prompt_id": self.job_id}
        return Message(type="executing", data=data)

    def _progress(self, event: NodeProgress) -> Message:
        node = self._phase(event.node_id, event.display_id, "running")
        node.value, node.maximum = event.value, event.maximum
        data = {
            "value": event.value,
            "max": event.maximum,
            "prompt_id": self.job_id,
            "node": event.node_id,
        }
        return Message(type="progress", data=data, slot=f"progress {self.job_id} {event.node_id}")

    def _shown(self, event: NodeShown) -> Message:
        node = self._phase(event.node_id, event.display_id, "running")
        node.shown = event.ui
        return self.shown(node)

    def shown(self, node: NodeView) -> Message:
        """What a running node shows so far."""
        data = {
            "node": node.node_id,
            "display_node": node.display_id,
            "output": node.shown,
            "prompt_id": self.job_id,
        }
        slot = f"shown {self.job_id} {node.node_id}"
        return Message(type="weft_shown", data=data, slot=slot)

    def _finished(self, event: NodeFinished) -> list[Message]:
        node = self._phase(event.node_id, event.display_id, "finished")
        node.value, node.record = node.maximum, event.record
        self.executed.append(event.node_id)
        if event.ui is None:
            return []
        data = {
            "node": event.node_id,
            "display_node": event.display_id,
            "output": event.ui,
            "prompt_id": self.job_id,
        }
        return [Message(type="executed", data=data)]

    def _ended(self, event: JobFinished) -> list[Message]:
        out = [self.progress_state()] if self.changed else []
        match event.status:
            case "success":
                out.append(self._timed("execution_success", event.timestamp_ms))
            case "interrupted":
                node = self.nodes.get(self.current or "")
                out.append(
                    self._timed(
                        "execution_interrupted",
                        event.timestamp_ms,
                        node_id=node.display_id if node else None,
                        node_type=None,
                        executed=self.executed,
                    )
                )
            case "error":
                data = execution_error(self.job_id, event, self.failure, self.executed)
                out.append(Message(type="execution_error", data=data))
        out.append(self.executing(None, None))
        return out

    def _phase(self, node_id: str, display_id: str, phase: NodePhase) -> NodeView:
        node = self.nodes.get(node_id)
        if node is None:
            node = self.nodes[node_id] = NodeView(node_id, display_id)
        node.phase = phase
        self.changed.add(node_id)
        return node

    def progress_state(self, *, is_whole: bool = False) -> Message:
        """The nodes that run and those that changed since the last one (or all)."""
        nodes = {
            node_id: self._node_json(node)
            for node_id, node in self.nodes.items()
            if is_whole or node.phase == "running" or node_id in self.changed
        }
        if not is_whole:
            self.changed.clear()
        return Message(type="progress_state", data={"prompt_id": self.job_id, "nodes": nodes})

    def _node_json(self, node: NodeView) -> Json:
        is_inner = node.node_id != node.display_id
        told = {} if node.record is None else {"weft": record_json(node.record)}
        return told | {
            "value": node.value,
            "max": node.maximum,
            "state": node.phase,
            "node_id": node.node_id,
            "prompt_id": self.job_id,
            "display_node_id": node.display_id,
            "parent_node_id": node.display_id if is_inner else None,
            "real_node_id": node.node_id,
        }


def record_json(record: NodeRecord) -> Json:
    """How a node got its result, as clients read it."""
    return {"state": record.state, "reason": record.reason, "seconds": round(record.seconds, 6)}


def execution_error(
    job_id: str, event: JobFinished, failure: NodeFailed | None, executed: Sequence[str]
) -> Json:
    """The data of `execution_error`; the node is the user's one, also inside an expansion."""
    report = failure.error if failure else event.error or _UNKNOWN
    inputs: Mapping[str, object] = failure.inputs if failure else {}
    return {
        "prompt_id": job_id,
        "node_id": failure.display_id if failure else None,
        "node_type": failure.node_type if failure else None,
        "executed": list(executed),
        "exception_message": f"{report.message} {report.hint}".strip(),
        "exception_type": report.exception_type or report.code,
        "traceback": list(report.traceback),
        "current_inputs": {k: _as_list(v) for k, v in inputs.items()},
        "current_outputs": list(executed),
        "timestamp": event.timestamp_ms,
        "weft": {"code": report.code, "message": report.message, "hint": report.hint},
    }


_UNKNOWN = ErrorReport(code="engine_error", message="The job failed and left no reason.")


def _as_list(value: object) -> object:
    return cast(object, value) if isinstance(value, list) else [value]


def status_message(queue_remaining: int, **more: Any) -> Message:
    """How many jobs wait or run; the first one to a client also carries its `sid`."""
    status = {"exec_info": {"queue_remaining": queue_remaining}}
    return Message(type="status", data={"status": status, **more}, slot="status")


def logs_message(lines: Iterable[tuple[str, str]]) -> Message:
    """Lines of the log as (time, text)."""
    entries = [{"t": time, "m": text} for time, text in lines]
    return Message(type="logs", data={"entries": entries, "size": {"cols": 80, "rows": 24}})
