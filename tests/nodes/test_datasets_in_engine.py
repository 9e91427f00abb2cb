"""Dataset nodes in a real run: cached by the folder's content, captions through a list of texts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.config import Config
from engine.local import Weft
from tests.diffusion.training.data.pictures import put

LOAD = {
    "class_type": "LoadDataset",
    "inputs": {
        "folder": "cats",
        "layout": "automatic",
        "class_caption": "",
        "grey_range": "automatic",
    },
}


@pytest.fixture
def weft(tmp_path: Path) -> Iterator[Weft]:
    folder = tmp_path / "input" / "datasets" / "cats"
    for number in range(3):
        put(folder, f"{number}.png", number)
        (folder / f"{number}.txt").write_text(f"cat {number}")
    with Weft(Config(base_dir=tmp_path)) as engine:
        yield engine


def run(weft: Weft, base: Path, prompt: dict[str, Any]) -> Any:
    (base / "prompt.json").write_text(json.dumps(prompt))
    return weft.load(base / "prompt.json").run()


def test_a_changed_caption_runs_again_and_a_touched_file_does_not(
    weft: Weft, tmp_path: Path
) -> None:
    prompt = {
        "1": LOAD,
        "2": {
            "class_type": "DatasetReport",
            "inputs": {"dataset": ["1", 0], "size": 48, "is_subject": True},
        },
    }
    first = run(weft, tmp_path, prompt)
    assert "3 pictures, 3 with a caption" in first.outputs["2"]["text"][0]
    (tmp_path / "input" / "datasets" / "cats" / "0.png").touch()
    again = run(weft, tmp_path, prompt)
    assert {record.state for record in again.records.values()} == {"memory"}
    (tmp_path / "input" / "datasets" / "cats" / "0.txt").write_text("")
    changed = run(weft, tmp_path, prompt)
    assert "2 with a caption" in changed.outputs["2"]["text"][0]
    assert "folder changed" in changed.records["1"].reason


def test_captions_of_other_nodes_come_back_as_a_list(weft: Weft, tmp_path: Path) -> None:
    prompt = {
        "1": LOAD,
        "2": {"class_type": "DatasetToImages", "inputs": {"dataset": ["1", 0]}},
        "3": {
            "class_type": "StringConcatenate",  # called once for each caption
            "inputs": {"string_a": ["2", 1], "string_b": "in oil", "delimiter": ", "},
        },
        "4": {"class_type": "SetCaptions", "inputs": {"dataset": ["1", 0], "texts": ["3", 0]}},
        "5": {"class_type": "DatasetToImages", "inputs": {"dataset": ["4", 0]}},
        "6": {"class_type": "PreviewAny", "inputs": {"source": ["5", 1]}},
    }
    shown = run(weft, tmp_path, prompt).outputs["6"]["text"]
    assert list(shown) == ["cat 0, in oil", "cat 1, in oil", "cat 2, in oil"]
