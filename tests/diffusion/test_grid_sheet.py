"""The labelled sheet of a grid: every cell in its place, whatever the sizes."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

from engine.diffusion.grid_sheet import MAX_SIDE_PX, draw_sheet, joined, side_by_side
from engine.text.grid_page import GridTable, csv_table, html_page


def table_in(
    folder: Path, shape: tuple[int, ...], size: tuple[int, int]
) -> tuple[GridTable, dict[tuple[int, ...], Path]]:
    """A grid whose cells' colours tell their places."""
    files: dict[tuple[int, ...], str] = {}
    for place in product(*map(range, shape)):
        x, y, z = (*place, 0, 0)[:3]
        name = f"cell{'_'.join(map(str, place))}.png"
        Image.new("RGB", size, (50 + 40 * x, 50 + 40 * y, 50 + 40 * z)).save(folder / name)
        files[place] = name
    axes = [(f"axis {i}", [f"value {n}" for n in range(count)]) for i, count in enumerate(shape)]
    table = GridTable(title="t", axes=axes, files=files)
    return table, {place: folder / name for place, name in files.items()}


@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 3, 2)])
@pytest.mark.parametrize("size", [(40, 30), (300, 200)])
def test_each_cell_stands_in_its_place(
    tmp_path: Path, shape: tuple[int, ...], size: tuple[int, int]
):
    sheet = draw_sheet(*table_in(tmp_path, shape, size))
    pixels = [(x, y, sheet.getpixel((x, y))) for x in range(0, sheet.width, 4)
              for y in range(0, sheet.height, 4)]  # fmt: skip
    middles = {}
    for place in product(*map(range, shape)):
        x, y, z = (*place, 0, 0)[:3]
        colour = (50 + 40 * x, 50 + 40 * y, 50 + 40 * z)
        at = [(px, py) for px, py, found in pixels if found == colour]
        assert at, f"{place} is not on the sheet"
        middles[place] = (sum(p[0] for p in at) / len(at), sum(p[1] for p in at) / len(at))
    assert middles[(1, *[0] * (len(shape) - 1))][0] > middles[(0,) * len(shape)][0]
    for axis in range(1, len(shape)):
        place = tuple(int(i == axis) for i in range(len(shape)))
        assert middles[place][1] > middles[(0,) * len(shape)][1]


def test_a_cell_without_a_picture_says_why(tmp_path: Path) -> None:
    table, paths = table_in(tmp_path, (2, 2), (80, 60))
    whole = draw_sheet(table, paths)
    del paths[(1, 0)]
    files = {place: name for place, name in table.files.items() if place in paths}
    table = replace(table, files=files, faults={(1, 0): "7 div 0 has <no> result, says, it"})
    sheet = draw_sheet(table, paths)
    assert sheet.size == whole.size
    changed = ImageChops.difference(sheet, whole).getbbox()
    assert changed is not None
    left, _, _, bottom = changed
    assert left >= whole.width / 2 - 20 and bottom <= whole.height / 2 + 30
    line = 'value 1,value 0,,"7 div 0 has <no> result, says, it"'
    assert line in csv_table(table).splitlines()
    assert "failed: 7 div 0 has &lt;no&gt; result" in html_page(table)
    nothing = replace(table, files={}, faults=dict.fromkeys([*files, (1, 0)], "no"))
    assert draw_sheet(nothing, {}).width > 256


def test_a_huge_grid_stays_a_picture_that_can_be_opened(tmp_path: Path):
    _, paths = table_in(tmp_path, (1,), (2000, 40))
    many = GridTable(
        title="t",
        axes=[("a", [str(i) for i in range(20)])],
        files={(i,): "cell0.png" for i in range(20)},
    )
    sheet = draw_sheet(many, dict.fromkeys(many.files, paths[(0,)]))
    assert sheet.width < MAX_SIDE_PX * 1.2


def test_batches_become_one_picture():
    images = torch.arange(3).view(3, 1, 1, 1).expand(3, 2, 2, 3).float()
    assert joined(images).shape == (1, 4, 4, 3)
    assert joined(images)[0, ::2, ::2, 0].tolist() == [[0, 1], [2, 0]]
    assert joined(images[:1]).shape == (1, 2, 2, 3)


def test_batches_stand_side_by_side_each_under_its_title():
    black, grey = torch.zeros(4, 40, 40, 3), torch.full((1, 40, 40, 1), 0.5)
    plain = side_by_side([black, grey], ["", ""])[0]
    assert plain.shape == (80 + 12, 80 + 40 + 18, 3)
    assert float(plain[6:86, 6:86].max()) == 0
    assert plain[6:46, 92:132].unique().tolist() == pytest.approx([127 / 255])
    assert float(plain[46:86, 92:].min()) == 1  # the smaller one stands at the top
    titled = side_by_side([black, grey], ["DreamBooth: 94% of 16 as demanded\nlump", "b"])[0]
    wider = titled.shape[1] - plain.shape[1]
    assert wider > 80  # the first line has room, the second is not there
    top = titled.shape[0] - plain.shape[0] + 6
    assert float(titled[:top, : 80 + wider].min()) < 0.2
    assert torch.equal(titled[top:, -52:-6], plain[6:, -52:-6])


def test_page_and_table_escape_what_they_show():
    table = GridTable(
        title="<b>", axes=[('"x"', ["<i>", "a,b"])], files={(0,): "a b.png", (1,): "c&d.png"}
    )
    page = html_page(table)
    assert "<b>" not in page
    assert "<i>" not in page
    assert 'href="a%20b.png"' in page
    assert 'href="c%26d.png"' in page
    assert csv_table(table) == '"""x""",file\n<i>,a b.png\n"a,b",c&d.png\n'
