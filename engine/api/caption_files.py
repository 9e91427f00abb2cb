"""Captions beside pictures in the customary layouts, read and written; never other columns."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast

from engine.api.errors import CorruptFile, EngineError, StorageError, UnsafePath
from engine.api.whole_file import write_whole

PICTURES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"))
FILE_COLUMNS = ("file_name", "filename", "image", "file", "image_path", "path")
TEXT_COLUMNS = ("text", "caption", "prompt", "description")
SIDE_ENDINGS = (".txt", ".caption")
_METADATA = "metadata.jsonl"
_MASK_ENDINGS = ("-mask", "_mask")

Kind = Literal["metadata", "csv", "side files", "none"]


class CaptionsChanged(EngineError):
    """The captions on disk are no longer those that were read."""

    code = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRow:
    """A picture by its name inside the folder, its caption, and what else the layout says of it."""

    file_name: str
    text: str
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """The captions of a folder and where they lie.

    `source` is the table's name, or "". `revision` changes with every byte of the captions.
    """

    kind: Kind
    source: str
    rows: tuple[CaptionRow, ...]
    revision: str

    @property
    def texts(self) -> dict[str, str]:
        return {row.file_name: row.text for row in self.rows}


def inside(folder: Path, name: str) -> Path:
    """The path of a name that a table gives, which cannot leave the folder. Raises: UnsafePath."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if not name.strip() or parts.is_absolute() or ".." in parts.parts or ":" in name[:2]:
        raise UnsafePath(
            f"'{name[:200]}' is no name inside the folder {folder.name}.",
            hint="Tables name pictures relative to their own folder.",
        )
    return folder / parts


def is_picture(name: str) -> bool:
    """Whether a file name is that of a picture."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in PICTURES


def pictures_in(folder: Path) -> list[str]:
    """The names of the pictures directly in a folder, sorted; masks beside others are none."""
    try:
        names = sorted(e.name for e in os.scandir(folder) if is_picture(e.name) and e.is_file())
    except OSError as error:
        raise StorageError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    stems = {PurePosixPath(name).stem for name in names}
    return [name for name in names if not _is_mask(PurePosixPath(name).stem, stems)]


def _is_mask(stem: str, stems: set[str]) -> bool:
    return any(stem.endswith(end) and stem.removesuffix(end) in stems for end in _MASK_ENDINGS)


def mask_of(folder: Path, name: str) -> Path | None:
    """The mask beside a picture: NAME-mask.png, or a file of that name in the folder `masks`."""
    picture = folder / name
    places = [picture.with_name(f"{picture.stem}{end}.png") for end in _MASK_ENDINGS]
    places += [picture.parent / "masks" / f"{picture.stem}.png", picture.parent / "masks" / name]
    return next((path for path in places if path.is_file()), None)


def first_of(columns: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The value of the first of some columns that is there, or None."""
    return next((columns[name] for name in names if columns.get(name) not in (None, "")), None)


# Reading ------------------------------------------------------------------------------------------


def read_captions(folder: Path) -> Captions:
    """The pictures of a folder with their captions; pictures without one have the text "".

    A table (metadata.jsonl, or one CSV file) goes before side files (NAME.txt, NAME.caption).
    Raises: CorruptFile naming file and line, StorageError.
    """
    names = pictures_in(folder)
    table = _table_of(folder)
    if table is not None:
        data = _bytes(table)
        rows = _jsonl_rows(table, data) if table.name == _METADATA else _csv_rows(table, data)
        known = {row.file_name for row in rows}
        more = [CaptionRow(file_name=name, text="") for name in names if name not in known]
        kind: Kind = "metadata" if table.name == _METADATA else "csv"
        return Captions(
            kind=kind,
            source=table.name,
            rows=(*rows, *more),
            revision=_revision([(table.name, data)]),
        )
    sides = [(name, side) for name in names if (side := _side_of(folder, name)) is not None]
    contents = {name: (side, _bytes(side)) for name, side in sides}
    rows = tuple(
        CaptionRow(
            file_name=name, text=_decoded(*contents[name]).strip() if name in contents else ""
        )
        for name in names
    )
    return Captions(
        kind="side files" if sides else "none",
        source="",
        rows=rows,
        revision=_revision([(side.name, data) for side, data in contents.values()]),
    )


def _table_of(folder: Path) -> Path | None:
    if (folder / _METADATA).is_file():
        return folder / _METADATA
    if (folder / "metadata.csv").is_file():
        return folder / "metadata.csv"
    tables = sorted(p for p in folder.glob("*.csv") if p.is_file() and not p.name.startswith("."))
    if len(tables) > 1:
        raise EngineError(
            f"The folder {folder.name} holds several CSV files: "
            f"{', '.join(p.name for p in tables[:5])}.",
            hint="Call the one with the captions metadata.csv.",
        )
    return tables[0] if tables else None


def _side_of(folder: Path, name: str) -> Path | None:
    places = ((folder / name).with_suffix(ending) for ending in SIDE_ENDINGS)
    return next((path for path in places if path.is_file()), None)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"The file {path} cannot be read: {error.strerror}.") from error


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptFile(
            f"{path.name} is no UTF-8 text (byte {error.start}).",
            hint="Save it again with the encoding UTF-8.",
        ) from error


