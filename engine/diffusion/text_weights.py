"""The prompt language: weights in brackets and escapes, as `(word:1.3)`, `((word))`, `\\(`."""

import math
from dataclasses import dataclass

OPEN, CLOSE = "\0\1", "\0\2"  # stand for escaped brackets while brackets are read
EMPHASIS = 1.1


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


def _weighted(prompt: str) -> list[Span]:
    """Without recursion, so that any depth of brackets can be read."""
    done: list[Span] = []
    work = [(Span(prompt, 1.0), False)]
    while work:
        span, is_plain = work.pop()
        if is_plain:
            done.append(span)
            continue
        for piece in reversed(_top_level(span.text)):
            if len(piece) >= 2 and piece[0] == "(" and piece[-1] == ")":
                work.append((_inner(piece[1:-1], span.weight), False))
            else:
                work.append((Span(piece, span.weight), True))
    return done


def _inner(text: str, weight: float) -> Span:
    """What a bracket holds, with the weight that it gives."""
    body, colon, number = text.rpartition(":")
    if colon and body:
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            return Span(body, value)
    return Span(text, weight * EMPHASIS)


def _top_level(text: str) -> list[str]:
    """A text cut into its outermost brackets and what stands between them."""
    pieces: list[str] = []
    start = depth = 0
    for position, character in enumerate(text):
        if character == "(":
            if depth == 0 and position > start:
                pieces.append(text[start:position])
                start = position
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                pieces.append(text[start : position + 1])
                start = position + 1
    if start < len(text):
        pieces.append(text[start:])
    return pieces
