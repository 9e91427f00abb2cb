"""Pictures that the nodes save, dropped back: read by the editor's own importer, in Node.js."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.config import ROOT
from engine.diffusion.image_writing import FORMATS
from nodes.animation import save_animated_png, save_animated_webp
from nodes.image_files import save_picture
from tests.nodes.context import Context, context
from tests.nodes.test_save_picture import GRAPH, WORKFLOW

pytestmark = pytest.mark.node

READ = """
import { readFileSync } from "node:fs";
import { readParameters } from "ROOT/web/import/parameters.js";
import { readPictureTexts } from "ROOT/web/import/picture.js";
import { translateSampler } from "ROOT/web/import/samplers.js";
const found = {};
for (const path of process.argv.slice(2)) {
  const texts = await readPictureTexts(Uint8Array.from(readFileSync(path)).buffer);
  const parameters = readParameters(texts);
  const known = { samplers: SAMPLERS, schedules: SCHEDULES };
  const names = parameters && translateSampler(parameters.sampler, parameters.schedule, known);
  found[path] = { texts, parameters, names };
}
process.stdout.write(JSON.stringify(found, (_, v) => (typeof v === "bigint" ? String(v) : v)));
"""


def read_by_the_editor(tmp_path: Path, *paths: Path) -> list[dict[str, Any]]:
    from engine.diffusion.samplers import SAMPLER_NAMES
    from engine.diffusion.schedules import SCHEDULE_NAMES

    script = READ.replace("ROOT", ROOT.as_uri())
    script = script.replace("SAMPLERS", json.dumps([*SAMPLER_NAMES]))
    script = script.replace("SCHEDULES", json.dumps([*SCHEDULE_NAMES]))
    (tmp_path / "read.mjs").write_text(script, encoding="utf-8")
    command = ["node", str(tmp_path / "read.mjs"), *map(str, paths)]
    result = subprocess.run(command, capture_output=True, check=True, timeout=60)
    found = json.loads(result.stdout)
    return [found[str(path)] for path in paths]


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return context(tmp_path, prompt=GRAPH, extra_pnginfo={"workflow": WORKFLOW}, node_id="9")


def files(ctx: Context, shown: Any) -> list[Path]:
    return [ctx.files.base / "output" / image["filename"] for image in shown.ui["images"]]


def test_a_workflow_comes_back_from_every_format(ctx: Context, tmp_path: Path) -> None:
    picture = torch.rand(1, 16, 24, 3)
    paths = [
        path
        for name in FORMATS
        for path in files(ctx, save_picture(picture, name[:4], name, 90, "workflow", ctx))
    ]
    paths += files(ctx, save_animated_webp(picture, "w", 6, True, 80, "default", ctx))
    paths += files(ctx, save_animated_png(picture, "p", 6, 4, ctx))
    for path, found in zip(paths, read_by_the_editor(tmp_path, *paths), strict=True):
        texts = found["texts"].values()
        bodies = [t.removeprefix("prompt:").removeprefix("workflow:") for t in texts]
        assert json.dumps(GRAPH) in bodies and json.dumps(WORKFLOW) in bodies, path.name


def test_parameters_come_back_from_every_format(ctx: Context, tmp_path: Path) -> None:
    picture = torch.rand(1, 16, 24, 3)
    paths = [
        path
        for name in FORMATS
        for path in files(ctx, save_picture(picture, name[:4], name, 90, "parameters", ctx))
    ]
    for path, found in zip(paths, read_by_the_editor(tmp_path, *paths), strict=True):
        assert not {"prompt", "workflow", "Model", "Make"} & set(found["texts"]), path.name
        read = found["parameters"]
        assert (read["program"], read["prompt"], read["negative"]) == ("A1111", "a cät", "")
        assert (read["steps"], read["cfg"], read["seed"]) == (20, 7.5, 7)
        assert (read["width"], read["height"], read["denoise"]) == (24, 16, None)
        assert read["model"]["name"] == "a"
        assert found["names"] == {"sampler": "euler_ancestral", "schedule": "karras", "notes": []}


def test_every_sampler_and_schedule_comes_back_by_its_name(ctx: Context, tmp_path: Path) -> None:
    from engine.diffusion.samplers import SAMPLER_NAMES
    from engine.diffusion.schedules import SCHEDULE_NAMES

    wanted = [(name, "simple") for name in SAMPLER_NAMES]
    wanted += [("euler", name) for name in SCHEDULE_NAMES]
    paths = list[Path]()
    for sampler, schedule in wanted:
        ctx.prompt = json.loads(json.dumps(GRAPH))
        ctx.prompt["5"]["inputs"] |= {"sampler_name": sampler, "scheduler": schedule}
        paths += files(ctx, save_picture(torch.rand(1, 8, 8, 3), "s", "PNG", 90, "parameters", ctx))
    found = read_by_the_editor(tmp_path, *paths)
    names = [(one["names"]["sampler"], one["names"]["schedule"]) for one in found]
    assert names == wanted
