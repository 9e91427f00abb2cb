"""Attribute lists in CelebA's layout, turned into sentences by a template."""

import re
from collections.abc import Mapping
from pathlib import Path

from engine.api.caption_files import inside
from engine.api.errors import CorruptFile, NodeError
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.data.loading import Record, Source, load

TEMPLATE = "a photo of a {Young:young|older} {Male:man|woman}, {attributes}"
_CHOICE = re.compile(r"\{(\w+):([^{}|]*)\|([^{}|]*)\}")
_HEAD_BYTES = 16_384


def is_attribute_list(path: Path) -> bool:
    """Whether a text file is an attribute list: a count, a line of names, lines of 1 and -1."""
    try:
        with path.open("rb") as file:
            lines = file.read(_HEAD_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return False
    if len(lines) < 3 or not lines[0].strip().isdecimal():
        return False
    return set(lines[2].split()[1:]) <= {"1", "-1"} and len(lines[2].split()) > 1


def read_attributes(
    folder: Path,
    source: Source,
    *,
    template: str = TEMPLATE,
    count: int = 0,
) -> Dataset:
    """The pictures that an attribute list names and that are there, in its order.

    In `template`, {attributes} lists all that a picture has and that are named nowhere else in
    it, and {Male:man|woman} chooses by one of them. `count` 0 takes all.
    Raises: NodeError, CorruptFile.
    """
    lists = [path for path in sorted(folder.glob("*.txt")) if is_attribute_list(path)]
    if len(lists) != 1:
        raise NodeError(
            f"The folder {folder.name} holds {len(lists) or 'no'} attribute lists.",
            hint="One file such as list_attr_celeba.txt belongs into it: a line with the count, "
            "a line with the names, and a line of 1 and -1 for each picture.",
        )
    names, rows = _content(lists[0])
    used = {match[0] for match in _CHOICE.findall(template)}
    unknown = used - set(names)
    if unknown:
        raise NodeError(
            f"The template names the attribute {sorted(unknown)[0]}, which is not in the list.",
            hint=f"Known are {', '.join(names)}.",
        )
    roots = (folder, *(p for p in sorted(folder.iterdir()) if p.is_dir()))
    records: list[Record] = []
    for name, values in rows:
        path = next((p for root in roots if (p := inside(root, name)).is_file()), None)
        if path is not None:
            has = dict(zip(names, values, strict=True))
            records.append(Record(path=path, name=name, text=sentence(template, has)))
        if count and len(records) == count:
            break
    if not records:
        raise NodeError(
            f"None of the {len(rows)} pictures that {lists[0].name} names is in {folder.name}.",
            hint="Put them into the folder beside the list, or into a folder in it.",
        )
    return load(records, folder.name, source)


def sentence(template: str, has: Mapping[str, bool]) -> str:
    """The caption of one picture."""
    used = {match[0] for match in _CHOICE.findall(template)}
    words = [name.replace("_", " ").lower() for name, is_so in has.items() if is_so]
    named = {name.replace("_", " ").lower() for name in used}
    listed = ", ".join(word for word in words if word not in named)
    text = _CHOICE.sub(lambda m: m[2] if has.get(m[1]) else m[3], template)
    text = " ".join(text.replace("{attributes}", listed).split())
    return text.strip(" ,:;")


def _content(path: Path) -> tuple[list[str], list[tuple[str, list[bool]]]]:
    """The names, and each picture's values. Raises: CorruptFile naming the line."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    names = lines[1].split()
    rows: list[tuple[str, list[bool]]] = []
    for number, line in enumerate(lines[2:], 3):
        file_name, *values = line.split() or [""]
        if not file_name:
            continue
        if len(values) != len(names) or set(values) - {"1", "-1"}:
            raise CorruptFile(
                f"{path.name}, line {number} has {len(values)} values for {len(names)} attributes.",
                hint="Each line is a file name and a 1 or -1 for each attribute.",
            )
        rows.append((file_name, [value == "1" for value in values]))
    return names, rows
