"""A finished grid as a table for programs (CSV) and as a page for people (HTML without scripts)."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import product
from urllib.parse import quote

Place = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridTable:
    """A grid's title, the title and labels of each axis, and the file name of each cell.

    `faults` says why a cell has no file.
    """

    title: str
    axes: Sequence[tuple[str, Sequence[str]]]
    files: Mapping[Place, str]
    faults: Mapping[Place, str] = field(default_factory=dict[Place, str])

    def words(self, place: Place) -> str:
        """What a cell shows: `cfg 2, sampler_name euler`."""
        return ", ".join(f"{title} {labels[i]}" for (title, labels), i in zip(self.axes, place))

    def labels(self, axis: int) -> Sequence[str]:
        """The labels of an axis; one empty one where there is no such axis."""
        return self.axes[axis][1] if axis < len(self.axes) else ("",)

    def axis_title(self, axis: int) -> str:
        return self.axes[axis][0] if axis < len(self.axes) else ""

    def place(self, x: int, y: int, z: int) -> Place:
        return (x, y, z)[: len(self.axes)]


def csv_table(table: GridTable) -> str:
    """One line a cell: its values and its file, and a last column of faults if there are any."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    last = ["problem"] if table.faults else []
    writer.writerow([*(title for title, _ in table.axes), "file", *last])
    for place in product(*(range(len(labels)) for _, labels in table.axes)):
        values = [labels[i] for (_, labels), i in zip(table.axes, place)]
        fault = [table.faults.get(place, "")] if table.faults else []
        writer.writerow([*values, table.files.get(place, ""), *fault])
    return out.getvalue()


_STYLE = """
body { margin: 1.5rem; font: 15px/1.4 system-ui, sans-serif; color-scheme: light dark; }
table { border-spacing: 6px; }
th { font-weight: 500; padding: 2px 6px; }
thead th { position: sticky; top: 0; background: Canvas; }
tbody th { position: sticky; left: 0; background: Canvas; text-align: right; }
img { display: block; min-width: 96px; max-width: 320px; border-radius: 4px; }
.fault { max-width: 20rem; padding: 6px; color: #c22; }
a:focus-visible img { outline: 3px solid Highlight; }
"""


def html_page(table: GridTable) -> str:
    """A page that lies beside the cells' files; each picture is a link to its file."""
    blocks = [_block(table, z) for z in range(len(table.labels(2)))]
    policy = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(table.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(table.title)}</h1>\n{''.join(blocks)}</body>\n</html>\n"
    )


def _block(table: GridTable, z: int) -> str:
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in table.labels(0))
    rows: list[str] = []
    for y, label in enumerate(table.labels(1)):
        cells = "".join(_cell(table, table.place(x, y, z)) for x in range(len(table.labels(0))))
        rows.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>\n')
    corner = escape(" \\ ".join(filter(None, (table.axis_title(1), table.axis_title(0)))))
    title = f"{table.axis_title(2)} {table.labels(2)[z]}".strip()
    heading = f"<h2>{escape(title)}</h2>\n" if title else ""
    return (
        f"{heading}<table>\n<thead><tr><th>{corner}</th>{head}</tr></thead>\n"
        f"<tbody>\n{''.join(rows)}</tbody>\n</table>\n"
    )


def _cell(table: GridTable, place: Place) -> str:
    if place in table.faults:
        return f'<td class="fault">failed: {escape(table.faults[place])}</td>'
    address, words = quote(table.files[place]), escape(table.words(place))
    picture = f'<img src="{address}" alt="{words}" title="{words}" loading="lazy">'
    return f'<td><a href="{address}">{picture}</a></td>'
