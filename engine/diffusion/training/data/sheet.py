"""A contact sheet of a dataset: pictures as training will see them, each with its caption."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from engine.diffusion.training.data.dataset import Dataset, Example
from engine.diffusion.training.data.pictures import read_rgb

_GAP_PX = 8
_FONT_PX = 13
_LINES = 4
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
_PAPER, _INK, _PALE = "#f4f2ee", "#1d1d1f", "#8a8a8e"


def contact_sheet(dataset: Dataset, *, count: int, columns: int, cell_px: int) -> Tensor:
    """The first `count` pictures with their captions. Shapes: (1, H, W, 3) float32 0..1.

    Raises: CorruptFile when a picture is gone.
    """
    examples = dataset.examples[:count]
    font = ImageFont.load_default(_FONT_PX)
    columns = max(1, min(columns, len(examples)))
    rows = -(-max(1, len(examples)) // columns)
    line_px = _FONT_PX + 4
    height = cell_px + _LINES * line_px + 2 * _GAP_PX
    size = (columns * (cell_px + _GAP_PX) + _GAP_PX, rows * height + _GAP_PX)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, example in enumerate(examples):
        x = _GAP_PX + index % columns * (cell_px + _GAP_PX)
        y = _GAP_PX + index // columns * height
        picture = _fitted(example, cell_px)
        sheet.paste(picture, (x + (cell_px - picture.width) // 2, y + cell_px - picture.height))
        for number, line in enumerate(_lines(example, font, cell_px)):
            ink = _INK if example.text else _PALE
            draw.text((x, y + cell_px + 4 + number * line_px), line, fill=ink, font=font)
    return torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255.0)[None]


def _fitted(example: Example, cell_px: int) -> Image.Image:
    picture = read_rgb(example.path, example.grey_range)
    scale = cell_px / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    method = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    return picture.resize(size, method)


def _lines(example: Example, font: Font, width_px: int) -> Sequence[str]:
    """A caption in lines that fit; the last one tells by an ellipsis that there is more."""
    text = " ".join((example.text or "no caption").split())
    text = f"[class] {text}" if example.is_class else text
    lines = _wrapped(text, lambda part: font.getlength(part) <= width_px)
    if len(lines) > _LINES:
        last = lines[_LINES - 1]
        while last and font.getlength(f"{last}…") > width_px:
            last = last[:-1]
        lines = [*lines[: _LINES - 1], f"{last}…"]
    return lines


def _wrapped(text: str, does_fit: Callable[[str], bool]) -> list[str]:
    """A text in lines that fit; a word that is too long alone is cut."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if does_fit(f"{line} {word}".strip()):
            line = f"{line} {word}".strip()
            continue
        lines += [line] if line else []
        while not does_fit(word) and len(word) > 1:
            end = next(n for n in range(len(word) - 1, 0, -1) if does_fit(word[:n]) or n == 1)
            lines.append(word[:end])
            word = word[end:]
        line = word
    return [*lines, line]
