"""The report of `main.py models verify`: a page with pictures, and the same as JSON."""

import hashlib
import html
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from engine.run.assets import storage_error

PAGE, DATA = "report.html", "report.json"
_FLAT = 1.0  # standard deviation of 8 bit pixels below which a picture is one colour

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #1d1d1f; background: #fff }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #1b1b1d } }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem } dd { margin: 0 }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1.5rem }
figure { margin: 0 } img { width: 100%; image-rendering: auto } code { overflow-wrap: anywhere }
.bad { color: #c0392b; white-space: pre-wrap }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one case: a picture with digest and times, or a problem, or both."""

    name: str
    title: str
    problem: str = ""
    picture: str = ""
    pixels_sha256: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    @classmethod
    def of_picture(
        cls, *, name: str, title: str, picture: Path, place: Path, seconds: Mapping[str, float]
    ) -> Self:
        """The outcome of a picture file, which is copied into the report. Raises: StorageError."""
        kept = place / f"{name}.png"
        try:
            shutil.copyfile(picture, kept)
        except OSError as error:
            raise storage_error(kept, error) from error
        with Image.open(kept) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        size = "x".join(map(str, pixels.shape[1::-1]))
        return cls(
            name=name,
            title=title,
            problem="the picture is all one colour" if pixels.std() < _FLAT else "",
            picture=kept.name,
            pixels_sha256=hashlib.sha256(size.encode() + pixels.tobytes()).hexdigest(),
            seconds=seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole run of the set."""

    checkpoint: str
    published_as: str
    sha256: str
    family: str
    size_px: int
    prompt: str
    machine: Mapping[str, str]
    outcomes: Sequence[Outcome]


def write_report(report: Report, place: Path) -> Path:
    """Write both files; gives the page. Pictures that the last run had are compared with it.

    Raises: StorageError.
    """
    before = _digests_before(place / DATA)
    text = json.dumps(asdict(report), indent=2, default=dict) + "\n"
    for name, content in ((DATA, text), (PAGE, _page(report, before))):
        beside = place / f".{name}.{os.getpid()}.tmp"
        try:
            beside.write_text(content, encoding="utf-8")
            beside.replace(place / name)
        except OSError as error:
            raise storage_error(place / name, error) from error
    return place / PAGE


def _digests_before(file: Path) -> dict[str, str]:
    """The pixels of the last run by title, which tells steps, CFG and seed."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["outcomes"]
        return {row["title"]: row["pixels_sha256"] for row in rows if row["pixels_sha256"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _page(report: Report, before: Mapping[str, str]) -> str:
    facts = {
        "file": report.checkpoint,
        "published as": report.published_as or "no published file that is known here",
        "SHA-256": report.sha256,
        "family": report.family,
        "size": f"{report.size_px} px",
        "prompt": report.prompt,
        **report.machine,
    }
    rows = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in facts.items())
    figures = "".join(_figure(outcome, before) for outcome in report.outcomes)
    title = html.escape(f"Verify: {report.checkpoint}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1><dl>{rows}</dl><main>{figures}</main></html>\n"
    )


def _figure(outcome: Outcome, before: Mapping[str, str]) -> str:
    parts = [f"<strong>{html.escape(outcome.title)}</strong>"]
    if outcome.problem:
        parts.append(f'<span class="bad">{html.escape(outcome.problem)}</span>')
    if outcome.picture:
        times = ", ".join(f"{name} {s:.2f} s" for name, s in outcome.seconds.items() if s >= 0.01)
        parts += [html.escape(times), f"<code>{outcome.pixels_sha256}</code>"]
        if outcome.title in before:
            is_same = before[outcome.title] == outcome.pixels_sha256
            parts.append("the same as in the run before" if is_same else "not as in the run before")
    picture = (
        f'<a href="{outcome.picture}"><img src="{outcome.picture}" '
        f'alt="{html.escape(outcome.title)}"></a>'
        if outcome.picture
        else ""
    )
    return f"<figure>{picture}<figcaption>{'<br>'.join(parts)}</figcaption></figure>"
