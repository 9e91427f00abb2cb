"""Dynamic prompts: choices by weight, several at once, wildcards, all decided by the seed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.dynamic import DynamicFault, Wildcards, read_wildcards, resolve


def wildcards(**files: str) -> Wildcards:
    def reader(lines: Sequence[str]):
        return lambda: lines

    return {name.replace("__", "/"): reader(text.split(";")) for name, text in files.items()}


def spread(text: str, files: Mapping[str, str] | None = None, count: int = 400) -> Counter[str]:
    return Counter(resolve(text, seed, wildcards(**(files or {}))) for seed in range(count))


def test_each_choice_is_made_and_a_seed_always_makes_the_same():
    found = spread("a {red|blue|} boat")
    assert set(found) == {"a red boat", "a blue boat", "a  boat"}
    assert min(found.values()) > 80
    assert [resolve("{a|b|c|d}", seed, {}) for seed in range(8)] == list("dadaacdb"), "for ever"


def test_weights_count():
    found = spread("{3::red|blue}")
    assert 250 < found["red"] < 350
    assert spread("{0::red|blue}") == {"blue": 400}


def test_choices_nest_and_escapes_are_plain():
    assert set(spread("{a {b|c}|d}")) == {"a b", "a c", "d"}
    assert resolve(r"\{a\|b\} {c}", 1, {}) == "{a|b} c"
    assert resolve("a | b } __", 1, {}) == "a | b } __"


def test_several_are_different_and_joined():
    pairs = set(spread("{2$$a|b|c}"))
    assert pairs == {"a, b", "b, a", "a, c", "c, a", "b, c", "c, b"}
    assert set(spread("{1-2$$ and $$a|b}")) == {"a", "b", "a and b", "b and a"}


def test_wildcards_are_lines_of_files_and_nest():
    files = {"colour": "red;2::blue", "boat": "__colour__ boat", "hair__long": "x", "hair__s": "y"}
    found = spread("a __boat__", files)
    assert set(found) == {"a red boat", "a blue boat"}
    assert found["a blue boat"] > 220
    assert set(spread("__hair/*__", files)) == {"x", "y"}
    assert resolve("snake_case and __init", 1, {}) == "snake_case and __init"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("a {b|c", "at letter 3 is not closed", r"\\{"),
        ("__colr__", "no wildcard __colr__", 'Did you mean "colour"'),
        ("__zebra/x__", "no wildcard", "user/wildcards/zebra/x.txt"),
        ("{3$$a|b}", "chooses 3 of 2", "at most"),
        ("__one__", "__one__ → __two__ → __one__", ""),
        ("__none__", "empty", ""),
        ("{" * 80 + "a" + "}" * 80, "nested", ""),
    ],
)
def test_what_cannot_be_resolved_is_told(text: str, message: str, hint: str):
    files = wildcards(colour="red", one="{__two__}", two="x __one__")
    with pytest.raises(DynamicFault, match=message) as caught:
        resolve(text, 1, {**files, "none": list})
    assert hint.replace(r"\\", "\\") in caught.value.hint


def test_growth_has_an_end():
    names = [f"w{i}" for i in range(20)]
    files = {a: f"__{b}__" * 9 for a, b in pairwise(names)}
    with pytest.raises(DynamicFault, match="grows"):
        resolve("__w0__", 1, wildcards(**files, w19="many letters"))


@given(st.text(alphabet="ab{}|$:_\\ 2", max_size=30), st.integers(0, 2**64 - 1))
def test_any_text_is_resolved_or_told(text: str, seed: int):
    try:
        assert resolve(text, seed, {}) == resolve(text, seed, {})
    except DynamicFault as fault:
        assert fault.message


def test_files_are_found_below_the_folder(tmp_path: Path):
    path = tmp_path / "colour.txt"
    path.write_text("\ufeff# colours\n\nred\n blue \n", encoding="utf-8")
    found = read_wildcards({"hair/colour.txt": path, "notes.md": path})
    assert list(found) == ["hair/colour"]
    assert found["hair/colour"]() == ["red", "blue"]
