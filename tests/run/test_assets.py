"""Saved files: customary names, retries, marks, atomic writes, errors."""

import errno
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from engine.api.errors import Cancelled, MissingModel, StorageError, UnsafePath
from engine.run.assets import Assets, filled_prefix
from engine.run.digests import Digests
from engine.run.folders import make_folders

PROMPT = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 42, "model": ["4", 0]}},
    "6": {
        "class_type": "CLIPTextEncode", "inputs": {"text": "a/b: c"}, "_meta": {"title": "My Text"}
    },
}  # fmt: skip


def made(folder: Path) -> Assets:
    state = folder / "user" / "weft"
    return Assets(
        make_folders(base=folder, models=folder / "models"),
        Digests(state / "digests.sqlite"),
        state / "assets.sqlite",
    )


@pytest.fixture
def assets(tmp_path: Path) -> Iterator[Assets]:
    """The files of an empty installation."""
    found = made(tmp_path)
    yield found
    found.close()


def save(
    assets: Assets,
    prefix: str = "pic",
    *,
    job: str = "job",
    node: str = "9",
    call: int = 0,
    index: int = 0,
    data: bytes = b"data",
    folder: str = "output",
) -> dict[str, str]:
    def write(file: BinaryIO) -> None:
        file.write(data)

    view = assets.view(job, node, call, lambda: PROMPT)
    return view.save(
        write, prefix=prefix, extension="png", folder=folder, index=index, size_px=(64, 32)
    )


def test_names_count_on_and_a_retry_gets_the_same(assets: Assets, tmp_path: Path):
    first = save(assets, index=0)
    assert first == {"filename": "pic_00001_.png", "subfolder": "", "type": "output"}
    assert save(assets, index=1)["filename"] == "pic_00002_.png"
    assert save(assets, call=1)["filename"] == "pic_00003_.png"
    assert save(assets, node="10")["filename"] == "pic_00004_.png"
    assert save(assets, index=1, data=b"again")["filename"] == "pic_00002_.png"
    assert (tmp_path / "output" / "pic_00002_.png").read_bytes() == b"again"
    assert save(assets, job="next")["filename"] == "pic_00005_.png"
    assert sorted(p.name for p in (tmp_path / "output").iterdir()) == [
        f"pic_{i:05}_.png" for i in range(1, 6)
    ]


def test_counting_goes_on_after_what_is_there_and_after_a_restart(tmp_path: Path):
    (tmp_path / "output" / "sub").mkdir(parents=True)
    for name in ("pic_00007_.png", "pic_00009_.jpg", "picture_00050_.png", "pic_x.png"):
        (tmp_path / "output" / "sub" / name).touch()
    assets = made(tmp_path)
    assert save(assets, "sub/pic")["filename"] == "pic_00010_.png"
    assert save(assets, "sub/pic")["subfolder"] == "sub"
    assert save(assets, "pic", node="1")["filename"] == "pic_00001_.png"
    assets.close()
    assets = made(tmp_path)
    assert save(assets, "sub/pic")["filename"] == "pic_00010_.png"  # still the same job
    assert save(assets, "sub/pic", job="b")["filename"] == "pic_00011_.png"
    (tmp_path / "output" / "sub" / "pic_00012_.png").touch()  # somebody else's
    assert save(assets, "sub/pic", job="c")["filename"] == "pic_00013_.png"
    assets.close()


def test_retry_keeps_its_name_when_the_time_in_it_went_on(assets: Assets):
    bound_to = ("job", "9", "0.0")
    assert assets.reserve("output", "at 07/x", "png", bound_to) == ("at 07/x", 1)
    assert assets.reserve("output", "at 08/x", "png", bound_to) == ("at 07/x", 1)
    assert assets.reserve("output", "", "png", ("job", "9", "0.1")) == ("", 1)


def test_lost_or_damaged_counters_overwrite_nothing(tmp_path: Path):
    for damage in (None, b"garbage" * 999):
        assets = made(tmp_path)
        save(assets, job=f"before {damage}", data=b"old")
        assets.close()
        database = tmp_path / "user" / "weft" / "assets.sqlite"
        if damage is None:
            database.unlink()
        else:
            database.write_bytes(damage)
        count = len(list((tmp_path / "output").iterdir()))
        assets = made(tmp_path)
        save(assets, job=f"after {damage}")
        assets.close()
        assert len(list((tmp_path / "output").iterdir())) == count + 1


