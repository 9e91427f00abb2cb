"""Reading requests: JSON bodies and query parameters, each fault a clear 400 or 413."""

import json
import math
from collections.abc import Callable
from typing import Any, Never, TypeAlias, cast

from aiohttp import web

from engine.api.errors import EngineError

Json: TypeAlias = dict[str, Any]

MAX_JSON_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 100
_MAX_DIGITS = 400


class BadRequest(EngineError):
    """A request that cannot be understood; `status` is the HTTP status of the answer."""

    code = "invalid_request"
    status = 400


class TooLarge(BadRequest):
    code = "body_too_large"
    status = 413


class NotFound(BadRequest):
    code = "not_found"
    status = 404


class Conflict(BadRequest):
    code = "conflict"
    status = 409


async def read_json(request: web.Request, limit: int = MAX_JSON_BYTES) -> Any:
    """The JSON value of a body, whatever its Content-Type says.

    A body that announces too many bytes is refused before any of them is read.
    Raises: BadRequest, TooLarge.
    """
    return parse_json(await read_body(request, limit))


async def read_body(request: web.Request, limit: int) -> bytes:
    """The bytes of a body up to `limit`. Raises: TooLarge."""
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_object(request: web.Request) -> Json:
    """The JSON object of a body; an empty body counts as `{}`. Raises: BadRequest, TooLarge."""
    body = await read_body(request, MAX_JSON_BYTES)
    return _object(parse_json(body) if body.strip() else {})


def _object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise BadRequest(
            f"The body is a JSON {_kind(value)}, not an object.",
            hint='Send an object, such as {"prompt": {…}}.',
            code="invalid_json",
        )
    return cast(Json, value)


async def read_prompt(request: web.Request) -> tuple[Json, bool]:
    """Like `read_object`, and whether there are NaN or endless numbers in it.

    They stay in the object, so that validation can name the node that has them.
    Raises: BadRequest, TooLarge.
    """
    odd: list[str] = []

    def odd_float(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            odd.append(text[:40])
        return value

    value = parse_json(await read_body(request, MAX_JSON_BYTES), to_float=odd_float)
    return _object(value), bool(odd)


def parse_json(body: bytes, to_float: Callable[[str], float] | None = None) -> Any:
    """The JSON value of a body, strictly: no NaN, no endless numbers, no bottomless nesting.

    `to_float` takes all numbers with a point and the three constants, and may be less strict.
    Raises: BadRequest with the place of the fault.
    """
    try:
        text = body.decode("utf-8-sig")
        value = json.loads(
            text,
            parse_float=to_float or _finite,
            parse_int=_bounded,
            parse_constant=to_float or _refuse_constant,
        )
        if b"\\u" in body:
            _check_surrogates(text, value)
    except RecursionError as error:
        raise _too_deep() from error
    except UnicodeDecodeError as error:
        raise _invalid(f"byte {error.start} is no UTF-8") from error
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg} in line {error.lineno}, column {error.colno}") from error
    except ValueError as error:
        raise _invalid(str(error)) from error
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if type(item) is dict:
                below.extend(v for v in cast(Json, item).values() if type(v) in (dict, list))
            elif type(item) is list:
                below.extend(v for v in cast(list[Any], item) if type(v) in (dict, list))
        if not below:
            return
        level = below
    raise _too_deep()


def _check_surrogates(text: str, value: Any) -> None:
    r"""Refuse `\ud800` and the like: half a character, which no file or database can hold."""
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _bounded(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number has more than {_MAX_DIGITS} digits")
    return int(text)


def _refuse_constant(text: str) -> Never:
    raise ValueError(f"{text} is no JSON number")


def _invalid(reason: str) -> BadRequest:
    return BadRequest(f"The body is no valid JSON: {reason}.", code="invalid_json")


def _too_deep() -> BadRequest:
    return BadRequest(f"The body is nested deeper than {MAX_DEPTH} levels.", code="invalid_json")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The body is larger than {limit / 1024 / 1024:g} MB.",
        hint="Upload files with /upload/image; its limit is set by --max-upload-size.",
    )


def _kind(value: Any) -> str:
    names = {"list": "array", "str": "string", "NoneType": "null", "bool": "boolean"}
    return names.get(type(value).__name__, "number")


# Fields -------------------------------------------------------------------------------------------


def text_field(body: Json, name: str) -> str | None:
    """A text of a body; None when absent or null. Raises: BadRequest."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise _wrong(name, f"is a JSON {_kind(value)}, not a string")
    return value


def flag_field(body: Json, name: str) -> bool:
    """A boolean of a body; False when absent or null. Raises: BadRequest."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, f"is a JSON {_kind(value)}, not true or false")
    return bool(value)


def object_field(body: Json, name: str) -> Json:
    """An object of a body; `{}` when absent or null. Raises: BadRequest."""
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise _wrong(name, f"is a JSON {_kind(value)}, not an object")
    return cast(Json, value or {})


def texts_field(body: Json, name: str) -> list[str] | None:
    """A list of texts of a body; None when absent or null. Raises: BadRequest."""
    value: object = body.get(name)
    if value is None:
        return None
    if isinstance(value, list) and all(isinstance(v, str) for v in cast(list[Any], value)):
        return cast(list[str], value)
    raise _wrong(name, "is no list of strings")


def query_number(request: web.Request, name: str, default: int | None = None) -> int | None:
    """A whole number of the query; `default` when absent or empty. Raises: BadRequest."""
    text = request.query.get(name, "")
    if not text:
        return default
    try:
        return int(text[:20])
    except ValueError as error:
        raise _wrong(name, f"is '{text[:40]}', not a whole number") from error


def _wrong(name: str, reason: str) -> BadRequest:
    return BadRequest(f"'{name}' {reason}.", code="invalid_field")
