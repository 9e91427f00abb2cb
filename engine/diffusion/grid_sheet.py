"""The labelled sheet of a grid: columns, rows and, one below the other, blocks."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont
from torch import Tensor

from engine.diffusion.image_ops import from_pil, to_pil
from engine.text.grid_page import GridTable, Place

MAX_SIDE_PX = 12_000
_PAPER, _INK, _FAINT = (255, 255, 255), (20, 20, 24), (110, 110, 120)
_FAULT_PAPER, _FAULT_INK = (245, 235, 235), (160, 30, 30)
_NO_CELL_PX = 256  # the side of cells where none has a picture
_GAP_PX = 6
_MIN_CELL_PX = 24
_FAULT_FONT_PX = 12
_MAX_LABEL_PX = 400
_TITLE_FONT_PX = 14
_SMALL_CELL_PX = 128  # smaller pictures are enlarged to it, so that labels have room
_FEW = 400  # cells; more of them stay as small as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looks:
    """The sizes of a sheet's parts, in pixels."""

    cell: tuple[int, int]
    left: int
    top: int
    block: int
    font: "ImageFont.FreeTypeFont | ImageFont.ImageFont"


def joined(images: Tensor) -> Tensor:
    """A batch as one picture, nearly square. Shapes: (B, H, W, C) to (1, rows H, columns W, C)."""
    count, height, width, channels = images.shape
    if count == 1:
        return images
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = torch.zeros(1, rows * height, columns * width, channels)
    for index, image in enumerate(images):
        y, x = index // columns * height, index % columns * width
        sheet[0, y : y + height, x : x + width] = image
    return sheet


