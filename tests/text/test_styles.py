"""Styles: CSV files of named prompts."""

from pathlib import Path

import pytest

from engine.text.styles import Style, StylesFault, chosen, read_all, read_styles, with_styles

CSV = """\ufeffname,prompt,negative_prompt
photo,"photo of {prompt}, 35mm","drawing, {prompt}"
ink,"ink on paper",colour
"Old, worn","a worn {prompt}",
,nothing,
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "styles.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


def test_the_prompt_takes_the_place_of_its_mark_or_stands_before(file: Path):
    styles = read_styles(file)
    assert list(styles) == ["photo", "ink", "Old, worn"]
    assert with_styles("a boat", "blur", [styles["photo"]]) == (
        "photo of a boat, 35mm",
        "drawing, blur",
    )
    assert with_styles("a boat,", "", [styles["ink"]]) == ("a boat, ink on paper", "colour")
    both = chosen("photo, ink", styles)
    assert with_styles("a boat", "", both)[0] == "photo of a boat, 35mm, ink on paper"


def test_names_stand_in_lines_or_between_commas(file: Path):
    styles = read_styles(file)
    assert [s.name for s in chosen("Old, worn\nink,photo\n\n", styles)] == [
        "Old, worn",
        "ink",
        "photo",
    ]
    assert chosen("", styles) == []


def test_an_unknown_style_is_told_with_the_closest(file: Path):
    with pytest.raises(StylesFault) as caught:
        chosen("photto", read_styles(file))
    assert caught.value.hint == 'Did you mean "photo"?'


def test_the_first_file_that_has_a_name_counts(file: Path, tmp_path: Path):
    other = tmp_path / "other.csv"
    other.write_text("name,prompt\nink,other\nnew,x\n")
    styles = read_all([file, other])
    assert styles["ink"].prompt == "ink on paper"
    assert styles["new"] == Style(name="new", prompt="x")


@pytest.mark.parametrize("content", [b"\xff\xfe\xff", b"title,text\na,b\n", b'name,prompt\n"a'])
def test_files_that_hold_no_styles_are_told(tmp_path: Path, content: bytes):
    path = tmp_path / "styles.csv"
    path.write_bytes(content)
    with pytest.raises(StylesFault, match="styles"):
        read_styles(path)
