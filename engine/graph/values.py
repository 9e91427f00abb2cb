"""Whether a constant fits an input: conversion of numbers and texts, ranges, choices."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, cast

from engine.api.spec import InputSpec
from engine.graph.prompt import Json, shown
from engine.graph.typecheck import is_link_only
from engine.text.suggest import did_you_mean, suggest

_MAX_NUMBER_TEXT = 64
_SHOWN_CHOICES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Why a value does not fit, as the parts of a `Problem`; `says` completes "input X …".

    `missing` is the folder and name of a file that is not there.
    """

    code: str
    says: str
    expected: str
    hint: str | None = None
    missing: tuple[str, str] | None = None


class Choices:
    """The files of each folder, listed once, and a bounded number of suggestions."""

    def __init__(self, list_files: Callable[[str], Sequence[str]], suggestions: int = 64) -> None:
        self._list_files = list_files
        self._files: dict[str, frozenset[str]] = {}
        self._listings: dict[str, str] = {}
        self._suggested: dict[tuple[str, str], tuple[str, ...]] = {}
        self._left = suggestions

    def files(self, folder: str) -> frozenset[str]:
        """The names of the files in a folder."""
        found = self._files.get(folder)
        if found is None:
            found = self._files[folder] = frozenset(self._list_files(folder))
        return found

    def listing(self, folder: str) -> str:
        """The files of a folder as people read them."""
        if folder not in self._listings:
            self._listings[folder] = _listed(sorted(self.files(folder)), f"a file of {folder}")
        return self._listings[folder]

    def closest(
        self,
        name: str,
        group: str,
        known: Collection[str],
        find: Callable[[str, Collection[str]], tuple[str, ...]] = suggest,
    ) -> tuple[str, ...]:
        """Names of `known` like `name`; remembered per group, () when the budget is spent."""
        found = self._suggested.get((group, name))
        if found is None:
            if self._left <= 0:
                return ()
            self._left -= 1
            found = self._suggested[group, name] = find(name, known)
        return found


def fit(
    item: InputSpec,
    value: Json,
    choices: Choices,
    *,
    is_own_check: bool = False,
    is_bare_list: bool = False,
) -> tuple[Json, Misfit | None]:
    """The value as the input takes it, and why it does not fit (None if it does).

    `20.0` and `"20"` become 20 for an INT; nothing is clamped or rounded. With `is_own_check` the
    node checks ranges and choices by itself. `is_bare_list` tells a list that may be a broken link.
    """
    kind = item.type
    if is_bare_list and kind != "*" and not item.options.get("multiselect"):
        return value, _bad_link(value)
    if kind == "INT":
        number = _whole(value)
        if number is None:
            return value, _wrong_type(item, value, "a whole number")
        return number, None if is_own_check else _out_of_range(item, number)
    if kind == "FLOAT":
        real = _real(value)
        if real is None:
            return value, _wrong_type(item, value, "a finite number")
        return real, None if is_own_check else _out_of_range(item, real)
    if kind == "STRING":
        return _text(item, value)
    if kind == "BOOLEAN":
        truth = _truth(value)
        return value if truth is None else truth, (
            _wrong_type(item, value, "true or false") if truth is None else None
        )
    if kind == "COMBO":
        return (value, None) if is_own_check else _choice(item, value, choices)
    return value, _for_socket(item, value)


# Conversions: None when there is none -------------------------------------------------------------


def _whole(value: Json) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, str):
        text = value.strip()
        if not _is_number_text(text):
            return None
        try:
            return int(text)
        except ValueError:
            value = _parsed(text)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


def _real(value: Json) -> float | None:
    if type(value) is float:
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        text = value.strip()
        return _parsed(text) if _is_number_text(text) else None
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return None
    return None


