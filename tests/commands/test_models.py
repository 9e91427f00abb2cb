"""`models` as a new user: scan, add, list, remove, verify."""

import json
from pathlib import Path

import pytest
from PIL import Image

from engine.api.errors import EngineError, MissingModel
from engine.commands import models
from engine.commands.verify_report import Outcome, Report, write_report
from tests.run.model_trees import put, put_hub


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    put(home / "ComfyUI/models/checkpoints/dream.safetensors")
    put(home / "ComfyUI/models/loras/ink.safetensors", "loras")
    known = "e9476a13728cd75d8279f6ec8bad753a66a1957ca375a1464dc63b37db6e3916"
    put_hub(home / ".cache/huggingface/hub", "me/mine", "renamed.safetensors", known)
    return home


def call(tmp_path: Path, *words: str) -> int:
    return models.main([*words, "--base-directory", str(tmp_path / "weft")])


def test_from_scan_to_use_and_back(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in home.rglob("*")}
    assert call(tmp_path, "scan") == 0
    shown = capsys.readouterr()
    assert "ComfyUI: " in shown.out and "1 checkpoints, 1 loras" in shown.out
    assert f"models add {home / 'ComfyUI'}" in shown.err
    assert call(tmp_path, "add", str(home / "ComfyUI")) == 0
    assert call(tmp_path, "scan", "--add") == 0
    capsys.readouterr()
    assert call(tmp_path, "--json") == 0
    files = {f["name"]: f for f in json.loads(capsys.readouterr().out)}
    assert files["dream.safetensors"]["source"] == "ComfyUI"
    hub = files["me/mine/renamed.safetensors"]
    assert hub["source"] == "Hugging Face cache"
    assert hub["published_as"] == "v1-5-pruned-emaonly-fp16.safetensors"
    assert call(tmp_path, "remove", str(home / "ComfyUI")) == 0
    capsys.readouterr()
    assert call(tmp_path) == 0
    listed = capsys.readouterr().out
    assert "dream" not in listed and "is v1-5-pruned-emaonly-fp16.safetensors" in listed
    assert {p: p.stat().st_mtime_ns for p in home.rglob("*")} == before


def test_a_folder_that_went_away_is_named(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(tmp_path, "add", str(home / "ComfyUI"))
    (home / "ComfyUI").rename(home / "Elsewhere")
    assert call(tmp_path) == 0
    assert f"Not there now: {home / 'ComfyUI'}" in capsys.readouterr().out


def test_what_cannot_be_added_is_told(home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "weft/models/checkpoints").mkdir(parents=True)
    for folder, words in {
        "not there": "not there",
        "empty": "no model files",
        "weft": "Weft's own folder",
        "weft/models": "Weft's own folder",
        "home/ComfyUI/models/loras/ink.safetensors": "is a file",
    }.items():
        with pytest.raises(EngineError, match=words):
            call(tmp_path, "add", str(tmp_path / folder))
    with pytest.raises(EngineError, match="was not added"):
        call(tmp_path, "remove", str(home))


def test_verify_writes_its_report_on_the_builtin_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("verify", "weft-builtin", "--steps", "2", "--pndm-steps", "3")
    assert call(tmp_path, *words) == 0
    place = tmp_path / "weft/output/verify/weft-builtin"
    report = json.loads((place / "report.json").read_text())
    assert (report["family"], report["size_px"]) == ("sd1", 64)
    outcomes = {o["name"]: o for o in report["outcomes"]}
    assert len(outcomes) == 12 and not any(o["problem"] for o in outcomes.values())
    first = outcomes["seed-2551426893-cfg-7"]["pixels_sha256"]
    assert outcomes["again"]["pixels_sha256"] == first
    assert len({o["pixels_sha256"] for o in outcomes.values()}) == 11
    for outcome in outcomes.values():
        with Image.open(place / outcome["picture"]) as picture:
            assert picture.size == (64, 64)
        assert outcome["seconds"]["KSampler"] > 0
    assert "2551426893" in (place / "report.html").read_text()
    assert str(place / "report.html") in capsys.readouterr().out


def test_verify_tells_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match="no file 'nope'"):
        call(tmp_path, "verify", "nope")
    with pytest.raises(MissingModel) as missing:
        call(tmp_path, "verify", "sd15")
    assert missing.value.hint == "python3 main.py models get sd15"
    with pytest.raises(MissingModel, match="no file 'x' in loras"):
        call(tmp_path, "verify", "weft-builtin", "--lora", "x")


def test_the_next_run_says_what_stayed_the_same(tmp_path: Path) -> None:
    def run(digests: dict[str, str]) -> str:
        outcomes = [
            Outcome(name=title, title=title, picture="a.png", pixels_sha256=digest)
            for title, digest in digests.items()
        ]
        report = Report(
            checkpoint="<a>", published_as="", sha256="", family="sd1", size_px=64, prompt="",
            machine={}, outcomes=outcomes,
        )  # fmt: skip
        return write_report(report, tmp_path).read_text()

    assert "in the run before" not in run({"one": "1", "two": "2"})
    page = run({"one": "1", "two": "changed", "three": "3"})
    assert page.count("the same as in the run before") == 1
    assert page.count("not as in the run before") == 1
    assert "<a>" not in page


def test_a_flat_picture_is_a_problem(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "grey").save(tmp_path / "flat.png")
    outcome = Outcome.of_picture(
        name="a", title="A", picture=tmp_path / "flat.png", place=tmp_path, seconds={}
    )
    assert outcome.problem == "the picture is all one colour"
