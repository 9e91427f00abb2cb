"""A grid on real nodes: a cell that fails leaves the others and the sheet."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from engine.api.errors import NodeError
from engine.config import Config
from engine.local import Weft

PROMPT = {
    "1": {"class_type": "MathInt", "inputs": {"a": 64, "b": 1, "operation": "divide"}},
    "2": {
        "class_type": "EmptyImage",
        "inputs": {"width": ["1", 0], "height": 32, "batch_size": 1, "color": 255},
    },
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
}


def test_a_failed_cell_says_so_on_the_sheet(tmp_path: Path) -> None:
    output = tmp_path / "output/grids"
    with Weft(Config(base_dir=tmp_path, load_packs=False)) as weft:
        grid = weft.load(PROMPT).grid({"1.b": [1, 0, 2]})
        for sheets in (1, 2):  # a sheet with a hole is not kept for the next time
            with pytest.raises(NodeError, match=r"1:x1 \(MathInt\): 64 divide 0 has no result"):
                grid.run()
            assert len(list(output.glob("*sheet*"))) == sheets
        assert len(list(output.glob("grid_0*"))) == 2
        whole = weft.load(PROMPT).grid({"1.b": [1, 2]}).run()
    assert len(list(output.glob("*sheet*"))) == 3
    assert "failed" not in Path(whole.files[-1]).read_text()
    rows = list(csv.reader((output / "grid_table_00001_.csv").read_text().splitlines()))
    assert rows[0][-2:] == ["file", "problem"]
    assert [bool(row[-1]) for row in rows[1:]] == [False, True, False]
    assert "64 divide 0" in rows[2][-1] and rows[2][-2] == ""
    with Image.open(output / "grid_sheet_00001_.png") as sheet:
        assert sheet.width > 3 * 64
