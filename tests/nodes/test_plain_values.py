"""Primitives, texts and numbers, called as plain functions."""

import math

import pytest
import torch

from engine.api.errors import NodeError
from nodes.maths import float_to_int, int_to_float, math_float, math_int, number_to_string
from nodes.primitives import preview_any, primitive_int, primitive_string
from nodes.strings import (
    case_converter,
    regex_extract,
    regex_match,
    regex_replace,
    string_compare,
    string_concatenate,
    string_contains,
    string_length,
    string_replace,
    string_substring,
    string_trim,
)

TEXT = "a Red boat, a red Sail"


def test_primitives_pass_their_value_on() -> None:
    assert primitive_int(2**60) == 2**60
    assert primitive_string("ä\n") == "ä\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (1, "1"),
        (1.5, "1.5"),
        (True, "True"),
        (None, "None"),
        ([1, {"a": 2}], '[1, {"a": 2}]'),
    ],
)
def test_any_value_is_shown_as_text(value: object, text: str) -> None:
    assert preview_any(value).ui == {"text": (text,)}
    assert "tensor" in str(preview_any(torch.zeros(1)).ui)


def test_texts() -> None:
    assert string_concatenate("a", "b", "-") == "a-b"
    assert string_substring("hello", 1, -1) == "ell"
    assert string_length("ä€") == 2
    assert string_replace(TEXT, "a ", "") == "Red boat, red Sail"
    assert [case_converter(TEXT, m) for m in ("UPPERCASE", "Title Case")] == [
        "A RED BOAT, A RED SAIL",
        "A Red Boat, A Red Sail",
    ]
    assert [string_trim(" a ", m) for m in ("Both", "Left", "Right")] == ["a", "a ", " a"]
    assert string_contains(TEXT, "RED", False) and not string_contains(TEXT, "RED", True)
    assert string_compare("abc", "AB", "Starts With", False)
    assert not string_compare("abc", "AB", "Starts With", True)
    assert string_compare("abc", "bc", "Ends With", True)
    assert string_compare("a", "a", "Equal", True)


def test_regular_expressions() -> None:
    assert regex_match(TEXT, r"^A RED", True, False, False)
    assert not regex_match(TEXT, r"^A RED", False, False, False)
    finds = {
        mode: regex_extract(TEXT, r"(red) (\w+)", mode, True, False, False, 2)
        for mode in ("First Match", "All Matches", "First Group", "All Groups")
    }
    assert finds == {
        "First Match": "Red boat",
        "All Matches": "Red boat\nred Sail",
        "First Group": "boat",
        "All Groups": "boat\nSail",
    }
    assert regex_extract(TEXT, "red", "First Group", True, False, False, 3) == ""
    assert regex_replace(TEXT, r"(red) (\w+)", r"\2", count=1) == "a boat, a red Sail"


def test_a_broken_pattern_is_named() -> None:
    with pytest.raises(NodeError, match="no regular expression"):
        regex_match(TEXT, "(", True, False, False)
    with pytest.raises(NodeError, match="does not fit"):
        regex_replace(TEXT, "a", r"\3")


def test_numbers() -> None:
    assert math_int(7, 2, "divide") == 3
    assert math_int(-7, 2, "remainder") == 1
    assert math_float(7.0, 2.0, "divide") == 3.5
    assert math_float(2.0, 0.5, "power") == pytest.approx(math.sqrt(2))
    assert [float_to_int(2.5, r) for r in ("nearest", "down", "up")] == [3, 2, 3]
    assert int_to_float(3) == 3.0
    assert [number_to_string(v, -1) for v in (2.0, 0.1)] == ["2", "0.1"]
    assert number_to_string(1 / 3, 2) == "0.33"


@pytest.mark.parametrize(("a", "b", "operation"), [(1, 0, "divide"), (10, 9999, "power")])
def test_a_calculation_without_result_is_refused(a: int, b: int, operation: str) -> None:
    with pytest.raises(NodeError):
        math_int(a, b, operation)
    with pytest.raises(NodeError):
        math_float(a, b, operation)