def _revision(parts: Sequence[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, data in parts:
        digest.update(f"{name}\n{len(data)}\n".encode("utf-8", "surrogatepass") + data)
    return digest.hexdigest()[:32]


def _jsonl_rows(path: Path, data: bytes) -> tuple[CaptionRow, ...]:
    lines = _decoded(path, data).split("\n")
    return tuple(_jsonl_row(path, n, line) for n, line in enumerate(lines, 1) if line.strip())


def _jsonl_row(path: Path, number: int, line: str) -> CaptionRow:
    try:
        value: object = json.loads(line)
    except ValueError as error:
        raise CorruptFile(
            f"{path.name}, line {number} is no JSON: {error}.",
            hint='Each line is one object, such as {"file_name": "a.png", "text": "a cat"}.',
        ) from error
    if not isinstance(value, dict):
        raise CorruptFile(f"{path.name}, line {number} is no JSON object.")
    return _row(path, number, cast("dict[str, Any]", value))


def _row(path: Path, number: int, columns: dict[str, Any]) -> CaptionRow:
    name, text = first_of(columns, FILE_COLUMNS), first_of(columns, TEXT_COLUMNS)
    if not isinstance(name, str):
        raise CorruptFile(
            f"{path.name}, line {number} names no file.",
            hint="The column is called file_name.",
        )
    if text is not None and not isinstance(text, str):
        raise CorruptFile(f"{path.name}, line {number}: the caption of {name} is no text.")
    return CaptionRow(
        file_name=name.replace("\\", "/").removeprefix("./"),
        text=(text or "").strip(),
        columns=columns,
    )


def _csv_rows(path: Path, data: bytes) -> tuple[CaptionRow, ...]:
    reader, header = _csv_reader(path, data)
    if first_of(dict.fromkeys(header, "x"), FILE_COLUMNS) is None:
        raise CorruptFile(
            f"{path.name} has no column with file names, only {', '.join(header)[:200]}.",
            hint="The first line is: file_name,text",
        )
    return tuple(
        _row(path, number, {str(k): v for k, v in row.items()})
        for number, row in enumerate(reader, 2)
        if any(row.values())
    )


def _csv_reader(path: Path, data: bytes) -> tuple["csv.DictReader[str]", list[str]]:
    text = _decoded(path, data)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    return reader, list(reader.fieldnames or ())


# Writing ------------------------------------------------------------------------------------------


def write_captions(folder: Path, texts: Mapping[str, str], revision: str) -> Captions:
    """Change some captions where they lie, and give all of them as they are then.

    Where there are none yet, they go into metadata.jsonl. Lines, columns and files of other
    pictures stay as they are; each file is there in its old or its new form, never in part.
    Raises: CaptionsChanged when `revision` is not that of the captions on disk; UnsafePath,
    StorageError, EngineError for a picture that is not there.
    """
    now = read_captions(folder)
    if now.revision != revision:
        raise CaptionsChanged(
            f"The captions of {folder.name} were changed meanwhile, in another window or program.",
            hint="Load them again; what you wrote is still in the fields.",
        )
    known = now.texts
    for name in texts:
        if name not in known:
            raise EngineError(f"There is no picture {name[:200]} in {folder.name}.")
        inside(folder, name)
    edits = {name: text.strip() for name, text in texts.items() if text.strip() != known[name]}
    if not edits:
        return now
    if now.kind == "side files":
        for name, text in edits.items():
            side = _side_of(folder, name) or (folder / name).with_suffix(SIDE_ENDINGS[0])
            _write(side, text.encode("utf-8", "surrogatepass") + b"\n")
    elif now.kind == "csv":
        path = folder / now.source
        _write(path, _csv_bytes(path, edits))
    else:
        path = folder / _METADATA
        _write(path, _jsonl_bytes(path, edits))
    return read_captions(folder)


def _jsonl_bytes(path: Path, edits: Mapping[str, str]) -> bytes:
    """The table with other captions; lines of other pictures stay byte for byte."""
    text = _decoded(path, _bytes(path)) if path.is_file() else ""
    left = dict(edits)
    lines: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            row = _jsonl_row(path, number, line)
            if row.file_name in edits:
                left.pop(row.file_name, None)
                line = _json({**row.columns, _text_column(row.columns): edits[row.file_name]})
            lines.append(line)
    lines += [_json({"file_name": name, "text": caption}) for name, caption in left.items()]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


def _text_column(columns: Iterable[str]) -> str:
    present = set(columns)
    return next((name for name in TEXT_COLUMNS if name in present), TEXT_COLUMNS[0])


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _csv_bytes(path: Path, edits: Mapping[str, str]) -> bytes:
    reader, header = _csv_reader(path, _bytes(path))
    text_column = _text_column(header)
    if text_column not in header:
        header.append(text_column)
    name_column = next(name for name in FILE_COLUMNS if name in header)
    left = dict(edits)
    out = io.StringIO(newline="")
    # Cells beyond the header stand under None; they go back behind the others.
    writer = csv.writer(out, delimiter=reader.reader.dialect.delimiter, lineterminator="\n")
    writer.writerow(header)
    for number, row in enumerate(reader, 2):
        if not any(row.values()):
            continue
        name = _row(path, number, {str(k): v for k, v in row.items()}).file_name
        if name in edits:
            left.pop(name, None)
            row[text_column] = edits[name]
        surplus = cast("dict[str | None, list[str]]", row).get(None, [])
        writer.writerow([*(row.get(column) or "" for column in header), *surplus])
    for name, caption in left.items():
        new = {name_column: name, text_column: caption}
        writer.writerow([new.get(column, "") for column in header])
    return out.getvalue().encode("utf-8", "surrogatepass")


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises: StorageError."""
    try:
        write_whole(path, lambda file: file.write(data))
    except OSError as error:
        raise StorageError(
            f"The captions cannot be written to {path}: {error.strerror or error}.",
            hint="Check the disk and the permissions of the folder.",
        ) from error
