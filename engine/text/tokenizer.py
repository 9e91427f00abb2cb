"""CLIP's byte-pair tokenizer: text to token numbers, from the published merges alone.

Source: Radford et al. 2021; the merges lie in `data/clip/` (see the NOTICE there).
"""

import functools
import gzip
import heapq
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

START = 49406
END = 49407
MERGES_FILE = Path(__file__).parent / "data" / "clip" / "bpe_simple_vocab_16e6.txt.gz"
KNOWN_WORDS = 20_000  # so many words are remembered with their tokens
MERGE_COUNT = 49152 - 256 - 2

_SPECIAL = re.compile(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """The vocabulary and the ranks of the merges; `known` remembers words that were split."""

    names: Sequence[str]
    numbers: Mapping[str, int]
    ranks: Mapping[tuple[str, str], int]
    known: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def encode(self, text: str) -> list[int]:
        """The token numbers of a text, without start and end."""
        numbers: list[int] = []
        for word in _words(text):
            found = self.known.get(word)
            if found is None:
                found = tuple(self._split(word))
                if len(self.known) < KNOWN_WORDS:
                    self.known[word] = found
            numbers += found
        return numbers

    def decode(self, number: int) -> str:
        """The letters of one token; part of a character is shown as \ufffd."""
        name = self.names[number]
        if name.startswith("<|"):
            return name
        of_letter = {letter: b for b, letter in _byte_letters().items()}
        return bytes(of_letter[c] for c in name.removesuffix("</w>")).decode(errors="replace")

    def _split(self, word: str) -> Iterator[int]:
        if word in self.numbers and word.startswith("<|"):
            yield self.numbers[word]
            return
        letters = _byte_letters()
        pieces = [letters[b] for b in word.encode()]
        pieces[-1] += "</w>"
        yield from (self.numbers[piece] for piece in _merged(pieces, self.ranks))


def _merged(pieces: list[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Neighbours joined, the best-ranked and leftmost pair first, until no pair is known.

    A heap keeps this fast for words of any length.
    """
    after = [*range(1, len(pieces)), -1]
    before = [-1, *range(len(pieces) - 1)]
    heap: list[tuple[int, int, str, str]] = []

    def consider(left: int) -> None:
        right = after[left]
        if left >= 0 and right >= 0:
            pair = (pieces[left], pieces[right])
            if pair in ranks:
                heapq.heappush(heap, (ranks[pair], left, *pair))

    for position in range(len(pieces) - 1):
        consider(position)
    while heap:
        _, left, first, second = heapq.heappop(heap)
        right = after[left]
        if right < 0 or (pieces[left], pieces[right]) != (first, second):
            continue  # one of the two was joined otherwise
        pieces[left], pieces[right] = first + second, ""
        after[left] = after[right]
        if after[left] >= 0:
            before[after[left]] = left
        consider(left)
        if before[left] >= 0:
            consider(before[left])
    return [piece for piece in pieces if piece]


@functools.cache
def load_tokenizer() -> Tokenizer:
    """The tokenizer of all CLIP text towers; read once."""
    with gzip.open(MERGES_FILE, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : MERGE_COUNT + 1]
    pairs = [(a, b) for a, b in (line.split() for line in lines)]
    letters = _alphabet()
    names = [*letters, *(c + "</w>" for c in letters), *(a + b for a, b in pairs)]
    names += ["<|startoftext|>", "<|endoftext|>"]
    return Tokenizer(
        names=names,
        numbers={name: number for number, name in enumerate(names)},
        ranks={pair: rank for rank, pair in enumerate(pairs)},
    )


def _words(text: str) -> Iterator[str]:
    """Special tokens, contractions, runs of letters, single digits, runs of anything else."""
    text = " ".join(unicodedata.normalize("NFC", text).split()).lower()
    position = 0
    while position < len(text):
        if text[position] == " ":
            position += 1
            continue
        if special := _SPECIAL.match(text, position):
            yield special.group()
            position = special.end()
            continue
        start, kind = position, _kind(text[position])
        position += 1
        while kind != "N" and position < len(text) and _kind(text[position]) == kind:
            position += 1
        yield text[start:position]


def _kind(character: str) -> str:
    if character.isspace():
        return " "
    kind = unicodedata.category(character)[0]
    return kind if kind in "LN" else "other"


@functools.cache
def _byte_letters() -> dict[int, str]:
    """Byte -> the printable character that stands for it in the vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + n) for n, b in enumerate(others)}


def _alphabet() -> list[str]:
    """The vocabulary's first 256 entries, in its own order."""
    return list(_byte_letters().values())