def _parsed(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_number_text(text: str) -> bool:
    return len(text) <= _MAX_NUMBER_TEXT and text.isascii() and "_" not in text


def _truth(value: Json) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return {0: False, 1: True}.get(cast("int", value))
    if isinstance(value, str):
        return {"false": False, "true": True}.get(value.strip().lower())
    return None


# Checks -------------------------------------------------------------------------------------------


def _wrong_type(item: InputSpec, value: Json, expected: str) -> Misfit:
    hint = None
    if isinstance(value, float) and item.type == "INT" and math.isfinite(value):
        hint = f"Write {math.floor(value)} or {math.ceil(value)}."
    return Misfit(
        code="invalid_input_type",
        says=f"is {shown(value)}, which is no {item.type} value",
        expected=expected,
        hint=hint,
    )


def _bad_link(value: Json) -> Misfit:
    return Misfit(
        code="bad_linked_input",
        says=f"is {shown(value)}, which is neither a value nor a link",
        expected='a link is ["node id", output index], with the id as a text',
        hint='Wrap a list that is meant as a value: {"__value__": [...]}.',
    )


def _out_of_range(item: InputSpec, number: int | float) -> Misfit | None:
    options = item.options
    low, high = options.get("min"), options.get("max")
    if low is None and high is None:
        return None
    if isinstance(low, int | float) and number < low:
        code, bound, says = "value_smaller_than_min", low, "is below the smallest allowed value"
    elif isinstance(high, int | float) and number > high:
        code, bound, says = "value_bigger_than_max", high, "is above the largest allowed value"
    else:
        return None
    return Misfit(
        code=code,
        says=f"is {shown(number)}, which {says}, {bound}",
        expected=_range(low, high),
        hint=f"Use {bound}.",
    )


def _range(low: Any, high: Any) -> str:
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"


def _text(item: InputSpec, value: Json) -> tuple[Json, Misfit | None]:
    if isinstance(value, str):
        return value, None
    if type(value) is int or (isinstance(value, float) and math.isfinite(value)):
        return str(value), None
    return value, _wrong_type(item, value, "a text")


def _choice(item: InputSpec, value: Json, choices: Choices) -> tuple[Json, Misfit | None]:
    if item.folder:
        return _file(item, item.folder, value, choices)
    if item.choices is None:
        return value, None
    if isinstance(value, list) and item.options.get("multiselect"):
        wrong = next((v for v in value if v not in item.choices), None)
        return value, None if wrong is None else _no_choice(item, wrong, choices)
    if value in item.choices:
        return value, None
    return value, _no_choice(item, value, choices)


def _no_choice(item: InputSpec, value: Json, choices: Choices) -> Misfit:
    known = [c for c in item.choices or () if isinstance(c, str)]
    group = f"choices of {item.name}"
    near = choices.closest(value, group, known) if isinstance(value, str) else ()
    return Misfit(
        code="value_not_in_list",
        says=f"is {shown(value)}, which is not one of its choices",
        expected=_listed(item.choices or (), "nothing: there is no choice"),
        hint=did_you_mean(near),
    )


def _file(
    item: InputSpec, folder: str, value: Json, choices: Choices
) -> tuple[Json, Misfit | None]:
    if not isinstance(value, str):
        return value, _wrong_type(item, value, f"the name of a file of {folder}")
    folder, name = annotated(folder, value)
    if folder in ("output", "temp"):
        return value, None  # results of earlier runs come and go: looked for when the node runs
    files = choices.files(folder)
    if name in files:
        return value, None
    slashed = name.replace("\\", "/")
    if slashed in files:
        return slashed, None
    if item.choices and value in item.choices:
        return value, None
    return value, _no_file(folder, slashed, value, choices)


def annotated(folder: str, name: str) -> tuple[str, str]:
    """The folder and file that a file input names: `x.png [output]` lies in `output`."""
    for place in ("input", "output", "temp"):
        if name.endswith(f" [{place}]"):
            return place, name[: -len(place) - 3]
    return folder, name


def _no_file(folder: str, name: str, value: str, choices: Choices) -> Misfit:
    near = choices.closest(name, f"files of {folder}", choices.files(folder), _like_file)
    if near:
        hint = did_you_mean(near)
    elif folder == "input":
        hint = "Upload the file, or choose one that is there."
    elif folder == "datasets":
        hint = "Select pictures with the node's button, or put a folder of them into input/."
    else:
        hint = f"Put the file into models/{folder}, or choose one that is there."
    return Misfit(
        code="value_not_in_list",
        says=f"names the file {shown(value)}, which is not in {folder}",
        expected=choices.listing(folder),
        hint=hint,
        missing=(folder, name),
    )


def _like_file(name: str, files: Collection[str]) -> tuple[str, ...]:
    """The same file in another folder or with another extension, else files of a similar name."""
    stem = PurePosixPath(name).stem.lower()
    same = sorted(f for f in files if PurePosixPath(f).stem.lower() == stem)
    return tuple(same[:3]) or suggest(name, files)


def _for_socket(item: InputSpec, value: Json) -> Misfit | None:
    if isinstance(value, float) and not math.isfinite(value):
        return _wrong_type(item, value, "a finite number")
    if not is_link_only(item.type) or (value is None and item.kind == "optional"):
        return None
    return Misfit(
        code="invalid_input_type",
        says=f"is {shown(value)}, but only a link can carry {item.type}",
        expected=f'a link to an output of type {item.type}: ["node id", output index]',
    )


def _listed(names: Sequence[Any], nothing: str) -> str:
    """The first of some names, and how many more there are."""
    if not names:
        return nothing
    first = ", ".join(shown(n) for n in names[:_SHOWN_CHOICES])
    more = len(names) - _SHOWN_CHOICES
    return f"one of {first}" + (f" and {more} more" if more > 0 else "")
