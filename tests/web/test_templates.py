"""Every template of the gallery runs on the built-in model and has its picture."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.config import ROOT
from tests.e2e.server_process import ServerProcess

FOLDER = ROOT / "web" / "templates"
TEMPLATES: list[dict[str, Any]] = json.loads((FOLDER / "list.json").read_text())

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    base: Path = tmp_path_factory.mktemp("templates")
    with ServerProcess(base) as process:
        yield process


FEW = {"steps": 2, "count": 4, "batch_size": 4}


def short(prompt: dict[str, Any]) -> dict[str, Any]:
    """The prompt with little work: a grid has many cells, and a training takes minutes."""
    for node in prompt.values():
        inputs = node["inputs"]
        if "start_at_step" in inputs:
            continue  # a part of the steps
        inputs |= {name: min(most, inputs[name]) for name, most in FEW.items() if name in inputs}
    return prompt


def first_two(axis: dict[str, Any]) -> dict[str, Any]:
    return {**axis, "values": ", ".join(axis["values"].split(", ")[:2])}


def test_each_workflow_is_listed_once() -> None:
    files = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "list")
    assert sorted(template["id"] for template in TEMPLATES) == files


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t["id"])
def test_it_runs(server: ServerProcess, template: dict[str, Any]) -> None:
    inputs = server.base / "input"
    inputs.mkdir(exist_ok=True)
    for name in template.get("inputs", ()):
        (inputs / name).write_bytes((FOLDER / name).read_bytes())
    prompt = json.loads((FOLDER / f"{template['id']}.json").read_text())
    if "grid" in template:
        body = {"prompt": short(prompt), "axes": [first_two(axis) for axis in template["grid"]]}
        assert server.post("/weft/grid", {**body, "axes": template["grid"], "dry_run": True})[
            "count"
        ]
        entry = server.wait_for(server.post("/weft/grid", body)["prompt_id"])
        assert entry["outputs"]["grid"]["files"]
    else:
        entry = server.run(short(prompt), strict=True)
    assert entry["status"]["status_str"] == "success", entry["status"]
    assert any(shown.get("images") for shown in entry["outputs"].values())
    assert (FOLDER / f"{template['id']}.webp").is_file()
