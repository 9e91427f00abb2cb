"""Reading folders of pictures: captions beside them, class folders, Parquet tables."""

import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from engine.api.caption_files import (
    TEXT_COLUMNS,
    first_of,
    inside,
    mask_of,
    pictures_in,
    read_captions,
)
from engine.api.errors import CorruptFile, NodeError
from engine.diffusion.training.data.attributes import is_attribute_list
from engine.diffusion.training.data.coco import caption_files
from engine.diffusion.training.data.dataset import Dataset, GreyRange
from engine.diffusion.training.data.loading import Record, Source, load

Layout = Literal["automatic", "captions", "class folders", "parquet"]
CONDITION_COLUMNS = ("conditioning_image", "condition", "conditioning_image_file_name")
MASK_COLUMNS = ("mask", "mask_file_name", "mask_image")
CLASS_TEMPLATE = "a photo of {class}"
_BESIDE = ("masks", "conditioning", "conditioning_images")  # folders that are no classes


def read_folder(
    folder: Path,
    source: Source,
    *,
    name: str = "",
    layout: Layout = "automatic",
    class_template: str = CLASS_TEMPLATE,
    grey_range: GreyRange = "automatic",
) -> Dataset:
    """The pictures of a folder with their captions, in the order of the table or of the names.

    Raises: NodeError when it holds nothing that a layout fits, CorruptFile for a broken table.
    """
    chosen = layout_of(folder) if layout == "automatic" else layout
    if chosen == "parquet":
        records = list(_parquet_records(folder, source))
    elif chosen == "class folders":
        records = _class_records(folder, class_template)
    else:
        records = _caption_records(folder)
    if not records:
        raise NodeError(
            f"The folder {folder.name} holds no pictures"
            + ("." if layout == "automatic" else f" in the layout '{layout}'."),
            hint="Put pictures into it, or choose another folder.",
        )
    return load(records, name or folder.name, source, grey_range=grey_range)


def layout_of(folder: Path) -> Layout:
    """Which layout a folder has.

    Raises: NodeError for a folder of another node, or one whose parts have tables of their own.
    """
    if any(folder.glob("*.parquet")):
        return "parquet"
    has_table = (folder / "metadata.jsonl").is_file() or any(folder.glob("*.csv"))
    if has_table or pictures_in(folder):
        return "captions"
    if caption_files(folder):
        raise NodeError(
            f"The folder {folder.name} holds captions in COCO's layout.",
            hint="Use the node Load COCO Dataset for it.",
        )
    if any(is_attribute_list(path) for path in folder.glob("*.txt")):
        raise NodeError(
            f"The folder {folder.name} holds an attribute list.",
            hint="Use the node Load Attribute Dataset for it.",
        )
    parts = [p for p in _folders(folder) if _has_table(p)]
    if parts:
        names = ", ".join(f"{folder.name}/{p.name}" for p in parts[:5])
        raise NodeError(
            f"The folder {folder.name} holds several datasets.", hint=f"Choose one of {names}."
        )
    if any(pictures_in(p) for p in _folders(folder)):
        return "class folders"
    if (folder / "data").is_dir() and any((folder / "data").glob("*.parquet")):
        raise NodeError(
            f"The folder {folder.name} holds its pictures one folder deeper.",
            hint=f"Choose {folder.name}/data.",
        )
    return "captions"


def _folders(folder: Path) -> list[Path]:
    return sorted(
        p
        for p in folder.iterdir()
        if p.is_dir() and not p.name.startswith(".") and p.name not in _BESIDE
    )


def _has_table(folder: Path) -> bool:
    return (folder / "metadata.jsonl").is_file() or (folder / "metadata.csv").is_file()


# Captions beside pictures -------------------------------------------------------------------------


def _caption_records(folder: Path) -> list[Record]:
    records: list[Record] = []
    for row in read_captions(folder).rows:
        path = inside(folder, row.file_name)
        named_mask = _file(folder, first_of(row.columns, MASK_COLUMNS))
        named_condition = _file(folder, first_of(row.columns, CONDITION_COLUMNS))
        records.append(
            Record(
                path=path,
                name=row.file_name,
                text=row.text,
                mask_path=named_mask or mask_of(folder, row.file_name),
                condition_path=named_condition or _condition_of(path),
            )
        )
    return records


def _file(folder: Path, value: object) -> Path | None:
    """The file that a cell names. Raises: NodeError when it is not there."""
    if not isinstance(value, str) or not value:
        return None
    path = inside(folder, value)
    if not path.is_file():
        raise NodeError(
            f"The table of {folder.name} names the file {value[:200]}, which is not there.",
            hint="Put it into the folder, or empty the cell.",
        )
    return path


def _condition_of(picture: Path) -> Path | None:
    """The condition picture of the same name in a folder `conditioning` beside."""
    places = [
        picture.parent / folder / name
        for folder in _BESIDE[1:]
        for name in (picture.name, f"{picture.stem}.png")
    ]
    return next((path for path in places if path.is_file()), None)


# Class folders ------------------------------------------------------------------------------------


def _class_records(folder: Path, template: str) -> list[Record]:
    """One caption for all pictures of a folder: its name without numbers of repeats in front."""
    records: list[Record] = []
    for part in _folders(folder):
        words = part.name.replace("_", " ").strip()
        records += [
            Record(
                path=part / name,
                name=f"{part.name}/{name}",
                text=template.replace("{class}", words),
                mask_path=mask_of(part, name),
            )
            for name in pictures_in(part)
        ]
    return records


# Parquet ------------------------------------------------------------------------------------------


def _parquet_records(folder: Path, source: Source) -> Iterator[Record]:
    """The rows of all tables; pictures inside of them are put into the store.

    Raises: NodeError without the package pyarrow, CorruptFile.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise NodeError(
            "Parquet files need the package pyarrow, which is not installed.",
            hint=f"Install it with: {sys.executable} -m pip install pyarrow",
        ) from error
    for path in sorted(folder.glob("*.parquet")):
        try:
            table = parquet.ParquetFile(path)
            for batch in table.iter_batches(batch_size=64):
                for number, row in enumerate(batch.to_pylist()):
                    yield _parquet_record(folder, path, number, row, source)
        except (arrow.ArrowInvalid, arrow.ArrowException, OSError) as error:
            raise CorruptFile(
                f"{path.name} cannot be read as a Parquet table: {error}.",
                hint="Download it again.",
            ) from error


def _parquet_record(
    folder: Path, table: Path, number: int, row: Mapping[str, Any], source: Source
) -> Record:
    text = first_of(row, TEXT_COLUMNS)
    if isinstance(text, list) and text:
        text = text[0]  # several captions of one picture
    picture = _cell(folder, first_of(row, ("image", "file_name", "img", "jpg", "png")), source)
    if picture is None:
        raise CorruptFile(
            f"{table.name} has a row without a picture; its columns are {', '.join(row)[:200]}.",
            hint="The column with the pictures is called image, the one with captions text.",
        )
    return Record(
        path=picture,
        name=picture.name if picture.is_relative_to(folder) else f"{table.name} row {number}",
        text=text.strip() if isinstance(text, str) else "",
        mask_path=_cell(folder, first_of(row, MASK_COLUMNS), source),
        condition_path=_cell(folder, first_of(row, CONDITION_COLUMNS), source),
    )


def _cell(folder: Path, value: Any, source: Source) -> Path | None:
    """A picture in a cell: {"bytes", "path"} as Hugging Face writes it, bytes, or a file's name."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        name = hashlib.sha256(value).hexdigest()
        path = source.store.path(name)
        return path if path.is_file() else source.store.put(name, value)
    return _file(folder, value)