def test_marks_are_filled():
    now = datetime(2026, 3, 4, 5, 6, 7)

    def filled(prefix: str) -> str:
        return filled_prefix(prefix, lambda: PROMPT, (64, 32), now)

    assert filled("%date:yyyy-MM-dd%/%date:hhmmss%_x") == "2026-03-04/050607_x"
    assert filled("%year%%month%%day%-%hour%%minute%%second%") == "20260304-050607"
    assert filled("%width%x%height%") == "64x32"
    assert filled("%KSampler.seed%_%My Text.text%_%3.seed%") == "42_a_b_ c_42"
    assert filled("100% %unknown% %KSampler.model% %Gone.x%") == (
        "100% %unknown% %KSampler.model% %Gone.x%"
    )
    assert filled("%date:../../x%") == "..-..-x"


@pytest.mark.parametrize("prefix", ["../x", "/abs/x", "a/../../x", "C:\\x", "a\0b", "sub/../../x"])
def test_prefix_cannot_leave(assets: Assets, tmp_path: Path, prefix: str):
    with pytest.raises(UnsafePath):
        save(assets, prefix)
    assert not list(tmp_path.rglob("*.png"))


def test_values_in_marks_cannot_leave(assets: Assets):
    view = assets.view("j", "1", 0, lambda: {"5": {"class_type": "N", "inputs": {"t": "../../x"}}})
    saved = view.save(lambda f: None, prefix="%N.t%", extension="png")
    assert saved["subfolder"] == ""
    assert saved["filename"] == ".._.._x_00001_.png"


@pytest.mark.parametrize(
    ("code", "says"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission denied"), (errno.EIO, "written")],
)
def test_failed_write_is_told_and_leaves_nothing(
    assets: Assets, tmp_path: Path, code: int, says: str
):
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(code, "x")

    view = assets.view("j", "1", 0, dict)
    with pytest.raises(StorageError, match=says) as caught:
        view.save(write, prefix="pic", extension="png")
    assert caught.value.hint
    assert list((tmp_path / "output").iterdir()) == []


def test_node_error_while_writing_leaves_nothing(assets: Assets, tmp_path: Path):
    def write(_file: BinaryIO) -> None:
        raise ValueError("bad picture")

    with pytest.raises(ValueError, match="bad picture"):
        assets.view("j", "1", 0, dict).save(write, prefix="pic", extension="png")
    assert list((tmp_path / "output").iterdir()) == []


def test_annotated_names(assets: Assets, tmp_path: Path):
    for place in ("input", "output", "temp"):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / f"{place}.png").write_bytes(place.encode())
    view = assets.view("j", "1", 0, dict)
    assert view.resolve("input", "input.png").parent.name == "input"
    assert view.resolve("input", "output.png [output]").parent.name == "output"
    assert view.resolve("input", "temp.png [temp]").parent.name == "temp"
    with pytest.raises(MissingModel):
        view.resolve("input", "output.png")
    with pytest.raises(UnsafePath):
        view.resolve("input", "../output/output.png [output]")
    with pytest.raises(MissingModel):
        view.resolve("checkpoints", "output.png [output]")
    assert len(view.digest(tmp_path / "input" / "input.png")) == 64
    assert assets.file_digest("input", "temp.png [temp]") == view.digest(
        tmp_path / "temp" / "temp.png"
    )


def test_shown_files_are_looked_for(assets: Assets, tmp_path: Path):
    shown = save(assets, "sub/pic")
    assert assets.is_there(shown)
    (tmp_path / "output" / "sub" / shown["filename"]).unlink()
    assert not assets.is_there(shown)
    assert not assets.is_there({"filename": "../x", "subfolder": "", "type": "output"})
    assert not assets.is_there({"filename": "x", "type": "elsewhere"})


def test_saving_costs_the_same_in_a_full_folder(tmp_path: Path):
    def seconds(folder: Path) -> float:
        assets = made(folder)
        save(assets, job="first")
        begin = time.perf_counter()
        for i in range(20):
            save(assets, index=i + 1)
        assets.close()
        return time.perf_counter() - begin

    empty, full = tmp_path / "empty", tmp_path / "full"
    (full / "output").mkdir(parents=True)
    for i in range(3000):
        (full / "output" / f"pic_{i:05}_.png").touch()
    assert seconds(full) < 3 * seconds(empty) + 0.05


def test_reading_ahead_knows_the_models(assets: Assets, tmp_path: Path):
    files = [tmp_path / "models" / "vae" / f"{i}.safetensors" for i in range(3)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    told: list[tuple[str, float]] = []
    assets.read_ahead(lambda path, share: told.append((path, share)))
    deadline = time.monotonic() + 5
    while not all(assets.digests.known(f) for f in files) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert all(assets.digests.known(f) for f in files)
    assert told == [(str(file), 1.0) for file in files]


def test_waiting_for_a_digest_can_be_cancelled(assets: Assets, tmp_path: Path):
    file = tmp_path / "models" / "vae" / "x.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")

    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        assets.file_digest("vae", "x.safetensors", check)
