"""Styles: named pieces of prompts, from CSV files (name, prompt, negative_prompt).

The form is the customary one: `{prompt}` in a style stands for what was typed; a style without it
is added after a comma.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.api.errors import EngineError, MissingModel
from engine.text.suggest import did_you_mean, suggest

MARK = "{prompt}"
FILE = "styles.csv"
FOLDERS = ("user", "input")
MISSING_FILE = "Put it into user/; its first line is: name,prompt,negative_prompt"
_MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What a style adds to a prompt and to a negative prompt."""

    name: str
    prompt: str = ""
    negative: str = ""


class StylesFault(EngineError):
    """A styles file that cannot be read, or a style that no file has."""

    code = "styles"


def read_styles(path: Path) -> dict[str, Style]:
    """The styles of a CSV file by name; rows without a name are left out. Raises: StylesFault."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise StylesFault(f"The styles file {path.name} is larger than 16 MB.")
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (OSError, UnicodeError, csv.Error) as error:
        raise StylesFault(
            f"The styles file {path.name} cannot be read: {error}.",
            hint="It is a CSV file in UTF-8 with the columns name, prompt, negative_prompt.",
        ) from error
    if rows and "name" not in rows[0]:
        raise StylesFault(
            f"The styles file {path.name} has no column 'name'.",
            hint="Its first line is: name,prompt,negative_prompt",
        )
    styles: dict[str, Style] = {}
    for row in rows:
        name = (row.get("name") or "").strip()
        if name:
            styles[name] = Style(
                name=name,
                prompt=(row.get("prompt") or "").strip(),
                negative=(row.get("negative_prompt") or "").strip(),
            )
    return styles


def read_all(paths: Iterable[Path]) -> dict[str, Style]:
    """The styles of several files; the first file that has a name counts. Raises: StylesFault."""
    styles: dict[str, Style] = {}
    for path in paths:
        styles = {**read_styles(path), **styles}
    return styles


def style_files(resolve: Callable[[str, str], Path], name: str) -> list[Path]:
    """The files of that name in user/ and input/, as far as they are there. Raises: UnsafePath."""
    found: list[Path] = []
    for folder in FOLDERS:
        with suppress(MissingModel):
            found.append(resolve(folder, name))
    return found


def chosen(names: str, styles: Mapping[str, Style]) -> list[Style]:
    """The styles that a text names, one a line or with commas between them.

    Raises: StylesFault with the closest names.
    """
    found: list[Style] = []
    for line in filter(None, map(str.strip, names.splitlines())):
        for name in [line] if line in styles else filter(None, map(str.strip, line.split(","))):
            if name not in styles:
                raise StylesFault(
                    f"There is no style '{name}' ({len(styles)} are known).",
                    hint=did_you_mean(suggest(name, styles)) or "Add it to user/styles.csv.",
                )
            found.append(styles[name])
    return found


def with_styles(prompt: str, negative: str, styles: Sequence[Style]) -> tuple[str, str]:
    """Both texts with styles applied, one after the other."""
    for style in styles:
        prompt = _applied(prompt, style.prompt)
        negative = _applied(negative, style.negative)
    return prompt, negative


def _applied(text: str, style: str) -> str:
    if MARK in style:
        return style.replace(MARK, text.strip())
    return ", ".join(part for part in (text.strip().removesuffix(","), style) if part)
