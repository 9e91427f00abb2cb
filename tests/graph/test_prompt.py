"""Prompts in API form: what is read, and that nothing malformed gets further."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.api.errors import GraphInvalid
from engine.graph.prompt import Link, as_link, parse_prompt, shown
from tests.graph.samples import FUZZ, node


def test_reads_nodes_links_and_titles() -> None:
    body = {
        "4": node("CheckpointLoaderSimple", ckpt_name="tiny.safetensors"),
        "10:3": node("CLIPTextEncode", "Prompt", text="a", clip=["4", 1]),
    }
    graph = parse_prompt(body)
    assert list(graph.nodes) == ["4", "10:3"]
    assert graph.nodes["10:3"].inputs == {"text": "a", "clip": Link("4", 1)}
    assert graph.label("10:3") == "Prompt (10:3)"
    assert graph.label("4") == "CheckpointLoaderSimple (4)"
    assert graph.to_json() == body


def test_lists_that_are_values_are_wrapped() -> None:
    body = {"1": node("Tags", tags={"__value__": ["a", 1]}, other={"__value__": ["1", 0]})}
    graph = parse_prompt(body)
    assert graph.nodes["1"].inputs == {"tags": ["a", 1], "other": ["1", 0]}
    assert graph.to_json() == body
    nested = {"1": node("Tags", tags={"__value__": {"__value__": 1}})}
    assert parse_prompt(nested).to_json() == nested


@pytest.mark.parametrize("value", [["1"], ["1", 0, 0], ["1", True], [1, 0], ["1", "0"], ["1", 0.5]])
def test_what_is_no_link(value: Any) -> None:
    assert as_link(value) is None


def test_a_link_may_have_a_whole_float() -> None:
    assert as_link(["1", 2.0]) == Link("1", 2)


def deep(levels: int):
    value = []
    for _ in range(levels):
        value = [value]
    return value


BROKEN = {
    "null": (None, "invalid_prompt"),
    "list": ([], "invalid_prompt"),
    "text": ("prompt", "invalid_prompt"),
    "editor document": ({"nodes": [], "links": []}, "invalid_prompt"),
    "node is null": ({"1": None}, "invalid_prompt"),
    "node is a list": ({"1": [1]}, "invalid_prompt"),
    "no class_type": ({"1": {"inputs": {}}}, "missing_node_type"),
    "class_type is null": ({"1": {"class_type": None}}, "missing_node_type"),
    "class_type is a number": ({"1": {"class_type": 3, "inputs": {}}}, "missing_node_type"),
    "class_type is empty": ({"1": {"class_type": ""}}, "missing_node_type"),
    "class_type cannot be written": ({"1": {"class_type": "\ud800"}}, "missing_node_type"),
    "inputs is null": ({"1": {"class_type": "A", "inputs": None}}, "invalid_prompt"),
    "inputs is a list": ({"1": {"class_type": "A", "inputs": [1]}}, "invalid_prompt"),
    "id is a number": ({1: node("A")}, "invalid_prompt"),
    "id cannot be written": ({"\udfff": node("A")}, "invalid_prompt"),
    "input name is a number": ({"1": {"class_type": "A", "inputs": {1: 1}}}, "invalid_prompt"),
    "input name cannot be written": ({"1": node("A", **{"\ud800": 1})}, "invalid_prompt"),
    "too deep": ({"1": node("A", x=deep(100))}, "invalid_prompt"),
    "far too deep": ({"1": node("A", x=deep(100_000))}, "invalid_prompt"),
    "huge number": ({"1": node("A", x=10**5000)}, "invalid_prompt"),
    "nested NaN": ({"1": node("A", x=[float("nan")])}, "invalid_prompt"),
    "no JSON": ({"1": node("A", x=object())}, "invalid_prompt"),
    "key is no text": ({"1": node("A", x={1: 2})}, "invalid_prompt"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    body, code = BROKEN[name]
    with pytest.raises(GraphInvalid) as caught:
        parse_prompt(body)
    assert caught.value.code == code
    problem = caught.value.problems[0]
    assert problem.code == code
    assert problem.message.endswith(".")
    assert len(str(caught.value)) < 500


def test_all_broken_nodes_are_named() -> None:
    with pytest.raises(GraphInvalid) as caught:
        parse_prompt({"1": None, "2": {"inputs": 3, "class_type": "A"}, "3": {}, "4": node("A")})
    assert [p.node_id for p in caught.value.problems] == ["1", "2", "3"]
    assert caught.value.code == "invalid_prompt"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["class_type", "inputs", "1", "__value__"]),
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(
            st.sampled_from(["1", "2", "class_type", "inputs", "_meta", "__value__"]),
            below,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@FUZZ
@given(JSON)
def test_any_json_is_read_or_refused(body: Any) -> None:
    try:
        parse_prompt(body)
    except GraphInvalid as refusal:
        assert refusal.problems


@FUZZ
@given(JSON)
def test_any_value_can_be_shown(value: Any) -> None:
    text = shown(value)
    assert len(text) < 400
    assert text.encode()
