"""Failures of nodes as data: error reports, advice when memory runs out, short texts of inputs."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.api.errors import EngineError, OutOfMemory
from engine.api.events import ErrorReport

_MEMORY_HINT = (
    "Make the picture or the batch smaller, use a tiled VAE node, close other programs, "
    "or give the engine less to keep with --cache-lru."
)
_MEMORY_PHRASES = ("out of memory", "can't allocate memory", "not enough memory")
_TEXT_LENGTH = 200
_ENGINE = Path(__file__).resolve().parent.parent
_CALLERS = frozenset(str(_ENGINE / room) for room in ("api", "plugins", "run"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the machine or of a device ran out, without importing torch."""
    if isinstance(error, MemoryError | OutOfMemory):
        return True
    if any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(p in text for p in _MEMORY_PHRASES)


def error_report(error: BaseException) -> ErrorReport:
    """A failure with its code, what to do, and the frames below the ones that call nodes."""
    frames = traceback.extract_tb(error.__traceback__)
    while len(frames) > 1 and str(Path(frames[0].filename).parent) in _CALLERS:
        frames = frames[1:]
    lines = tuple(traceback.format_list(frames))
    name = _qualified_name(error)
    if is_out_of_memory(error):
        hint = error.hint if isinstance(error, EngineError) and error.hint else _MEMORY_HINT
        message = f"Memory ran out: {_first_line(error)}"
        return ErrorReport(
            code=OutOfMemory.code, message=message, hint=hint, exception_type=name, traceback=lines
        )
    if isinstance(error, EngineError):
        return ErrorReport(
            code=error.code,
            message=error.message,
            hint=error.hint,
            exception_type=name,
            traceback=lines,
        )
    return ErrorReport(
        code="node_failed",
        message=f"{type(error).__name__}: {error}" if str(error) else type(error).__name__,
        hint="The traceback names the line that failed.",
        exception_type=name,
        traceback=lines,
    )


def short_inputs(lists: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Each input's values as short texts."""
    return {name: [short_text(v) for v in values[:8]] for name, values in lists.items()}


def short_text(value: Any) -> str:
    """A value in at most some 200 characters; tensors by shape and dtype."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
        return f"{type(value).__name__}{tuple(shape)} {dtype}".rstrip()
    if isinstance(value, dict):
        parts = ", ".join(f"{k}: {short_text(v)}" for k, v in list(value.items())[:8])
        text = f"{{{parts}}}"
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(short_text(v) for v in value[:4])}{', …' if len(value) > 4 else ''}]"
    else:
        text = _safe_repr(value)
    return text if len(text) <= _TEXT_LENGTH else text[: _TEXT_LENGTH - 1] + "…"


def _safe_repr(value: Any) -> str:
    if isinstance(value, str | bytes) and len(value) > _TEXT_LENGTH:
        value = value[:_TEXT_LENGTH]
    try:
        return str(value) if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - a pack's own repr may fail; the report must not
        return f"<{type(value).__name__}>"


def _qualified_name(error: BaseException) -> str:
    cls = type(error)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
