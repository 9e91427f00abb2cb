"""A prompt laid into chunks of tokens; what an embedding's vectors are is the caller's business."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from engine.text.tokenizer import Tokenizer, load_tokenizer
from engine.text.weights import parse_weights

CHUNK = 75  # tokens of a chunk of CLIP, without its start and end
EMBEDDING = re.compile(r"(?<!\S)embedding:(?=\S)")
LONG_GROUP = 8  # groups of at least so many tokens may be cut at the end of a chunk

T = TypeVar("T")
FindVectors = Callable[[str], tuple[Sequence[T], str]]  # a name -> its vectors, what is left of it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A stretch of text with one weight, after the embedding that stands before it (or "")."""

    embedding: str
    text: str
    weight: float


def grouped(
    prompt: str,
    find_vectors: FindVectors[T] | None,
    words: Callable[[str], Sequence[int]] | None = None,
) -> list[list[tuple[int | T, float]]]:
    """The tokens of a prompt with their weights, in groups that stay together where they can.

    A token is a number, or one of the vectors that `find_vectors` gives for `embedding:name`
    together with what of that word is text; without it, such words are plain text. `words` gives
    the numbers of a text; CLIP's where it is left out.
    """
    words = words or load_tokenizer().encode
    groups: list[list[tuple[int | T, float]]] = []
    for piece in _pieces(prompt):
        text = piece.text
        if piece.embedding and find_vectors is not None:
            vectors, rest = find_vectors(piece.embedding)
            groups.append([(vector, piece.weight) for vector in vectors])
            text = f"{rest} {text}"
        elif piece.embedding:
            text = f"embedding:{piece.embedding} {text}"
        groups.append([(number, piece.weight) for number in words(text)])
    return [group for group in groups if group]


def in_chunks(groups: Sequence[list[T]], room: int = CHUNK) -> list[list[T]]:
    """Groups laid into chunks of `room`; one that does not fit goes to the next, unless long."""
    chunks: list[list[T]] = [[]]
    for group in groups:
        left = group
        while left:
            free = room - len(chunks[-1])
            if len(left) <= free:
                chunks[-1] += left
                break
            if len(group) >= LONG_GROUP:
                chunks[-1] += left[:free]
                left = left[free:]
            chunks.append([])
    return chunks


def _pieces(prompt: str) -> list[_Piece]:
    pieces: list[_Piece] = []
    for span in parse_weights(prompt):
        first, *others = EMBEDDING.split(span.text)
        pieces.append(_Piece(embedding="", text=first, weight=span.weight))
        for other in others:
            name, *rest = other.split(None, 1)
            pieces.append(_Piece(embedding=name, text="".join(rest), weight=span.weight))
    return pieces


# Counting -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A prompt's tokens: (text, weight, chunk from 0) each, and how many each chunk holds."""

    tokens: Sequence[tuple[str, float, int]]
    chunks: Sequence[int]

    @property
    def total(self) -> int:
        return len(self.tokens)

    def in_words(self) -> str:
        """`12 tokens in 1 chunk (12 of 75)`."""
        tokens = f"{self.total} token{'s' if self.total != 1 else ''}"
        chunks = f"{len(self.chunks)} chunk{'s' if len(self.chunks) != 1 else ''}"
        return f"{tokens} in {chunks} ({' + '.join(map(str, self.chunks))} of {CHUNK} each)"


def count(prompt: str, find_vectors: FindVectors[str] | None = None) -> Counted:
    """The tokens of a prompt as CLIP's text towers get them; start, end and padding left out."""
    tokenizer = load_tokenizer()
    chunks = in_chunks(grouped(prompt, find_vectors))
    return Counted(
        tokens=[
            (_shown(tokenizer, token), weight, number)
            for number, chunk in enumerate(chunks)
            for token, weight in chunk
        ],
        chunks=[len(chunk) for chunk in chunks],
    )


def _shown(tokenizer: Tokenizer, token: int | str) -> str:
    return token if isinstance(token, str) else tokenizer.decode(token)
