"""Prompts that change while a picture is made: `[from:to:when]`, `[a|b]`, and `AND`.

`[from:to:when]` is `from` in the first `when` steps and `to` after them, `[to:when]` adds and
`[from::when]` takes away; `when` is a number of steps, or with a point the share of them. `[a|b|c]`
takes turns, step by step. `a :1.2 AND b` are texts that are followed at once, with weights. All
nest. Brackets that are none of these are plain text.

Source: Hertz et al. 2022 (arXiv 2208.01626) for words that change during sampling; Liu et al. 2022
(arXiv 2206.01714) for the composition of texts.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from engine.api.errors import EngineError

MAX_DEPTH = 50
_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"^(.*):\s*(-?\d*\.?\d+)\s*$", re.DOTALL)
_WHEN = re.compile(r"\s*(\d*\.?\d+|\d+\.)\s*")
_TURN = {"[": 1, "(": 1, "]": -1, ")": -1}


class ScheduleFault(EngineError):
    """A scheduled prompt that cannot be followed."""

    code = "scheduled_prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A text and the steps that it holds for: `first` to before `end`."""

    text: str
    first: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Strand:
    """One of the texts that are followed at once: how much it counts, and how it changes."""

    weight: float
    stretches: Sequence[Stretch]


@dataclass(frozen=True, slots=True)
class _Switch:
    before: "_Parts"
    after: "_Parts"
    when: str


@dataclass(frozen=True, slots=True)
class _Turns:
    options: "Sequence[_Parts]"


_Parts: TypeAlias = "list[str | _Switch | _Turns]"


def strands(prompt: str, steps: int) -> list[Strand]:
    """What a prompt says in each step, the texts between `AND` apart.

    Raises: ScheduleFault, if a weight is not above 0 or brackets are nested too deeply.
    """
    return [_strand(text, steps) for text in _AND.split(prompt)]


def _strand(text: str, steps: int) -> Strand:
    weight = 1.0
    if (found := _WEIGHT.match(text)) and not _is_inside(text, found.start(2)):
        text, weight = found[1], float(found[2])
    if not (weight > 0 and math.isfinite(weight)):
        raise ScheduleFault(
            f"A text between AND has the weight {weight:g}.",
            hint="Weights are above 0; what is not wanted belongs into the negative prompt.",
        )
    parts = _parsed(text)
    stretches: list[Stretch] = []
    for step in range(steps):
        said = _at(parts, step, steps).strip()
        if stretches and stretches[-1].text == said:
            stretches[-1] = Stretch(text=said, first=stretches[-1].first, end=step + 1)
        else:
            stretches.append(Stretch(text=said, first=step, end=step + 1))
    return Strand(weight=weight, stretches=stretches)


def _is_inside(text: str, place: int) -> bool:
    """Whether a place lies within brackets."""
    return sum(_TURN.get(letter, 0) for letter in text[:place]) > 0


def _at(parts: _Parts, step: int, steps: int) -> str:
    """What parts say in a step, counted from 0."""
    said: list[str] = []
    for part in parts:
        if isinstance(part, str):
            said.append(part)
        elif isinstance(part, _Turns):
            said.append(_at(part.options[step % len(part.options)], step, steps))
        else:
            chosen = part.before if step < _steps_before(part.when, steps) else part.after
            said.append(_at(chosen, step, steps))
    return "".join(said)


def _steps_before(when: str, steps: int) -> int:
    """`16` are steps; `0.25` is a share of them."""
    return int(float(when) * steps) if "." in when else int(when)


def _parsed(text: str, depth: int = 0) -> _Parts:
    if depth > MAX_DEPTH:
        raise ScheduleFault(f"The brackets are nested deeper than {MAX_DEPTH} levels.")
    parts: _Parts = []
    position = start = 0
    while position < len(text):
        if text[position] == "\\":
            position += 2
            continue
        end = _closing(text, position) if text[position] == "[" else None
        if end is None:
            position += 1
            continue
        inner = _bracket(text[position + 1 : end], depth)
        parts += [text[start:position], *inner]
        position = start = end + 1
    return [*parts, text[start:]]


def _bracket(inner: str, depth: int) -> _Parts:
    """A bracket as a switch, as turns, or as plain text with what stands in it."""
    options = _split(inner, "|")
    if len(options) > 1:
        return [_Turns([_parsed(option, depth + 1) for option in options])]
    pieces = _split(inner, ":")
    if 2 <= len(pieces) <= 3 and _WHEN.fullmatch(pieces[-1]):
        before = pieces[0] if len(pieces) == 3 else ""
        after = pieces[-2]
        return [_Switch(_parsed(before, depth + 1), _parsed(after, depth + 1), pieces[-1].strip())]
    return ["[", *_parsed(inner, depth + 1), "]"]


def _closing(text: str, start: int) -> int | None:
    """The place of the bracket that closes the one at `start`."""
    depth, position = 0, start
    while position < len(text):
        letter = text[position]
        position += 1 if letter == "\\" else 0
        depth += (letter == "[") - (letter == "]")
        if depth == 0:
            return position
        position += 1
    return None


def _split(text: str, mark: str) -> list[str]:
    """What stands between marks outside of inner brackets of both kinds."""
    parts, start, depth, position = [], 0, 0, 0
    while position < len(text):
        letter = text[position]
        position += 1 if letter == "\\" else 0
        depth += _TURN.get(letter, 0)
        if letter == mark and depth == 0:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    return [*parts, text[start:]]
