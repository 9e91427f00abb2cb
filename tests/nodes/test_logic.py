"""Logic nodes: choosing, blocking, and loops, run by the real executor."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.api import AnyValue, NodeError, node
from engine.graph.catalogue import Catalogue
from engine.graph.prompt import parse_prompt
from engine.graph.validate import validate
from nodes import logic
from tests.run.small_engine import SmallEngine, described


@node("Append", category="test")
def append(values: AnyValue, item: AnyValue) -> AnyValue:
    """A list with one item more."""
    return [*(values or []), item]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SmallEngine]:
    """A core with the logic nodes."""
    small = SmallEngine(tmp_path, [*logic.NODES, append])
    yield small
    small.close()


def check(engine: SmallEngine, prompt: dict[str, Any]) -> None:
    found = validate(parse_prompt(prompt), Catalogue(engine.core.catalogue.specs), lambda _f: [])
    assert found.errors == ()


@pytest.mark.parametrize(
    ("a", "comparison", "b", "expected"),
    [
        (1, "==", 1.0, True), (1, "!=", 2, True), (1, "<", 2, True), (2, "<=", 2, True),
        ("b", ">", "a", True), (1, ">=", 2, False), ("1", "==", 1, False),
    ],
)  # fmt: skip
def test_compare(a: object, comparison: str, b: object, expected: bool):
    assert logic.compare(a, b, comparison) is expected


def test_compare_of_what_has_no_order_is_named():
    with pytest.raises(NodeError, match="int < str"):
        logic.compare(1, "a", "<")


@pytest.mark.parametrize(
    ("operation", "table"),
    [
        ("and", [False, False, False, True]), ("or", [False, True, True, True]),
        ("xor", [False, True, True, False]), ("nand", [True, True, True, False]),
        ("nor", [True, False, False, False]), ("not a", [True, True, False, False]),
    ],
)  # fmt: skip
def test_boolean_logic(operation: str, table: list[bool]):
    pairs = [(False, False), (False, True), (True, False), (True, True)]
    assert [logic.boolean_logic(a, b, operation) for a, b in pairs] == table


def test_switch_runs_one_side_only(engine: SmallEngine):
    prompt = {
        "bad": described("Fail"),
        "good": described("Add", a=1),
        "s": described("ComfySwitchNode", switch=True, on_false=("bad", 0), on_true=("good", 0)),
        "o": described("Show", value=("s", 0)),
    }
    check(engine, prompt)
    engine.run(prompt)
    assert engine.shown("o") == [2]
    assert "bad" not in engine.started


def test_switch_by_index_runs_one_of_many(engine: SmallEngine):
    prompt = {
        "bad": described("Fail"),
        "good": described("Add", a=1),
        "s": described("SwitchByIndex", index=2, value0=("bad", 0), value2=("good", 0)),
        "o": described("Show", value=("s", 0)),
    }
    check(engine, prompt)
    engine.run(prompt)
    assert engine.shown("o") == [2]
    prompt["s"]["inputs"]["index"] = 5  # nothing is linked there
    engine.run(prompt)
    assert engine.shown("o") == [None]


def test_blocker(engine: SmallEngine):
    prompt = {
        "b": described("Blocker", value=3, is_open=True),
        "o": described("Show", value=("b", 0)),
    }
    engine.run(prompt)
    assert engine.shown("o") == [3]
    prompt["b"]["inputs"].update(is_open=False, message="Not today.")
    engine.run(prompt)
    assert engine.failures["o"].error.message == "Not today."


def for_loop(count: Any, seed: Any = None) -> dict[str, Any]:
    start = {"count": count} if seed is None else {"count": count, "value": seed}
    return {
        "s": described("ForLoopStart", **start),
        "body": described("Append", values=("s", 2), item=("s", 1)),
        "e": described("ForLoopEnd", loop=("s", 0), value=("body", 0)),
        "o": described("Show", value=("e", 0)),
    }


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_for_loop_hands_its_value_and_index_round(engine: SmallEngine, count: int):
    prompt = for_loop(count)
    check(engine, prompt)
    engine.run(prompt)
    assert engine.status == "success"
    assert engine.shown("o") == [list(range(count)) or None]
    assert engine.started.count("body") == min(count, 1)
    engine.run(prompt)
    assert engine.started == []


def test_loop_body_of_several_nodes_with_outer_ones(engine: SmallEngine):
    prompt = {
        "outer": described("Add", a=9),
        "s": described("ForLoopStart", count=3, value=0),
        "one": described("Add", a=("s", 2), b=("outer", 0)),
        "two": described("Add", a=("one", 0), b=("s", 1)),
        "aside": described("Add", a=("s", 1)),
        "e": described("ForLoopEnd", loop=("s", 0), value=("two", 0)),
        "o": described("Show", value=("e", 0)),
    }
    engine.run(prompt)
    assert engine.shown("o") == [0 + 30 + (0 + 1 + 2)]
    assert engine.started.count("outer") == 1
    assert "aside" not in engine.started


def test_loop_events_are_shown_on_the_users_nodes(engine: SmallEngine):
    events = engine.run(for_loop(3))
    shown_on = {getattr(e, "display_id", "s") for e in events if hasattr(e, "display_id")}
    assert shown_on == {"s", "body", "e", "o"}


def test_nested_loops(engine: SmallEngine):
    prompt = {
        "s": described("ForLoopStart", count=3, value=0),
        "is": described("ForLoopStart", count=("s", 1), value=("s", 2)),
        "b": described("Add", a=("is", 2), b=("s", 1)),
        "ie": described("ForLoopEnd", loop=("is", 0), value=("b", 0)),
        "e": described("ForLoopEnd", loop=("s", 0), value=("ie", 0)),
        "o": described("Show", value=("e", 0)),
    }
    check(engine, prompt)
    engine.run(prompt)
    assert engine.shown("o") == [0 * 0 + 1 * 1 + 2 * 2]


def while_loop(limit: int, max_turns: int = 1000) -> dict[str, Any]:
    return {
        "s": described("WhileLoopStart", value=1, max_turns=max_turns),
        "double": described("Add", a=("s", 2), b=("s", 2)),
        "c": described("Compare", a=("double", 0), b=limit, comparison="<"),
        "e": described("WhileLoopEnd", loop=("s", 0), value=("double", 0), condition=("c", 0)),
        "o": described("Show", value=("e", 0)),
    }


def test_while_loop_ends_by_its_condition_or_its_limit(engine: SmallEngine):
    check(engine, while_loop(100))
    engine.run(while_loop(100))
    assert engine.shown("o") == [128]
    engine.run(while_loop(100, max_turns=3))
    assert engine.shown("o") == [8]
    engine.run(while_loop(0))
    assert engine.shown("o") == [2]


def test_lists_go_round_as_one_value(engine: SmallEngine):
    prompt = {
        "c": described("Count", n=3),
        "s": described("ForLoopStart", count=4, value=("c", 0)),
        "b": described("Add", a=("s", 2)),
        "e": described("ForLoopEnd", loop=("s", 0), value=("b", 0)),
        "o": described("Show", value=("e", 0)),
    }
    engine.run(prompt)
    assert engine.shown("o") == [4, 5, 6]


def test_failure_in_a_turn_fails_the_loop_on_the_users_node(engine: SmallEngine):
    prompt = for_loop(3)
    prompt["body"] = described("Fail", value=("s", 1))
    engine.run(prompt)
    assert engine.status == "error"
    (failed,) = engine.failures.values()
    assert failed.display_id == "body"


def test_long_loop(engine: SmallEngine):
    prompt = for_loop(300, 0)
    prompt["body"] = described("Add", a=("s", 2))
    engine.run(prompt)
    assert engine.shown("o") == [300]
    assert max(len(node_id) for node_id in engine.started) < 120


def test_loop_end_without_links_says_so(engine: SmallEngine):
    engine.run(
        {
            "e": described("ForLoopEnd", loop=1, value=2),
            "o": described("Show", value=("e", 0)),
        }
    )
    assert "needs links" in engine.failures["e"].error.message
