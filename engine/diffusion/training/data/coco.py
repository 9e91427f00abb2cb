"""COCO's caption files: some of the pictures, each with one or all of its captions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from engine.api.caption_files import inside
from engine.api.errors import CorruptFile, NodeError
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.data.loading import Record, Source, load

CaptionChoice = Literal["first", "random", "all"]


def caption_files(folder: Path) -> list[Path]:
    """The caption files in a folder or its sub-folder `annotations`."""
    return sorted((*folder.glob("captions*.json"), *folder.glob("annotations/captions*.json")))


def read_coco(
    folder: Path,
    source: Source,
    *,
    annotations: str = "",
    count: int = 100,
    is_random: bool = False,
    captions: CaptionChoice = "first",
    seed: int = 0,
) -> Dataset:
    """Pictures with captions in the order of their ids; `count` 0 takes all that are there.

    A picture usually has five captions: the first, a random one, or all (the picture comes once
    with each). `annotations` names the file, which may be left out when there is one only.
    Raises: NodeError, CorruptFile, UnsafePath.
    """
    path = _annotations(folder, annotations)
    names, texts = _content(path)
    found: list[tuple[int, Path]] = []
    for number in sorted(names):
        picture = _picture(folder, path, names[number])
        if picture is not None and texts.get(number):
            found.append((number, picture))
    if not found:
        raise NodeError(
            f"None of the {len(names)} pictures that {path.name} names is in {folder.name}.",
            hint=f"Put them into {folder.name}/{_split_name(path)} or {folder.name}/images.",
        )
    if is_random:
        order = np.random.default_rng([seed, 0]).permutation(len(found))
        found = [found[int(i)] for i in order]
    chosen = found[: count or None]
    records = [
        Record(path=picture, name=picture.name, text=text)
        for number, picture in chosen
        for text in _chosen(texts[number], captions, seed, number)
    ]
    return load(records, folder.name, source)


def _annotations(folder: Path, name: str) -> Path:
    known = caption_files(folder)
    if name:
        places = [inside(folder, name), inside(folder / "annotations", name)]
        path = next((p for p in places if p.is_file()), None)
        if path is not None:
            return path
        says = f"The folder {folder.name} has no file {name}"
    elif len(known) == 1:
        return known[0]
    else:
        says = f"The folder {folder.name} has {len(known) or 'no'} caption files"
    listed = ", ".join(p.name for p in known[:8])
    raise NodeError(
        f"{says}.",
        hint=f"Write one of these into annotations: {listed}."
        if known
        else "COCO's captions lie in annotations/captions_val2017.json or a file like it.",
    )


def _content(path: Path) -> tuple[dict[int, str], dict[int, list[str]]]:
    """File names and captions by the pictures' ids. Raises: CorruptFile."""
    try:
        body = cast(Mapping[str, Any], json.loads(path.read_bytes()))
        names = {int(image["id"]): str(image["file_name"]) for image in body["images"]}
        texts: dict[int, list[str]] = {}
        for note in sorted(body["annotations"], key=lambda n: int(n.get("id", 0))):
            text = " ".join(str(note["caption"]).split())
            if text:
                texts.setdefault(int(note["image_id"]), []).append(text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFile(
            f"{path.name} is no caption file in COCO's layout: {type(error).__name__} {error}.",
            hint="It has the lists images (id, file_name) and annotations (image_id, caption).",
        ) from error
    return names, texts


def _split_name(path: Path) -> str:
    """`val2017` of captions_val2017.json."""
    return path.stem.removeprefix("captions").strip("_") or "images"


def _picture(folder: Path, annotations: Path, name: str) -> Path | None:
    roots = (folder / _split_name(annotations), folder / "images", folder, annotations.parent)
    return next((p for root in roots if (p := inside(root, name)).is_file()), None)


def _chosen(texts: Sequence[str], captions: CaptionChoice, seed: int, number: int) -> Sequence[str]:
    if captions == "all":
        return texts
    if captions == "first":
        return texts[:1]
    return [texts[int(np.random.default_rng([seed, 1, number]).integers(len(texts)))]]
