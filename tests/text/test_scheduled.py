"""Prompts that change with the steps: the published examples of the syntax, and odd brackets."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.scheduled import ScheduleFault, strands


def said(prompt: str, steps: int) -> list[tuple[str, int, int]]:
    (strand,) = strands(prompt, steps)
    assert strand.weight == 1
    return [(s.text, s.first, s.end) for s in strand.stretches]


def test_a_text_without_schedule_is_one_stretch():
    for text in ("a boat", "a [boat] [x:y] (b:1.2)", "a [b", "a]", "[a:b:c:3]", "(a|b)"):
        assert said(text, 10) == [(text, 0, 10)]


def test_switch_by_step_and_by_share():
    assert said("a [red:blue:4] boat", 10) == [("a red boat", 0, 4), ("a blue boat", 4, 10)]
    assert said("a [red:blue:0.25]", 100) == [("a red", 0, 25), ("a blue", 25, 100)]
    assert said("[to:3]", 5) == [("", 0, 3), ("to", 3, 5)]
    assert said("[from::3]", 5) == [("from", 0, 3), ("", 3, 5)]
    assert said("[a:b:1.0]", 5) == [("a", 0, 5)]
    assert said("[a:b:50]", 5) == [("a", 0, 5)]
    assert said("[a:b:0]", 5) == [("b", 0, 5)]


def test_turns():
    assert [t for t, _, _ in said("a [cow|horse]", 4)] == ["a cow", "a horse", "a cow", "a horse"]
    assert [t for t, _, _ in said("[a|b|]", 4)] == ["a", "b", "", "a"]


def test_nesting_and_weights_inside():
    found = said("[(red:1.3) [boat:ship:2]:lake:4]", 6)
    assert found == [("(red:1.3) boat", 0, 2), ("(red:1.3) ship", 2, 4), ("lake", 4, 6)]
    assert said(r"\[a:b:1\]", 3) == [(r"\[a:b:1\]", 0, 3)]


def test_and_splits_with_weights():
    found = strands("a cat :1.2 AND a dog AND a (penguin:1.5) :2.2 AND (x:1.3)", 4)
    assert [(s.weight, s.stretches[0].text) for s in found] == [
        (1.2, "a cat"),
        (1.0, "a dog"),
        (2.2, "a (penguin:1.5)"),
        (1.0, "(x:1.3)"),
    ]
    assert len(strands("SAND AND and", 4)) == 2
    assert [len(s.stretches) for s in strands("[a:b:2] AND c", 4)] == [2, 1]


@pytest.mark.parametrize("prompt", ["a :0 AND b", "a :-1", "[" * 80 + "a" + "]" * 80])
def test_what_cannot_be_followed_is_told(prompt: str):
    with pytest.raises(ScheduleFault):
        strands(prompt, 4)


@given(st.text(alphabet="ab[]|:.1\\() AND", max_size=30), st.integers(1, 6))
def test_every_step_of_any_text_has_its_stretch(prompt: str, steps: int):
    try:
        found = strands(prompt, steps)
    except ScheduleFault:
        return
    for strand in found:
        edges = [(s.first, s.end) for s in strand.stretches]
        assert edges[0][0] == 0
        assert edges[-1][1] == steps
        assert all(a[1] == b[0] for a, b in pairwise(edges))