def side_by_side(batches: Sequence[Tensor], titles: Sequence[str]) -> Tensor:
    """Each batch as one picture under the first line of its title, from left to right.

    Shapes: (B, H, W, C) each → (1, H', W', 3).
    """
    blocks = [to_pil(joined(batch)[0]).convert("RGB") for batch in batches]
    font = ImageFont.load_default(_TITLE_FONT_PX)
    lines = [title.partition("\n")[0] for title in titles]
    widths = [
        max(block.width, math.ceil(font.getlength(line)))
        for block, line in zip(blocks, lines, strict=True)
    ]
    top = 2 * _TITLE_FONT_PX if any(lines) else _GAP_PX
    size = (
        sum(widths) + _GAP_PX * (len(blocks) + 1),
        top + max(block.height for block in blocks) + _GAP_PX,
    )
    sheet = Pictures.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    x = _GAP_PX
    for block, line, width in zip(blocks, lines, widths, strict=True):
        draw.text((x, top // 2), line, _INK, font, anchor="lm")
        sheet.paste(block, (x, top))
        x += width + _GAP_PX
    return from_pil(sheet)[None]


def draw_sheet(table: GridTable, paths: Mapping[Place, Path]) -> Pictures.Image:
    """The sheet of a grid from its cells' files; cells shrink where it would grow huge.

    A cell without a file says why.
    """
    sizes = [_size_of(path) for path in paths.values()] or [(_NO_CELL_PX, _NO_CELL_PX)]
    looks = _looks(table, (max(w for w, _ in sizes), max(h for _, h in sizes)))
    width = looks.left + len(table.labels(0)) * (looks.cell[0] + _GAP_PX)
    height = looks.block * len(table.labels(2))
    sheet = Pictures.new("RGB", (width + _GAP_PX, height + _GAP_PX), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for z in range(len(table.labels(2))):
        _draw_block(sheet, draw, table, paths, looks, z)
    return sheet


def _size_of(path: Path) -> tuple[int, int]:
    with Pictures.open(path) as picture:
        return picture.size


def _looks(table: GridTable, cell: tuple[int, int]) -> _Looks:
    columns, rows = len(table.labels(0)), len(table.labels(1)) * len(table.labels(2))
    share = min(1.0, MAX_SIDE_PX / (columns * cell[0]), MAX_SIDE_PX / (rows * cell[1]))
    if max(cell) < _SMALL_CELL_PX and columns * rows <= _FEW:
        share = math.ceil(_SMALL_CELL_PX / max(cell))
    width, height = (max(_MIN_CELL_PX, round(side * share)) for side in cell)
    size = max(12, min(40, height // 8))
    font = ImageFont.load_default(size)
    names = [*table.labels(1), table.axis_title(1)]
    widest = min(_MAX_LABEL_PX, round(max(font.getlength(name) for name in names)))
    left = widest + 3 * _GAP_PX if any(names) else 0
    longest = max(font.getlength(name) for name in table.labels(0))
    lines = 1 + (longest > width)  # labels wider than their column stand in turns on two lines
    has_block_title = len(table.axes) > 2
    top = round(size * 1.5 * (1 + lines + has_block_title)) + _GAP_PX
    block = top + len(table.labels(1)) * (height + _GAP_PX)
    return _Looks(cell=(width, height), left=max(left, _GAP_PX), top=top, block=block, font=font)


def _shortened(
    label: str, room: float, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont"
) -> str:
    """A label that fits; what is too long ends in dots."""
    if font.getlength(label) <= room:
        return label
    while label and font.getlength(label + "…") > room:
        label = label[:-1]
    return label + "…"


def _fitted(picture: Pictures.Image, width: int, height: int) -> Pictures.Image:
    """A picture as large as fits; enlarged ones keep their pixels' edges."""
    share = min(width / picture.width, height / picture.height)
    size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    way = Pictures.Resampling.NEAREST if share > 1 else Pictures.Resampling.LANCZOS
    return picture if share == 1 else picture.resize(size, way)


def _draw_block(
    sheet: Pictures.Image,
    draw: ImageDraw.ImageDraw,
    table: GridTable,
    paths: Mapping[Place, Path],
    looks: _Looks,
    z: int,
) -> None:
    (width, height), font = looks.cell, looks.font
    line = round(getattr(font, "size", 12) * 1.5)
    origin = z * looks.block
    y = origin + _GAP_PX
    if len(table.axes) > 2:
        words = f"{table.axis_title(2)} {table.labels(2)[z]}"
        draw.text((_GAP_PX, y), words, _INK, font)
        y += line
    draw.text((looks.left, y), table.axis_title(0), _FAINT, font)
    below = y + line
    is_staggered = looks.top - (below - origin) > 1.5 * line
    for x, label in enumerate(table.labels(0)):
        left = looks.left + x * (width + _GAP_PX)
        is_last = x + 1 == len(table.labels(0))
        room = width * (2 if is_staggered and not is_last else 1)
        shown = _shortened(label, room, font)
        draw.text((left, below + (x % 2) * line * is_staggered), shown, _INK, font)
    draw.text((_GAP_PX, origin + looks.top - line), table.axis_title(1), _FAINT, font)
    for row, label in enumerate(table.labels(1)):
        upper = origin + looks.top + row * (height + _GAP_PX)
        shown = _shortened(label, looks.left - 2 * _GAP_PX, font)
        draw.text((looks.left - 2 * _GAP_PX, upper + height / 2), shown, _INK, font, anchor="rm")
        for x in range(len(table.labels(0))):
            place, at = table.place(x, row, z), (looks.left + x * (width + _GAP_PX), upper)
            if place in table.faults:
                sheet.paste(_fault(table.faults[place], width, height), at)
                continue
            with Pictures.open(paths[place]) as picture:
                sheet.paste(_fitted(picture.convert("RGB"), width, height), at)


def _fault(message: str, width: int, height: int) -> Pictures.Image:
    """A cell that says why it has no picture, as far as there is room."""
    cell = Pictures.new("RGB", (width, height), _FAULT_PAPER)
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(_FAULT_FONT_PX)
    room = max(1, int(width / draw.textlength("n", font)) - 1)
    words = textwrap.wrap(f"failed: {message}", room)
    draw.multiline_text((_GAP_PX, _GAP_PX), "\n".join(words), _FAULT_INK, font)
    return cell
