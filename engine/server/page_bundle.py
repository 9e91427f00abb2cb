"""The page's modules as one file: a browser needs longer for a hundred requests than for the code.

The modules stay what is written, tested and read. Each becomes a function scope, in the order in
which a browser would run them. What the page's modules use of the language is what is known here:
named imports and exports, each at the start of a line, and no cycles.
"""

import re
from pathlib import Path, PurePosixPath

_IMPORT = re.compile(r'^import (?:\{([^}]*)\} from )?"(\.[^"]+)";\n', re.MULTILINE)
_LAZY = re.compile(r'(?<=await )import\("(\.[^"]+)"\)')
_EXPORT = re.compile(r"^export ((?:async function|function|class|const) (\w+))", re.MULTILINE)


def bundle(folder: Path, entry: str) -> str:
    """One module that does what `entry` and all that it imports do.

    Raises: ValueError for a cycle, which has no order.
    """
    numbers: dict[str, int] = {}
    _number(folder, entry, numbers, ())
    return "".join(_scope(folder, name, numbers) for name in numbers)


def modules_of(folder: Path) -> list[Path]:
    """All modules of a page, whether its entry imports them or not."""
    return sorted(folder.rglob("*.js"))


def _number(folder: Path, name: str, numbers: dict[str, int], above: tuple[str, ...]) -> None:
    """Count what a module imports, then itself, then what it imports later."""
    if name in above:
        raise ValueError(f"modules import each other: {' → '.join((*above, name))}")
    if name in numbers:
        return
    text = (folder / name).read_text(encoding="utf-8")
    for found in _IMPORT.finditer(text):
        _number(folder, _resolve(name, found[2]), numbers, (*above, name))
    numbers[name] = len(numbers)
    for found in _LAZY.finditer(text):
        _number(folder, _resolve(name, found[1]), numbers, ())


def _scope(folder: Path, name: str, numbers: dict[str, int]) -> str:
    """A module as a function scope whose value is what it exports."""

    def number(address: str) -> int:
        return numbers[_resolve(name, address)]

    def imported(found: re.Match[str]) -> str:
        names = (found[1] or "").replace(" as ", ": ")
        return f"const {{{names}}} = m{number(found[2])};\n"

    text = (folder / name).read_text(encoding="utf-8")
    exports = ", ".join(found[2] for found in _EXPORT.finditer(text))
    text = _IMPORT.sub(imported, text)
    text = _LAZY.sub(lambda found: f"Promise.resolve().then(() => m{number(found[1])})", text)
    text = _EXPORT.sub(r"\1", text)
    return (
        f"const m{numbers[name]} = (() => {{ // {name}\n{text}\nreturn {{ {exports} }};\n}})();\n"
    )


def _resolve(name: str, address: str) -> str:
    """The path in the folder that an address in a module means."""
    parts: list[str] = []
    for part in PurePosixPath(name).parent.joinpath(address).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
