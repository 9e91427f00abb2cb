"""Dynamic prompts: `{a|b}`, weights, several at once, and `__wildcards__`, resolved by a seed.

The syntax is the customary one of dynamic prompts: `{2::a|b}` (a twice as often), `{2$$a|b|c}`
(two of them, joined by a comma), `{1-2$$ and $$a|b}` (one or two, joined by ` and `),
`__hair/colour__` (a line of the file `hair/colour.txt`), `__hair/*__` (a line of any of these
files). `\\{`, `\\|` and `\\}` are plain letters.
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from engine.api.errors import EngineError
from engine.text.suggest import did_you_mean, suggest

Wildcards = Mapping[str, Callable[[], Sequence[str]]]

MAX_DEPTH = 50
MAX_LETTERS = 200_000
_WILDCARD = re.compile(r"__(?=[^\s_])([\w./*\- ]*?[^\s_])__")
_WEIGHT = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)::")
_COUNT = re.compile(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*\$\$")
_ESCAPED = re.compile(r"\\([{}|])")


class DynamicFault(EngineError):
    """A dynamic prompt that cannot be resolved."""

    code = "dynamic_prompt"


def resolve(text: str, seed: int, wildcards: Wildcards) -> str:
    """The text with every choice made; the same for the same seed on every machine.

    Raises: DynamicFault for a bracket that is not closed, a wildcard that is not there or that
    leads back to itself, a choice of more than there are.
    """
    resolver = _Resolver(chance=random.Random(seed), wildcards=wildcards)
    return _ESCAPED.sub(r"\1", resolver.text(text, ()))


def read_wildcards(files: Mapping[str, Path]) -> Wildcards:
    """Wildcards by name (`hair/colour`) from files by name; each is read when it is used."""
    texts = {name: path for name, path in files.items() if name.lower().endswith(".txt")}
    return {name[: -len(".txt")]: _reader(name, path) for name, path in sorted(texts.items())}


def _reader(name: str, path: Path) -> Callable[[], Sequence[str]]:
    def read() -> Sequence[str]:
        try:
            return options_of(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeError) as error:
            raise DynamicFault(
                f"The wildcard file {name} cannot be read: {error}.",
                hint="It is a text file in UTF-8 with one possibility a line.",
            ) from error

    return read


def options_of(text: str) -> list[str]:
    """The possibilities in a wildcard file: its lines, without empty ones and `#` comments."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@dataclass(slots=True, kw_only=True)
class _Resolver:
    """One resolution: choices are made from the left to the right, outer ones first."""

    chance: random.Random
    wildcards: Wildcards
    made: int = 0
    read: dict[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])

    def text(self, text: str, path: tuple[str, ...]) -> str:
        """A text resolved; `path` are the wildcards that led to it."""
        if len(path) > MAX_DEPTH:
            raise DynamicFault(f"The choices are nested deeper than {MAX_DEPTH} levels.")
        out: list[str] = []
        position = 0
        while position < len(text):
            letter = text[position]
            if letter == "\\" and position + 1 < len(text):
                out.append(text[position : position + 2])
                position += 2
            elif letter == "{":
                end = _closing(text, position)
                out.append(self._choice(text[position + 1 : end], path))
                position = end + 1
            elif letter == "_" and (found := _WILDCARD.match(text, position)):
                out.append(self._wildcard(found[1], path))
                position = found.end()
            else:
                out.append(letter)
                position += 1
        resolved = "".join(out)
        self.made += len(resolved)
        if self.made > MAX_LETTERS:
            raise DynamicFault(f"The text grows beyond {MAX_LETTERS} letters.")
        return resolved

    def _choice(self, inner: str, path: tuple[str, ...]) -> str:
        least, most, joiner, options = _read_choice(inner)
        if most > len(options):
            raise DynamicFault(
                f"{{{_short(inner)}}} chooses {most} of {len(options)}.",
                hint="Choose at most as many as there are.",
            )
        count = least if least == most else least + int(self.chance.random() * (most - least + 1))
        picked = self._pick(options, count)
        return joiner.join(self.text(option, (*path, "")) for option in picked)

    def _wildcard(self, name: str, path: tuple[str, ...]) -> str:
        if name in path:
            circle = " → ".join(f"__{n}__" for n in (*path[path.index(name) :], name) if n)
            raise DynamicFault(f"Wildcards lead back to themselves: {circle}.")
        options = [option for file in self._named(name) for option in self._options(file)]
        if not options:
            raise DynamicFault(f"The wildcard __{name}__ is empty.", hint="Write a line into it.")
        return self.text(self._pick([_weighted(o) for o in options], 1)[0], (*path, name))

    def _named(self, name: str) -> list[str]:
        found = [name] if name in self.wildcards else []
        if "*" in name:
            found = [known for known in self.wildcards if fnmatchcase(known, name)]
        if not found:
            near = did_you_mean(suggest(name, self.wildcards))
            raise DynamicFault(
                f"There is no wildcard __{name}__ ({len(self.wildcards)} are known).",
                hint=near or f"It would be the file user/wildcards/{name}.txt.",
            )
        return found

    def _options(self, name: str) -> Sequence[str]:
        if name not in self.read:
            self.read[name] = self.wildcards[name]()
        return self.read[name]

    def _pick(self, options: Iterable[tuple[str, float]], count: int) -> list[str]:
        """`count` different options by their weights, in the order in which they were drawn."""
        left, picked = list(options), []
        for _ in range(count):
            point = self.chance.random() * sum(weight for _, weight in left)
            index = 0
            while index < len(left) - 1 and point >= left[index][1]:
                point -= left[index][1]
                index += 1
            picked.append(left.pop(index)[0])
        return picked


def _closing(text: str, start: int) -> int:
    """The place of the bracket that closes the one at `start`."""
    depth, position = 0, start
    while position < len(text):
        letter = text[position]
        position += 1 if letter == "\\" else 0
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return position
        position += 1
    raise DynamicFault(
        f"The bracket {{ at letter {start + 1} is not closed: {_short(text[start:])}",
        hint="Close it with }, or write \\{ for a plain bracket.",
    )


def _read_choice(inner: str) -> tuple[int, int, str, list[tuple[str, float]]]:
    """Least and most picks, what joins them, and the options with their weights."""
    least = most = 1
    joiner = ", "
    if count := _COUNT.match(inner):
        least, most = int(count[1]), int(count[2] or count[1])
        if least > most:
            least, most = most, least
        inner = inner[count.end() :]
        before, mark, rest = inner.partition("$$")
        if mark and "|" not in before and "{" not in before:
            joiner, inner = before, rest
    return least, most, joiner, [_weighted(option) for option in _split(inner)]


def _weighted(option: str) -> tuple[str, float]:
    weight = _WEIGHT.match(option)
    return (option[weight.end() :], float(weight[1])) if weight else (option, 1.0)


def _split(inner: str) -> list[str]:
    """The options between `|` outside of inner brackets."""
    parts, start, depth, position = [], 0, 0, 0
    while position < len(inner):
        letter = inner[position]
        position += 1 if letter == "\\" else 0
        depth += (letter == "{") - (letter == "}")
        if letter == "|" and depth == 0:
            parts.append(inner[start:position])
            start = position + 1
        position += 1
    return [*parts, inner[start:]]


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
