"""Caption files: what is edited changes, everything else stays, and nobody overwrites silently."""

import json
from pathlib import Path

import pytest

from engine.api.caption_files import (
    CaptionsChanged,
    inside,
    read_captions,
    write_captions,
)
from engine.api.errors import CorruptFile, EngineError, UnsafePath


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"")


def edit(folder: Path, **texts: str) -> dict[str, str]:
    now = read_captions(folder)
    changed = {f"{name}.png": text for name, text in texts.items()}
    return write_captions(folder, changed, now.revision).texts


def test_metadata_keeps_other_columns_and_untouched_lines_byte_for_byte(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    untouched = '{"file_name":"a.png",  "text":"ä", "n": 1.50}'
    other = {"file_name": "b.png", "text": "old", "score": 3, "tags": ["x"]}
    (tmp_path / "metadata.jsonl").write_text(f"{untouched}\n{json.dumps(other)}\n", "utf-8")
    assert edit(tmp_path, b='neu "ö"', c="see") == {
        "a.png": "ä", "b.png": 'neu "ö"', "c.png": "see"
    }  # fmt: skip
    lines = (tmp_path / "metadata.jsonl").read_text("utf-8").splitlines()
    assert lines[0] == untouched
    assert json.loads(lines[1]) == {**other, "text": 'neu "ö"'}
    assert json.loads(lines[2]) == {"file_name": "c.png", "text": "see"}
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.png", "b.png", "c.png", "metadata.jsonl"
    ]  # fmt: skip


def test_the_column_that_is_there_is_used(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"image": "a.png", "caption": "old"}\n')
    edit(tmp_path, a="new")
    row = json.loads((tmp_path / "metadata.jsonl").read_text())
    assert row == {"image": "a.png", "caption": "new"}


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_csv_keeps_other_columns_and_quotes(tmp_path: Path, delimiter: str) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    rows = ["file_name,n,text", "a.png,1,one", 'b.png,2,"two, ""2"""']
    (tmp_path / "table.csv").write_text("\n".join(rows).replace(",", delimiter))
    before = read_captions(tmp_path).texts["b.png"]
    edit(tmp_path, a="new\nline", c="three")
    found = read_captions(tmp_path)
    assert found.texts == {"a.png": "new\nline", "b.png": before, "c.png": "three"}
    assert [row.columns.get("n") for row in found.rows] == ["1", "2", ""]


def test_side_files_are_changed_where_they_are(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "a.caption").write_text("one")
    (tmp_path / "b.txt").write_text("two  \n")
    edit(tmp_path, a="new", c="three")
    assert (tmp_path / "a.caption").read_text() == "new\n"
    assert (tmp_path / "b.txt").read_text() == "two  \n"
    assert (tmp_path / "c.txt").read_text() == "three\n"
    assert not (tmp_path / "a.txt").exists()


def test_the_first_captions_go_into_metadata(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    assert read_captions(tmp_path).kind == "none"
    edit(tmp_path, b="bee")
    assert (tmp_path / "metadata.jsonl").read_text() == '{"file_name": "b.png", "text": "bee"}\n'


@pytest.mark.parametrize("layout", ["none", "metadata.jsonl", "a.txt"])
def test_two_windows_do_not_overwrite_each_other(tmp_path: Path, layout: str) -> None:
    pictures(tmp_path, "a.png")
    if layout != "none":
        text = '{"file_name": "a.png", "text": "x"}' if "json" in layout else "x"
        (tmp_path / layout).write_text(text)
    seen = read_captions(tmp_path).revision
    write_captions(tmp_path, {"a.png": "first"}, seen)
    with pytest.raises(CaptionsChanged):
        write_captions(tmp_path, {"a.png": "second"}, seen)
    assert read_captions(tmp_path).texts == {"a.png": "first"}


def test_unknown_pictures_and_broken_tables_change_nothing(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    revision = read_captions(tmp_path).revision
    with pytest.raises(EngineError, match=r"x\.png"):
        write_captions(tmp_path, {"x.png": "new"}, revision)
    (tmp_path / "metadata.jsonl").write_text('{"text": "no name"}\n')
    with pytest.raises(CorruptFile, match="line 1 names no file"):
        read_captions(tmp_path)
    (tmp_path / "metadata.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(CorruptFile, match="UTF-8"):
        read_captions(tmp_path)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "C:\\a", "..\\a", ""])
def test_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafePath):
        inside(tmp_path, name)
