"""The nodes that a grid's prompt ends in: one for each cell, and the sheet of them all."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, BinaryIO

from engine.api import Failed, Image, NodeError, NodeOutput, RunContext, Text, node
from engine.diffusion.grid_sheet import draw_sheet, joined
from engine.diffusion.image_ops import to_pil
from engine.diffusion.image_writing import PictureTexts
from engine.text.grid_ids import base_id
from engine.text.grid_page import GridTable, csv_table, html_page
from nodes.picture_texts import origin_of

_CATEGORY = "grid"
_FOLDER = "grids"


@node("GridCell", title="Grid Cell", category=_CATEGORY, is_output=True, output_names=("file",))
def grid_cell(
    images: Image,
    place: Annotated[str, Text("0", tooltip="column,row,block")],
    values: Annotated[str, Text("{}", tooltip="what the cell shows, as JSON")],
    title: Annotated[str, Text("grid")],
    ctx: RunContext,
) -> Annotated[NodeOutput, str]:
    """Saves one cell of a grid, with the prompt that makes it again. Grids add it by themselves.

    A batch becomes one picture.
    """
    told = PictureTexts(texts=_cell_texts(ctx, values), xmp=origin_of(ctx))
    picture = to_pil(joined(images)[0])

    def write(file: BinaryIO) -> None:
        picture.save(file, format="PNG", pnginfo=told.png_info(), compress_level=4)

    prefix = f"{_FOLDER}/{title}"
    saved = ctx.files.save(write, prefix=prefix, extension="png", size_px=picture.size)
    name = f"{saved['subfolder']}/{saved['filename']}".lstrip("/")
    return NodeOutput(result=(name,), ui={"images": [saved], "grid_cell": (place,)})


@node(
    "GridSheet",
    title="Grid Sheet",
    category=_CATEGORY,
    is_output=True,
    takes_any_input=True,
    takes_failures=True,
)
def grid_sheet(
    request: Annotated[str, Text("{}", multiline=True, tooltip="the grid, as JSON")],
    ctx: RunContext,
    **cells: str | Failed,
) -> NodeOutput:
    """Gathers the cells of a grid in a labelled sheet, a CSV table and an HTML page.

    Grids add it by themselves. A cell that failed says so in its place.
    """
    grid = json.loads(request)
    table = _table(grid, cells)
    paths = {place: ctx.files.resolve("output", name) for place, name in table.files.items()}
    sheet = draw_sheet(table, paths)
    told = PictureTexts(texts=_sheet_texts(ctx, grid, request), xmp=origin_of(ctx))
    beside = {place: name.rpartition("/")[2] for place, name in table.files.items()}
    lone = replace(table, files=beside)

    def write_sheet(file: BinaryIO) -> None:
        sheet.save(file, format="PNG", pnginfo=told.png_info())

    def write_csv(file: BinaryIO) -> None:
        file.write(csv_table(lone).encode())

    def write_page(file: BinaryIO) -> None:
        file.write(html_page(lone).encode())

    save = ctx.files.save
    start = f"{_FOLDER}/{table.title}"
    return NodeOutput(
        ui={
            "images": [save(write_sheet, prefix=f"{start}_sheet", extension="png", index=0)],
            "files": [
                save(write_csv, prefix=f"{start}_table", extension="csv", index=1),
                save(write_page, prefix=f"{start}_page", extension="html", index=2),
            ],
        }
    )


def _table(grid: Mapping[str, Any], cells: Mapping[str, str | Failed]) -> GridTable:
    """The table of a grid; its cells come in the order of their places, the last axis first."""
    axes = [(str(axis["title"]), [str(label) for label in axis["labels"]]) for axis in grid["axes"]]
    places = [()]
    for _, labels in axes:
        places = [(*place, i) for place in places for i in range(len(labels))]
    if len(places) != len(cells):
        raise NodeError(f"The grid has {len(places)} cells, but {len(cells)} are linked.")
    found = {place: cells[f"cell{number}"] for number, place in enumerate(places)}
    return GridTable(
        title=str(grid["title"]),
        axes=axes,
        files={place: cell for place, cell in found.items() if isinstance(cell, str)},
        faults={p: cell.message for p, cell in found.items() if isinstance(cell, Failed)},
    )


def _cell_texts(ctx: RunContext, values: str) -> dict[str, str]:
    if not ctx.saving.writes_metadata:
        return {}
    kept = {"prompt": json.dumps(_own_prompt(ctx.prompt, ctx.node_id)), "grid": values}
    texts = ctx.extra_pnginfo.get("texts")
    if texts:
        kept["texts"] = json.dumps({base_id(node): made for node, made in texts.items()})
    return kept


def _sheet_texts(ctx: RunContext, grid: Mapping[str, Any], request: str) -> dict[str, str]:
    if not ctx.saving.writes_metadata:
        return {}
    kept = {"prompt": json.dumps(grid["prompt"]), "grid": request}
    if "workflow" in ctx.extra_pnginfo:
        kept["workflow"] = json.dumps(ctx.extra_pnginfo["workflow"])
    return kept


def _own_prompt(nodes: Mapping[str, Any], node_id: str) -> dict[str, Any]:
    """The prompt of one cell: what it needs, under the ids of the base prompt, shown at its end."""
    own: dict[str, Any] = {}
    stack = [link[0] for link in _links(nodes[node_id])]
    while stack:
        before = stack.pop()
        if base_id(before) not in own:
            own[base_id(before)] = _renamed(nodes[before])
            stack += [link[0] for link in _links(nodes[before])]
    images = _renamed(nodes[node_id])["inputs"]["images"]
    return {**own, "cell": {"class_type": "PreviewImage", "inputs": {"images": images}}}


def _renamed(described: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {
        n: [base_id(v[0]), v[1]] if _is_link(v) else v for n, v in described["inputs"].items()
    }
    return {**described, "inputs": inputs}


def _links(described: Mapping[str, Any]) -> list[list[Any]]:
    return [value for value in described["inputs"].values() if _is_link(value)]


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


NODES = [grid_cell, grid_sheet]
