"""Plans: only what is needed, each node after those it waits for, also while the graph grows."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.api.errors import GraphInvalid
from engine.graph.plan import Plan
from engine.graph.prompt import parse_prompt
from engine.graph.validate import validate
from tests.graph.samples import CATALOGUE, FUZZ, chain, files_of, node


def plan(
    prompt: dict[str, Any], outputs: list[str], has_result: Callable[[str], bool] | None = None
):
    return Plan(parse_prompt(prompt), CATALOGUE, outputs, has_result=has_result)


def run(a_plan: Plan):
    """Run to the end, one node at a time; the order."""
    order = []
    while (node_id := a_plan.next_ready()) is not None:
        order.append(node_id)
        a_plan.mark_done(node_id)
    return order


DIAMOND = {
    "show": node("Show", value=["sum", 0]),
    "unused": node("Number", value=9),
    "sum": node("Add", a=["left", 0], b=["right", 0]),
    "right": node("Add", a=["top", 0]),
    "left": node("Add", a=["top", 0], b=["top", 0]),
    "top": node("Number", value=1),
}


def test_runs_what_is_needed_parents_first_depth_first() -> None:
    one = plan(DIAMOND, ["show"])
    assert run(one) == ["top", "left", "right", "sum", "show"]
    assert one.is_finished
    assert one.is_done("top")
    assert not one.is_done("unused")


def test_hands_out_all_that_can_run_side_by_side() -> None:
    one = plan(DIAMOND, ["show"])
    assert one.next_ready() == "top"
    assert one.next_ready() is None
    one.mark_done("top")
    assert [one.next_ready(), one.next_ready(), one.next_ready()] == ["left", "right", None]
    one.mark_done("right")
    assert one.next_ready() is None
    one.mark_done("left")
    one.mark_done("left")
    assert one.next_ready() == "sum"
    assert not one.is_finished


def test_finishes_one_output_before_the_next() -> None:
    prompt = {
        "a": node("Number", value=1),
        "b": node("Number", value=2),
        "show a": node("Show", value=["a", 0]),
        "show b": node("Show", value=["b", 0]),
    }
    assert run(plan(prompt, ["show a", "show b"])) == ["a", "show a", "b", "show b"]


def test_what_only_results_need_is_left_out() -> None:
    asked = []

    def has_result(node_id: str):
        asked.append(node_id)
        return node_id == "left"

    one = plan(DIAMOND, ["show"], has_result)
    assert run(one) == ["top", "right", "sum", "show"]
    assert sorted(asked) == sorted(set(asked))
    cached = plan(DIAMOND, ["show"], lambda i: True)
    assert cached.is_finished


def test_a_chain_of_ten_thousand_in_linear_work() -> None:
    one = plan(chain(10_000), ["show"])
    assert run(one) == [*map(str, range(10_000)), "show"]


LAZY = {
    "show": node("Show", value=["pick", 0]),
    "pick": node("Switch", on=["on", 0], yes=["yes", 0], no=["no", 0]),
    "on": node("Number", value=1),
    "yes": node("Add", a=["below", 0]),
    "below": node("Number", value=1),
    "no": node("Number", value=2),
}


def test_lazy_inputs_run_when_asked_for() -> None:
    one = plan(LAZY, ["show"])
    assert one.next_ready() == "on"
    one.mark_done("on")
    assert one.next_ready() == "pick"
    one.require("pick", ["yes"])
    assert [one.next_ready(), one.next_ready()] == ["below", None]
    one.mark_done("below")
    assert one.next_ready() == "yes"
    one.mark_done("yes")
    assert one.next_ready() == "pick"
    one.require("pick", ["yes"])  # is there: handed out again at once
    assert one.next_ready() == "pick"
    one.mark_done("pick")
    assert run(one) == ["show"]
    assert not one.is_done("no")


def test_lazy_inputs_without_a_check_are_followed_and_raw_links_are_not() -> None:
    prompt = {"1": node("Number", value=1), "2": node("LazyWithoutCheck", value=["1", 0])}
    assert run(plan(prompt, ["2"])) == ["1", "2"]
    prompt["2"] = node("Raw", value=["1", 0])
    assert run(plan(prompt, ["2"])) == ["2"]


def test_expansion() -> None:
    prompt = {
        "show": node("Show", value=["10", 0]),
        "10": node("Add", a=["n", 0]),
        "n": node("Number", value=1),
    }
    one = plan(prompt, ["show"])
    assert one.next_ready() == "n"
    one.mark_done("n")
    assert one.next_ready() == "10"
    inner = {"n": node("Number", value=2), "2": node("Add", a=["n", 0], b=["show", 0])}
    inner["2"]["inputs"]["b"] = 5
    added = one.expand("10", {**inner, "3": node("Add", a=["2", 0], b=["10", 0])}, call=1)
    assert added.ids == {"n": "10.1.n", "2": "10.1.2", "3": "10.1.3"}
    one.wait_for("10", ["10.1.2"])
    assert one.next_ready() == "10.1.n"
    assert one.display_id("10.1.n") == "10"
    assert one.parent_id("10.1.n") == "10"
    assert (one.display_id("10"), one.parent_id("10")) == ("10", None)
    one.mark_done("10.1.n")
    again = one.next_ready()
    assert again == "10.1.2"
    deeper = one.expand(again, {"10.1.2.0.x": node("Number", value=3)})
    assert deeper.ids == {"10.1.2.0.x": "10.1.2.0.x"}
    assert one.display_id("10.1.2.0.x") == "10"
    one.wait_for(again, ["10.1.2.0.x"])
    assert run(one) == ["10.1.2.0.x", "10.1.2", "10", "show"]
    assert one.is_finished
    assert "10.1.2" in one.graph.to_json()


def test_an_expansion_may_show_its_nodes_elsewhere() -> None:
    one = plan({"1": node("Number", value=1), "2": node("Show", value=["1", 0])}, ["2"])
    one.next_ready()
    inner = {**node("Number", value=1), "override_display_id": "2"}
    one.expand("1", {"a": inner, "b": {**inner, "override_display_id": ["x"]}})
    assert one.display_id("1.0.a") == "2"
    assert one.display_id("1.0.b") == "1"


def test_the_plan_leaves_the_graph_that_it_got_as_it_is() -> None:
    graph = parse_prompt(DIAMOND)
    one = Plan(graph, CATALOGUE, ["show"])
    one.expand("top", {"x": node("Number", value=1)})
    assert set(graph.nodes) == set(DIAMOND)


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        ({"x": node("Nope")}, "missing_node_type"),
        ({"x": node("Add", a=["gone", 0])}, "bad_linked_input"),
        ({"x": None}, "invalid_prompt"),
        ([], "invalid_prompt"),
        ({"top.0.twice": node("Number", value=1)}, "invalid_prompt"),
    ],
)
def test_expansions_that_cannot_run(inner: Any, code: str) -> None:
    one = plan(DIAMOND, ["show"])
    one.expand("top", {"twice": node("Number", value=1)})
    with pytest.raises(GraphInvalid) as caught:
        one.expand("top", inner)
    assert caught.value.code == code


def test_a_circle_through_an_expansion_is_named() -> None:
    one = plan({"1": node("Number", value=1), "2": node("Show", value=["1", 0])}, ["2"])
    assert one.next_ready() == "1"
    one.expand("1", {"x": node("Add", a=["1", 0])})
    one.wait_for("1", ["1.0.x"])
    assert one.next_ready() is None
    assert not one.is_finished
    assert set(one.blocked_by()) == {"1", "1.0.x"}
    assert plan(DIAMOND, ["show"]).blocked_by() == ()


LINKS = st.dictionaries(
    st.integers(0, 9), st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=10
)


def prompt_of(links: dict[int, list[int]]) -> dict[str, Any]:
    """Kwargs nodes with these links to others, and one that shows each."""
    prompt: dict[str, Any] = {}
    for i, parents in links.items():
        inputs = {f"x{n}": [str(p), 0] for n, p in enumerate(parents) if p in links}
        prompt[str(i)] = node("Kwargs", a=1, **inputs)
        prompt[f"show {i}"] = node("Show", value=[str(i), 0])
    return prompt


def ancestors(prompt: dict[str, Any], node_id: str) -> set[str]:
    """The node and all it needs, found the slow way."""
    found = {node_id}
    while True:
        inputs = [v for i in found for v in prompt[i]["inputs"].values()]
        more = found | {v[0] for v in inputs if isinstance(v, list)}
        if more == found:
            return found
        found = more


@FUZZ
@given(LINKS, st.data())
def test_any_graph_is_run_as_far_as_it_has_no_circle(
    links: dict[int, list[int]], data: st.DataObject
) -> None:
    prompt = prompt_of(links)
    in_circle = {
        i
        for i in prompt
        if any(
            i in ancestors(prompt, v[0])
            for v in prompt[i]["inputs"].values()
            if isinstance(v, list)
        )
    }
    outputs = [i for i in prompt if i.startswith("show")]
    good = tuple(o for o in outputs if not ancestors(prompt, o) & in_circle)
    found = validate(parse_prompt(prompt), CATALOGUE, files_of)
    assert found.good_outputs == good
    one = Plan(found.graph, CATALOGUE, good)
    done: set[str] = set()
    running: list[str] = []
    while True:
        if (ready := one.next_ready()) is not None:
            assert ancestors(prompt, ready) - {ready} <= done
            running.append(ready)
        elif running:
            finished = running.pop(data.draw(st.integers(0, len(running) - 1)))
            one.mark_done(finished)
            done.add(finished)
        else:
            break
    assert one.is_finished
    assert done == {i for o in good for i in ancestors(prompt, o)}


def test_deep_loops_of_expansions_stay_linear() -> None:
    one = plan({"0": node("Number", value=1), "s": node("Show", value=["0", 0])}, ["s"])
    for depth in range(2000):
        current = one.next_ready()
        assert current is not None
        ids = one.expand(current, {"n": node("Number", value=depth)}).ids
        one.wait_for(current, ids.values())
    assert len(run(one)) == 2002
