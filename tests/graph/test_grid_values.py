"""The values of a grid's axis as people type them."""

import pytest

from engine.api.spec import InputSpec
from engine.graph.grid_values import ValuesFault, labels_of, read_values

INT, FLOAT, TEXT, CHOICE = (
    InputSpec(name="a", type=t) for t in ("INT", "FLOAT", "STRING", "COMBO")
)


@pytest.mark.parametrize(
    ("values", "item", "found"),
    [
        ("1,2, 3", INT, ["1", "2", "3"]),
        ("1-5", INT, [1, 2, 3, 4, 5]),
        ("1-10 (+2)", INT, [1, 3, 5, 7, 9]),
        ("10-5 (-3)", INT, [10, 7]),
        ("3-1", INT, [3, 2, 1]),
        ("1-10[4]", INT, [1, 4, 7, 10]),
        ("0-1 [3], 5", FLOAT, [0.0, 0.5, 1.0, "5"]),
        ("0.1-0.4 (+0.1)", FLOAT, [0.1, 0.2, 0.3, 0.4]),
        ("-1-1", INT, [-1, 0, 1]),
        ("-0.5", FLOAT, ["-0.5"]),
        ('red, "a, b" , 1-5', TEXT, ["red", "a, b", "1-5"]),
        ("one, two\nthree", TEXT, ["one, two", "three"]),
        ("euler,ddim", CHOICE, ["euler", "ddim"]),
        ([1, 2.5], FLOAT, [1, 2.5]),
        ({"from": 1, "to": 3}, INT, [1, 2, 3]),
        ({"from": 1, "to": 2, "count": 3}, FLOAT, [1.0, 1.5, 2.0]),
        ({"from": 1, "to": 2, "step": 0.5}, FLOAT, [1.0, 1.5, 2.0]),
    ],
)
def test_lists_and_ranges(values: object, item: InputSpec, found: list[object]):
    assert read_values(values, item) == found


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ("", "empty"),
        ([], "empty"),
        (5, "no list"),
        ("1-9 (0)", "never come"),
        ("1-9 (-1)", "never come"),
        ("1-5000", "5000"),
        ("1-5 [0]", "1 to"),
        (list(range(2000)), "2000"),
        ({"from": 1}, "no range"),
        ({"from": 1, "to": "x"}, "no range"),
        ({"from": 1, "to": 2, "by": 1}, "no range"),
    ],
)
def test_what_is_no_axis_is_told(values: object, fault: str):
    with pytest.raises(ValuesFault, match=fault):
        read_values(values, INT)


def test_labels_leave_out_what_is_not_needed():
    assert labels_of([1.0, 2.5]) == ["1", "2.5"]
    assert labels_of(["a/one.safetensors", "two.ckpt"]) == ["one", "two"]
    assert labels_of([""]) == ["(empty)"]
