"""Run events as short JSON lists `[type, field, …]`, for the link and the job database."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, cast, get_args

from engine.api.errors import EngineError
from engine.api.events import (
    ErrorReport,
    JobFinished,
    NodeFailed,
    NodeFinished,
    NodePreview,
    NodeRecord,
    NodesCached,
    RunEvent,
)

_TYPES: dict[str, type[Any]] = {t.__name__: t for t in get_args(RunEvent)}
_FIELDS: dict[type[Any], tuple[str, ...]] = {
    t: tuple(f.name for f in fields(t)) for t in (*_TYPES.values(), NodeRecord, ErrorReport)
}

MAX_DEPTH = 100  # of values that packs show


def encode_event(event: RunEvent) -> list[Any]:
    """An event as JSON. A preview's bytes are left out: they travel beside it."""
    kind = type(event)
    out: list[Any] = [kind.__name__]
    for name in _FIELDS[kind]:
        out.append(_encode(getattr(event, name)))
    return out


def _encode(value: object) -> Any:
    if isinstance(value, NodeRecord):
        return encode_record(value)
    if isinstance(value, ErrorReport):
        return encode_error(value)
    if isinstance(value, bytes):
        return None
    if isinstance(value, Mapping):
        return {k: _encode_item(v) for k, v in cast(Mapping[str, object], value).items()}
    return value


def _encode_item(value: object) -> Any:
    return encode_record(value) if isinstance(value, NodeRecord) else value


def encode_record(record: NodeRecord) -> list[Any]:
    return [record.state, round(record.seconds, 6), record.reason]


def encode_error(error: ErrorReport) -> list[Any]:
    return [getattr(error, name) for name in _FIELDS[ErrorReport]]


def decode_record(data: list[Any]) -> NodeRecord:
    return NodeRecord(state=data[0], seconds=data[1], reason=data[2])


def decode_error(data: list[Any]) -> ErrorReport:
    values = dict(zip(_FIELDS[ErrorReport], data))
    values["traceback"] = tuple(values["traceback"])
    return ErrorReport(**values)


def decode_event(data: list[Any], blob: bytes = b"") -> RunEvent:
    """The event of a JSON list; `blob` is a preview's picture. Raises: EngineError."""
    try:
        kind = _TYPES[data[0]]
        values = dict(zip(_FIELDS[kind], data[1:], strict=True))
        if kind is NodeFinished:
            values["record"] = decode_record(values["record"])
        elif kind is NodesCached:
            values["records"] = {k: decode_record(v) for k, v in values["records"].items()}
        elif kind is NodePreview:
            values["data"] = blob
        elif kind in (NodeFailed, JobFinished) and values["error"] is not None:
            values["error"] = decode_error(values["error"])
        return cast(RunEvent, kind(**values))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(f"An event cannot be read: {str(data)[:200]}") from error


def plain_json(value: object) -> str:
    """Compact JSON that every reader takes: NaN and infinity become null, arrays of packs lists."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain)
    except (ValueError, TypeError, RecursionError):
        return json.dumps(_cleaned(value, ()), separators=(",", ":"), allow_nan=False)


def _plain(value: object) -> object:
    """A stand-in for a value that is no JSON (`ui` of packs may hold numpy values)."""
    to_list = getattr(value, "tolist", None)
    return to_list() if callable(to_list) else str(value)


def _cleaned(value: object, above: tuple[int, ...]) -> object:
    """A value as JSON; `above` are the values it is in, for circles and depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if id(value) in above or len(above) > MAX_DEPTH:
        return None
    above = (*above, id(value))
    if isinstance(value, Mapping):
        items = cast(Mapping[object, object], value).items()
        return {str(k): _cleaned(v, above) for k, v in items}
    if isinstance(value, list | tuple):
        return [_cleaned(v, above) for v in cast(Sequence[object], value)]
    return _cleaned(_plain(value), above)
