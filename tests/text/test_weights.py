"""The prompt language: brackets, numbers, escapes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.weights import parse_weights

CASES: dict[str, list[tuple[str, float]]] = {
    "": [],
    "plain text": [("plain text", 1.0)],
    "a (boat:1.2) on": [("a ", 1.0), ("boat", 1.2), (" on", 1.0)],
    "(a)": [("a", 1.1)],
    "((a))": [("a", 1.1 * 1.1)],
    "((a:1.5) b)": [("a", 1.5), (" b", 1.1)],
    "(a (b:0.5):2)": [("a ", 2.0), ("b", 0.5)],
    "(a:b)": [("a:b", 1.1)],
    "(:2)": [(":2", 1.1)],
    "(a:nan)": [("a:nan", 1.1)],
    "(a:-0.3)": [("a", -0.3)],
    "\\(a\\) (b\\):2)": [("(a) ", 1.0), ("b)", 2.0)],
    "(an old (boat": [("(an old (boat", 1.0)],
    "a) (b:2)": [("a) (b:2)", 1.0)],
    "[a] {b}": [("[a] {b}", 1.0)],
    "()": [("", 1.1)],
}


@pytest.mark.parametrize("prompt", CASES)
def test_prompt_is_read_as_expected(prompt: str):
    found = [(s.text, s.weight) for s in parse_weights(prompt) if s.text]
    assert found == [(text, pytest.approx(weight)) for text, weight in CASES[prompt] if text]


def test_any_depth_is_read():
    depth = 50_000
    (span,) = parse_weights("(" * depth + "a:1.5" + ")" * depth)
    assert (span.text, span.weight) == ("a", 1.5)


@given(st.text(alphabet="ab():.1\\ ", max_size=40))
def test_no_letter_is_lost(prompt: str):
    text = "".join(s.text for s in parse_weights(prompt))
    assert text.count("a") == prompt.count("a")
    assert text.count("b") == prompt.count("b")
