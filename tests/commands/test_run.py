"""The engine in one process: `main.py run`, `validate`, and the Python API."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from engine.api.errors import EngineError, GraphInvalid, NodeError
from engine.commands import run, validate
from engine.config import ROOT, Config
from engine.diffusion.image_writing import FORMATS
from engine.local import Weft
from tests.tiny_checkpoint import write_tiny_checkpoint, write_tiny_lora


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    checkpoint = folder / "models" / "checkpoints" / "tiny.safetensors"
    checkpoint.parent.mkdir(parents=True)
    write_tiny_checkpoint(checkpoint)
    prompt = json.loads((ROOT / "engine" / "default_workflow.json").read_text(encoding="utf-8"))
    prompt["4"]["inputs"]["ckpt_name"] = "tiny.safetensors"
    prompt["3"]["inputs"]["steps"] = 2
    (folder / "workflow.json").write_text(json.dumps(prompt), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def weft(base: Path):
    with Weft(Config(base_dir=base)) as engine:
        yield engine


def test_load_set_run_gives_files_and_pictures(weft: Weft, base: Path):
    workflow = weft.load(base / "workflow.json").set("6.text", "a red circle").set("3.seed", "5")
    result = workflow.run()
    assert [f.parent for f in result.files] == [base / "output"]
    assert result.images[0].size == (64, 64)
    assert result.records["3"].state == "ran"
    assert getattr(result, "_repr_png_")().startswith(b"\x89PNG")  # noqa: B009 - as a notebook


def test_the_same_again_is_cached_and_a_change_says_why(weft: Weft, base: Path):
    workflow = weft.load(base / "workflow.json").set("3.seed", 6)
    workflow.run()
    again = workflow.run()
    assert {r.state for r in again.records.values()} == {"memory"}
    changed = workflow.set("KSampler.cfg", 3.5).run()
    assert changed.records["3"].state == "ran"
    assert "cfg" in changed.records["3"].reason


def test_a_saved_picture_loads_as_its_workflow(weft: Weft, base: Path):
    made = weft.load(base / "workflow.json").run().files[0]
    with Image.open(made) as picture:
        assert picture.info["prompt"]
    again = weft.load(made).run()
    assert {r.state for r in again.records.values()} == {"memory"}


def test_all_problems_come_at_once(weft: Weft, base: Path):
    workflow = weft.load(base / "workflow.json").set("3.steps", "many").set("5.width", 3)
    with pytest.raises(GraphInvalid) as refused:
        workflow.run()
    assert {p.input_name for p in refused.value.problems} == {"steps", "width"}


@pytest.mark.parametrize(
    ("key", "words"),
    [("6.txt", "no input txt"), ("text", "NODE.INPUT"), ("99.text", "No node is called '99'")],
)
def test_a_wrong_name_says_what_there_is(weft: Weft, base: Path, key: str, words: str):
    with pytest.raises(EngineError, match=words):
        weft.load(base / "workflow.json").set(key, "x")


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100_000])
def test_a_file_that_is_no_workflow_says_so(weft: Weft, tmp_path: Path, content: str):
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(EngineError, match=r"x\.json holds no"):
        weft.load(path)


@pytest.mark.parametrize("parts", [("a boat <lora:", "ink:1>"), ("a boat embedding:", "ink")])
def test_a_replaced_file_counts_though_a_node_makes_the_text(
    weft: Weft, base: Path, parts: tuple[str, str]
):
    """Neither part alone names the file."""
    workflow = weft.load(base / "workflow.json")
    joined = {"string_a": parts[0], "string_b": parts[1], "delimiter": ""}
    tags = {"model": ["4", 0], "clip": ["4", 1], "tagged_text": ["20", 0]}
    workflow.prompt["20"] = {"class_type": "StringConcatenate", "inputs": joined}
    workflow.prompt["21"] = {"class_type": "LoraTags", "inputs": tags}
    workflow.prompt["3"]["inputs"]["model"] = ["21", 0]
    workflow.prompt["6"]["inputs"] = {"clip": ["21", 1], "text": ["21", 2]}
    pictures: list[bytes] = []
    for seed in (1, 1, 2):
        for folder in ("loras", "embeddings"):
            path = base / "models" / folder / "ink.safetensors"
            path.parent.mkdir(exist_ok=True)
            new = path.with_suffix(".new")
            write_tiny_lora(new, seed=seed)
            if folder == "embeddings":
                vectors = torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))
                save_file({"emb_params": vectors}, new)
            new.replace(path)
        pictures.append(workflow.run().images[0].tobytes())
    assert pictures[0] == pictures[1] != pictures[2]


def flags(base: Path, *more: Any) -> list[str]:
    return [str(base / "workflow.json"), "--base-directory", str(base), *map(str, more)]


def test_run_prints_the_files(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code = run.main(flags(base, "--set", "3.seed=9", "--output", tmp_path, "--explain"))
    shown = capsys.readouterr()
    (path,) = shown.out.splitlines()
    assert code == 0
    assert Path(path).parent == tmp_path
    assert Path(path).exists()
    assert "KSampler" in shown.err


def test_run_says_what_nodes_show(base: Path, capsys: pytest.CaptureFixture[str]):
    prompt = {"1": {"class_type": "PreviewAny", "inputs": {"source": "seen"}}}
    (base / "shows.json").write_text(json.dumps(prompt), encoding="utf-8")
    assert run.main([str(base / "shows.json"), "--base-directory", str(base)]) == 0
    assert "[1] seen" in capsys.readouterr().err.splitlines()


def test_flags_say_what_a_picture_tells(base: Path, tmp_path: Path):
    run.main(flags(base, "--set", "3.seed=11", "--output", tmp_path / "a"))
    more = ("--disable-metadata", "--no-provenance", "--cache-none")
    run.main(flags(base, "--set", "3.seed=11", "--output", tmp_path / "b", *more))
    (told,), (silent,) = ((tmp_path / name).glob("*.png") for name in "ab")
    with Image.open(told) as picture:
        assert "prompt" in picture.info and b"trainedAlgorithmicMedia" in picture.info["xmp"]
    with Image.open(silent) as picture:
        assert not picture.info


def test_a_picture_of_any_format_loads_as_its_workflow(weft: Weft, base: Path):
    workflow = weft.load(base / "workflow.json")
    workflow.prompt["9"] |= {"class_type": "SavePicture"}
    for name in FORMATS:
        made = workflow.set("9.format", name).set("9.quality", 90).set("9.metadata", "workflow")
        assert weft.load(made.run().files[0]).prompt == workflow.prompt, name


def test_validate_tells_all_and_fails(base: Path, capsys: pytest.CaptureFixture[str]):
    assert validate.main(flags(base)) == 0
    broken = base / "broken.json"
    broken.write_text('{"1": {"class_type": "KSampl", "inputs": {}}}', encoding="utf-8")
    assert validate.main([str(broken), "--base-directory", str(base), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert problems[0]["code"] == "missing_node_type"
    assert "KSampler" in problems[0]["hint"]


def test_a_grid_gives_its_cells_and_its_sheet(weft: Weft, base: Path):
    grid = weft.load(base / "workflow.json").grid({"3.cfg": [2, 3], "KSampler.seed": "1-2"})
    result = grid.run()
    assert [file.suffix for file in result.files] == [".png"] * 5 + [".csv", ".html"]
    assert len([i for i in result.records if i.startswith("4")]) == 1
    with pytest.raises(GraphInvalid) as caught:
        weft.load(base / "workflow.json").grid({"3.cgf": [2], "9.images": [3]})
    assert [p.input_name for p in caught.value.problems] == ["cgf", "images"]
    with pytest.raises(EngineError, match="names no input"):
        weft.load(base / "workflow.json").grid({"cfg": [2]})


def test_a_grid_with_a_failed_cell_says_where_its_sheet_is(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (base / "models/checkpoints/broken.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(NodeError, match=r"Node 4:x1 .*broken"):
        run.main(
            flags(
                base,
                "--grid",
                "4.ckpt_name=tiny.safetensors,broken.safetensors",
                "--output",
                tmp_path,
            )
        )
    made = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.suffix for path in made] == [".png", ".png", ".csv", ".html"]
    assert all(path.is_file() for path in made)
