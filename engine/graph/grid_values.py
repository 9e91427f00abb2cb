"""The values of a grid's axis: lists, ranges, and both as people type them."""

import csv
import math
import re
from collections.abc import Sequence
from typing import Any, cast

from engine.api.spec import InputSpec
from engine.graph.prompt import Json, shorten

MAX_VALUES = 1000

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_RANGE = re.compile(
    rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*(?:\(\s*({_NUMBER})\s*\)|\[\s*(\d+)\s*\])?\s*"
)


class ValuesFault(Exception):
    """Why the values of an axis cannot be read; the message completes "the values …"."""


def read_values(values: Any, item: InputSpec) -> list[Json]:
    """The values of an axis for an input.

    A list is taken as it is; `{"from": 1, "to": 10, "step": 2}` or `"count": 5` makes a range; a
    text is read as it is typed: `1, 2, 3`, `1-5`, `1-10 (+2)`, `1-10 [5]`, and for inputs that are
    no numbers as names between commas (quoted if they hold one) or lines. Raises: ValuesFault.
    """
    if isinstance(values, str):
        found = _typed(values, item)
    elif isinstance(values, list):
        found = cast("list[Json]", values)
    elif isinstance(values, dict):
        found = _range_of(cast("dict[str, Any]", values), item)
    else:
        raise ValuesFault('are no list, range or text; for example [1, 2, 3] or "1-10 [5]"')
    if not found:
        raise ValuesFault("are empty; write at least one")
    if len(found) > MAX_VALUES:
        raise ValuesFault(f"are {len(found)}; an axis has at most {MAX_VALUES}")
    return found


def _typed(text: str, item: InputSpec) -> list[Json]:
    is_number = item.type in ("INT", "FLOAT")
    if "\n" in text.strip() and not is_number:
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        (parts,) = csv.reader([text.replace("\n", ",")], skipinitialspace=True)
    except (csv.Error, ValueError) as error:
        raise ValuesFault(f"cannot be read: {error}") from error
    parts = [part.strip() for part in parts if part.strip()]
    if not is_number:
        return list(parts)
    found: list[Json] = []
    for part in parts:
        match = _RANGE.fullmatch(part)
        if match:
            first, last, step, count = match.groups()
            found += _range(_number(first), _number(last), step, count, item)
        else:
            found.append(part)
    return found


def _range_of(values: dict[str, Any], item: InputSpec) -> list[Json]:
    unknown = sorted(set(values) - {"from", "to", "step", "count"})
    numbers = [v for v in values.values() if type(v) not in (int, float) or not math.isfinite(v)]
    if unknown or numbers or "from" not in values or "to" not in values:
        raise ValuesFault('are no range; for example {"from": 1, "to": 10, "count": 5}')
    step, count = values.get("step"), values.get("count")
    return _range(values["from"], values["to"], step, count, item)


def _range(first: float, last: float, step: Any, count: Any, item: InputSpec) -> list[Json]:
    if count is not None:
        number = int(count)
        if not 1 <= number <= MAX_VALUES:
            raise ValuesFault(f"are {number}; an axis has 1 to {MAX_VALUES}")
        width = (last - first) / (number - 1) if number > 1 else 0.0
        return [_as_typed(first + width * i, item) for i in range(number)]
    width = float(step) if step is not None else math.copysign(1.0, last - first)
    if width == 0 or (last - first) * width < 0:
        raise ValuesFault(f"never come from {first:g} to {last:g} in steps of {width:g}")
    number = math.floor((last - first) / width + 1e-9) + 1
    if number > MAX_VALUES:
        raise ValuesFault(f"are {number}; an axis has at most {MAX_VALUES}")
    return [_as_typed(first + width * i, item) for i in range(number)]


def _as_typed(value: float, item: InputSpec) -> Json:
    """A value of a range, whole where the input is; without the dust of floating point."""
    if item.type == "INT":
        return round(value)
    return float(f"{value:.10g}")


def _number(text: str) -> float:
    return float(text) if "." in text else int(text)


def label_of(value: Json) -> str:
    """A value as it stands beside a row or column."""
    if isinstance(value, float):
        return f"{value:g}"
    return shorten(str(value).strip() or "(empty)")


def labels_of(values: Sequence[Json]) -> list[str]:
    """The labels of an axis; file names without their folders and endings."""
    found = [label_of(value) for value in values]
    if all(
        isinstance(v, str) and re.search(r"\.(safetensors|ckpt|pt|pth|sft|bin)$", v) for v in values
    ):
        found = [label.rpartition("/")[2].rpartition(".")[0] for label in found]
    return found
