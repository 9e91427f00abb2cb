"""From records (a picture file and what is said of it) to a dataset: each file is read once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from engine.api.errors import CorruptFile, EngineError
from engine.diffusion.training.data.cache import ContentStore
from engine.diffusion.training.data.dataset import Dataset, Example, Finding, GreyRange
from engine.diffusion.training.data.pictures import Facts, inspect

_THREADS = 4
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A picture as a reader found it; `name` is how people know it."""

    path: Path
    name: str
    text: str
    mask_path: Path | None = None
    condition_path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What reading needs of its surroundings.

    `digest` gives the SHA-256 of a file, `store` keeps pictures that lie in no file of their own.
    `progress(done, count)` may raise to stop.
    """

    digest: Callable[[Path], str]
    store: ContentStore
    progress: Callable[[int, int], None] = field(default=lambda done, count: None)


def load(
    records: Sequence[Record],
    name: str,
    source: Source,
    *,
    grey_range: GreyRange = "automatic",
    findings: Sequence[Finding] = (),
) -> Dataset:
    """The dataset of some records. Every picture is decoded to its end; what cannot be read is
    left out and becomes a finding that stops training. Raises: StorageError.
    """
    found = list(findings)
    missing = [r.name for r in records if not r.path.is_file()]
    if missing:
        found.append(
            Finding(
                severity="warning",
                code="picture_missing",
                message=f"Captions without a picture: {shown(missing)}.",
                hint="Put the pictures into the folder, or take the captions out.",
                files=tuple(missing),
            )
        )
    present = [r for r in records if r.path.is_file()]
    examples: list[Example] = []
    broken: list[tuple[str, str]] = []
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="weft-dataset") as pool:
        facts = pool.map(lambda r: _facts(r, grey_range), present)
        for number, (record, fact) in enumerate(zip(present, facts, strict=True), 1):
            source.progress(number, len(present))
            if isinstance(fact, Facts):
                examples.append(_example(record, fact, source, grey_range))
            else:
                broken.append((record.name, fact))
    if broken:
        files = [f"{file} ({reason})" for file, reason in broken]
        found.append(
            Finding(
                severity="error",
                code="unreadable",
                message=f"Files that cannot be read: {shown(files)}.",
                hint="Save or download them again, or take them out of the folder.",
                files=tuple(file for file, _ in broken),
            )
        )
    return Dataset(examples=tuple(examples), name=name, findings=tuple(found))


def _facts(record: Record, grey_range: GreyRange) -> Facts | str:
    """What the files tell, or why one cannot be read."""
    try:
        facts = inspect(record.path, grey_range)
        for beside in (record.mask_path, record.condition_path):
            if beside is not None:
                inspect(beside)
    except CorruptFile as error:
        return error.message.partition("picture: ")[2].rstrip(".") or error.message
    except EngineError as error:
        return error.message
    return facts


def _example(record: Record, facts: Facts, source: Source, grey_range: GreyRange) -> Example:
    mask, condition = record.mask_path, record.condition_path
    return Example(
        path=record.path,
        digest=source.digest(record.path),
        text=record.text,
        width_px=facts.size[0],
        height_px=facts.size[1],
        mask_path=mask,
        mask_digest=None if mask is None else source.digest(mask),
        condition_path=condition,
        condition_digest=None if condition is None else source.digest(condition),
        grey_range=grey_range,
        look=facts.look,
    )


def shown(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
