"""Problems as the JSON that clients read."""

import json
from typing import Any

import pytest

from engine.api.errors import GraphInvalid
from engine.graph.prompt import parse_prompt
from engine.graph.wire_errors import invalid_to_wire, problem_text, to_wire, warnings_to_wire
from tests.graph.samples import check, node


def test_the_errors_of_a_node() -> None:
    found = check(
        n1=node("Number", value="x"),
        n2=node("Add", a=["1", 0], b="y"),
        n3=node("Show", value=["2", 0]),
        n4=node("Show", value=["1", 0]),
    )
    error, by_node = to_wire(found)
    assert error["type"] == "prompt_outputs_failed_validation"
    assert error["message"] == "2 errors keep the prompt from running."
    assert set(error) == {"type", "message", "details", "extra_info"}
    assert set(by_node) == {"1", "2"}
    assert by_node["1"]["dependent_outputs"] == ["3", "4"]
    assert by_node["2"]["dependent_outputs"] == ["3"]
    assert by_node["2"]["class_type"] == "Add"
    (one,) = by_node["1"]["errors"]
    assert one["type"] == "invalid_input_type"
    assert one["extra_info"] == {
        "node_id": "1",
        "class_type": "Number",
        "input_name": "value",
        "received_value": '"x"',
        "expected": "a whole number",
        "severity": "error",
    }
    assert "a whole number" in one["details"]
    assert json.loads(json.dumps([error, by_node])) == [error, by_node]


@pytest.mark.parametrize(
    ("nodes", "code"),
    [
        ({}, "prompt_no_outputs"),
        ({"n1": node("Number", value="x")}, "prompt_no_outputs"),
        ({"n1": node("Nope")}, "missing_node_type"),
        ({"n1": node("Show", value=["1", 0])}, "bad_linked_input"),
        ({"n1": node("Nope"), "n2": node("Show")}, "prompt_outputs_failed_validation"),
        (
            {"n1": node("Add", a=["1", 0]), "n2": node("Show", value=["1", 0])},
            "dependency_cycle",
        ),
    ],
)
def test_the_error_as_a_whole(nodes: Any, code: str) -> None:
    error, by_node = to_wire(check(**nodes))
    expected = code if code != "bad_linked_input" else "prompt_outputs_failed_validation"
    assert error["type"] == expected
    assert error["message"]
    assert all(set(e) == {"errors", "dependent_outputs", "class_type"} for e in by_node.values())


def test_prompts_that_cannot_be_read() -> None:
    with pytest.raises(GraphInvalid) as caught:
        parse_prompt({"1": {"class_type": 4}, "2": None})
    error, by_node = invalid_to_wire(caught.value)
    assert error["type"] == "invalid_prompt"
    assert set(by_node) == {"1", "2"}
    assert by_node["1"]["errors"][0]["type"] == "missing_node_type"


def test_warnings_are_apart() -> None:
    found = check(n1=node("Number", value=1, upload=2), n2=node("Show", value=["1", 0]))
    (warning,) = warnings_to_wire(found)
    assert warning["type"] == "undeclared_input"
    assert warning["extra_info"]["severity"] == "warning"
    assert to_wire(found)[1] == {}


def test_an_answer_has_at_most_a_thousand_problems() -> None:
    prompt = {f"n{i}": node("Show") for i in range(3000)}
    error, by_node = to_wire(check(**prompt))
    assert len(by_node) == 1000
    assert error["extra_info"]["problems"] == 3000
    assert len(error["details"]) < 3000


def test_a_problem_as_a_line() -> None:
    (problem,) = check(n1=node("KSampeler")).problems
    assert problem_text(problem) == (
        "Node KSampeler (1) is of the unknown type KSampeler. "
        'Expected: a node type of this installation. Did you mean "KSampler"?'
    )
