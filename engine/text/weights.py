"""The prompt language: weights in brackets and escapes, as `(word:1.3)`, `((word))`, `\\(`."""

import math
from dataclasses import dataclass

OPEN, CLOSE = "\0\1", "\0\2"  # stand for escaped brackets while brackets are read
EMPHASIS = 1.1
MAX_NUMBER = 64  # letters that a weight may have


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a prompt with one weight."""

    text: str
    weight: float


def parse_weights(prompt: str) -> list[Span]:
    """The pieces of a prompt with their weights.

    A bracket multiplies by 1.1; with a number at its end (`:1.3`) it sets the weight instead.
    Brackets without a partner are plain text. `\\(` and `\\)` are plain brackets.
    """
    text = prompt.replace("\\)", CLOSE).replace("\\(", OPEN)
    return [Span(_plain(s.text), s.weight) for s in _weighted(text)]


def _plain(text: str) -> str:
    return text.replace(OPEN, "(").replace(CLOSE, ")")


def _weighted(text: str) -> list[Span]:
    """In linear time and without recursion, so that any depth of brackets can be read."""
    partners = _partners(text)
    colons = _colons(text)
    spans: list[Span] = []
    work = [(0, len(text), 1.0)]
    while work:
        start, end, weight = work.pop()
        if start < 0:  # a plain piece, kept in order by its mark
            spans.append(Span(text[~start:end], weight))
            continue
        for first, last in reversed(_top_level(text, start, end, partners)):
            if last - first >= 2 and text[first] == "(" and text[last - 1] == ")":
                work.append(_inner(text, first + 1, last - 1, weight, colons[last - 1]))
            else:
                work.append((~first, last, weight))
    return spans


def _inner(text: str, start: int, end: int, weight: float, colon: int) -> tuple[int, int, float]:
    """What a bracket holds, with the weight that it gives."""
    if start < colon and end - colon <= MAX_NUMBER:
        try:
            value = float(text[colon + 1 : end])
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            return start, colon, value
    return start, end, weight * EMPHASIS


def _top_level(text: str, start: int, end: int, partners: dict[int, int]) -> list[tuple[int, int]]:
    """A stretch of text cut into its outermost brackets and what stands between them.

    After a closing bracket without a partner the next opening one is plain text, as it closes the
    count; an opening one without a partner reaches to the end.
    """
    pieces: list[tuple[int, int]] = []
    piece = position = start
    depth = 0
    while position < end:
        character = text[position]
        if character == "(" and depth == 0:
            if position > piece:
                pieces.append((piece, position))
            piece, position = position, partners.get(position, end) + 1
            if position > end:
                break
            pieces.append((piece, position))
            piece = position
            continue
        depth += (character == "(") - (character == ")")
        position += 1
    if piece < end:
        pieces.append((piece, end))
    return pieces


def _partners(text: str) -> dict[int, int]:
    """The place of each opening bracket that is closed -> the place of its closing one."""
    partners: dict[int, int] = {}
    opened: list[int] = []
    for position, character in enumerate(text):
        if character == "(":
            opened.append(position)
        elif character == ")" and opened:
            partners[opened.pop()] = position
    return partners


def _colons(text: str) -> list[int]:
    """For each place the place of the last colon before it, or -1."""
    colons, last = [], -1
    for position, character in enumerate(text):
        colons.append(last)
        if character == ":":
            last = position
    return [*colons, last]
