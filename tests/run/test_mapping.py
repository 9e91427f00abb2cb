"""List mapping: which calls a node gets, and how their results and texts are joined."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api.errors import NodeError
from engine.api.node import Blocked
from engine.api.spec import NodeSpec, OutputSpec
from engine.run.mapping import SILENT, Linked, merge_results, merge_ui, slices

LISTS = st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(), max_size=4), max_size=3)


def spec(*is_list: bool) -> NodeSpec:
    outputs = tuple(OutputSpec(name=str(i), type="INT", is_list=b) for i, b in enumerate(is_list))
    return NodeSpec(name="N", title="N", category="", outputs=outputs)


@settings(deadline=None)
@given(LISTS)
def test_one_call_per_position_of_the_longest_list(lists: dict[str, list[int]]):
    calls = slices(lists, takes_lists=False)
    if any(not values for values in lists.values()):
        assert calls == []
        return
    assert len(calls) == max((len(v) for v in lists.values()), default=1)
    for i, call in enumerate(calls):
        assert call == {n: v[min(i, len(v) - 1)] for n, v in lists.items()}


@settings(deadline=None)
@given(LISTS)
def test_nodes_that_take_lists_are_called_once(lists: dict[str, list[int]]):
    assert slices(lists, takes_lists=True) == [lists]


def test_blocked_items_stop_their_call():
    stop = Blocked("why")
    assert slices({"a": [1, stop, 3]}, takes_lists=False) == [{"a": 1}, stop, {"a": 3}]
    assert slices({"a": [1, stop], "b": [2]}, takes_lists=True) == [stop]


def test_results_join_by_output():
    merged = merge_results(spec(False, True), [(1, [2, 3]), Blocked("x"), (4, (5,))])
    assert merged == ([1, SILENT, 4], [2, 3, SILENT, 5])
    assert merge_results(spec(False), [(Linked([1, 2]),)]) == ([1, 2],)
    assert merge_results(spec(False, False), [(SILENT,)]) == ([SILENT], [SILENT])
    assert merge_results(spec(), [()]) == ()
    assert merge_results(spec(False), [(1, "more than declared")]) == ([1],)


def test_results_that_break_the_declaration_are_named():
    with pytest.raises(NodeError, match="2 outputs but gave 1"):
        merge_results(spec(False, False), [(1,)])
    with pytest.raises(NodeError, match="as a list but gave int"):
        merge_results(spec(True), [(1,)])


def test_what_calls_show_is_joined():
    assert merge_ui([]) is None
    assert merge_ui([None, {"a": [1]}]) == {"a": [1]}
    assert merge_ui([{"a": [1], "t": "x"}, {"a": (2,), "t": "y"}]) == {"a": [1, 2], "t": "y"}
