"""Every way in which a node gets its result, or does not: order, caches, failures, events."""

import asyncio
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import (
    AnyValue,
    Blocked,
    Failed,
    NodeError,
    NodeOutput,
    Options,
    RunContext,
    node,
)
from engine.api.errors import Problem
from engine.api.events import (
    JobFinished,
    JobGaveWay,
    JobStarted,
    LogLine,
    NodeFailed,
    NodeFinished,
    NodePreview,
    NodeProgress,
    NodesCached,
    NodeShown,
    NodeStarted,
    NodeText,
)
from engine.api.node import node_type_of, with_pack
from tests.run.small_engine import SmallEngine, add, described


def chain(length: int, seed: int = 0) -> dict:
    nodes = {"0": described("Add", a=seed)}
    for i in range(1, length):
        nodes[str(i)] = described("Add", a=(str(i - 1), 0))
    nodes["out"] = described("Show", value=(str(length - 1), 0))
    return nodes


def test_runs_what_outputs_need_and_tells_it_in_order(engine: SmallEngine):
    prompt = {**chain(2), "unused": described("Fail")}
    events = engine.run(prompt)
    kinds = [type(e) for e in events]
    assert kinds == [
        JobStarted, NodeStarted, NodeFinished, NodeStarted, NodeFinished, NodeStarted,
        NodeFinished, JobFinished,
    ]  # fmt: skip
    assert engine.started == ["0", "1", "out"]
    assert engine.shown("out") == [2]
    assert engine.status == "success"
    assert engine.reason("0") == "first run"


def test_second_run_is_one_event_and_shows_again(engine: SmallEngine):
    engine.run(chain(5))
    events = engine.run(chain(5))
    assert [type(e) for e in events] == [JobStarted, NodesCached, NodeFinished, JobFinished]
    assert engine.started == []
    assert set(engine.cached.values()) == {"memory"}
    assert len(engine.cached) == 6
    assert engine.shown("out") == [5]


def test_only_what_changed_runs_and_says_why(engine: SmallEngine):
    engine.run(chain(5))
    prompt = chain(5)
    prompt["3"]["inputs"]["b"] = 10
    engine.run(prompt)
    assert engine.started == ["3", "4", "out"]
    assert engine.reason("3") == "input b was added"
    assert "3" in engine.reason("4")
    assert "before it changed" in engine.reason("4")
    assert engine.cached == {"0": "memory", "1": "memory", "2": "memory"}


def test_dropped_result_runs_again(engine: SmallEngine):
    engine.run(chain(2))
    engine.core.free(free_memory=True)
    engine.run(chain(2))
    assert engine.started == ["0", "1", "out"]
    assert engine.reason("0") == "its result was not kept"


def test_alias_shares_results(tmp_path: Path):
    calls = []

    @node("Real", category="test", aliases=("Card",))
    def real(x: int) -> int:
        calls.append(x)
        return x

    engine = SmallEngine(tmp_path, [real])
    engine.run({"a": described("Card", x=1), "o": described("Show", value=("a", 0))})
    engine.run({"b": described("Real", x=1), "o": described("Show", value=("b", 0))})
    assert calls == [1]
    engine.close()


def test_volatile_runs_in_each_job_but_not_in_a_retry(engine: SmallEngine):
    prompt = {"d": described("Dice"), "o": described("Show", value=("d", 0))}
    engine.run(prompt, job_id="one")
    assert engine.shown("o") == ["one"]
    engine.run(prompt, job_id="two")
    assert engine.shown("o") == ["two"]
    assert engine.reason("d") == "it runs in every job"
    engine.run(prompt, job_id="two")
    assert engine.started == []


def test_is_changed_decides(tmp_path: Path):
    says: list = [1]

    def ask(**_inputs: object) -> object:
        if isinstance(says[0], Exception):
            raise says[0]
        return says[0]

    @node("Watch", category="test", is_changed=ask)
    def watch() -> int:
        return 7

    engine = SmallEngine(tmp_path, [watch])
    prompt = {"w": described("Watch"), "o": described("Show", value=("w", 0))}
    engine.run(prompt)
    engine.run(prompt)
    assert engine.started == []
    says[0] = 2
    engine.run(prompt)
    assert engine.started == ["w"] or engine.started == ["w", "o"]
    assert engine.reason("w") == "the node reported a change"
    for said in (float("nan"), RuntimeError("broken")):
        says[0] = said
        for job in ("a", "b"):
            engine.run(prompt, job_id=f"{said} {job}")
            assert "w" in engine.started
    assert any("broken" in e.text for e in engine.events if isinstance(e, LogLine))
    engine.close()


@node("Save", category="test", is_output=True)
def save(text: str, ctx: RunContext) -> NodeOutput:
    """Writes a file."""
    saved = ctx.files.save(
        lambda file: void(file.write(text.encode())), prefix="%Save.text%", extension="txt"
    )
    return NodeOutput(ui={"files": [saved]})


def void(_count: int) -> None:
    """Drop the number of bytes written."""


def test_saved_file_that_is_gone_is_saved_again(tmp_path: Path):
    engine = SmallEngine(tmp_path, [save])
    prompt = {"s": described("Save", text="hello")}
    engine.run(prompt, job_id="one")
    file = tmp_path / "output" / "hello_00001_.txt"
    assert file.read_text() == "hello"
    engine.run(prompt, job_id="two")
    assert engine.started == []
    file.unlink()
    engine.run(prompt, job_id="one")
    assert engine.started == ["s"]
    assert file.read_text() == "hello"  # the same job, the same name
    engine.close()


def test_slow_results_and_saved_files_survive_a_restart(tmp_path: Path):
    @node("Slow", category="test")
    def slow(a: int) -> int:
        time.sleep(0.11)
        return a

    prompt = {
        "quick": described("Add", a=1),
        "slow": described("Slow", a=("quick", 0)),
        "o": described("Show", value=("slow", 0)),
        "s": described("Save", text="kept"),
    }
    for states in (
        {"quick": "ran", "slow": "ran", "o": "ran", "s": "ran"},
        {"slow": "disk", "o": "ran", "s": "disk"},
    ):
        engine = SmallEngine(tmp_path, [slow, save])
        engine.run(prompt)
        assert engine.states == states
        assert engine.shown("o") == [2]
        engine.close()


# Failures -----------------------------------------------------------------------------------------


def test_failure_names_the_node_and_other_branches_finish(engine: SmallEngine):
    prompt = {
        "bad": described("Fail", value="x"),
        "after": described("Add", a=("bad", 0)),
        "bad_out": described("Show", value=("after", 0)),
        **chain(2),
    }
    engine.run(prompt)
    assert engine.status == "error"
    assert engine.shown("out") == [2]
    assert "after" not in engine.states
    failed = engine.failures["bad"]
    assert failed.node_type == "Fail"
    assert failed.error.message == "ValueError: no luck with x"
    assert failed.error.exception_type == "ValueError"
    assert failed.inputs == {"value": ["x"]}
    assert "small_engine.py" in failed.error.traceback[0]


def test_a_node_that_takes_failures_runs_without_the_lost_values(tmp_path: Path):
    @node("Gather", category="test", is_output=True, takes_any_input=True, takes_failures=True)
    def gather(**values: AnyValue) -> NodeOutput:
        """What came."""
        return NodeOutput(ui={"values": [values]})

    engine = SmallEngine(tmp_path, (gather,))
    prompt = {
        "1": described("Fail"),
        "2": described("Add", a=("1", 0)),  # two ways from the failure to 4
        "3": described("Add", a=("1", 0), b=("2", 0)),
        "4": described("Add", a=("2", 0), b=("3", 0)),
        "5": described("Add", a=1),
        "6": described("Gather", lost=("4", 0), there=("5", 0)),
        "7": described("Show", value=("4", 0)),
    }
    for _ in range(2):  # its result is not kept
        engine.run(prompt)
        assert engine.status == "error"
        assert set(engine.failures) == {"1"}
        lost = Failed("ValueError: no luck with None")
        assert engine.shown("6") == [{"lost": lost, "there": 2}]
        assert "7" not in engine.states
    assert engine.started == ["1", "6"]
    engine.close()


def test_failed_node_runs_again_next_time(engine: SmallEngine):
    prompt = {"bad": described("Fail"), "o": described("Show", value=("bad", 0))}
    engine.run(prompt)
    engine.run(prompt)
    assert engine.started == ["bad"]


def test_expected_error_keeps_code_and_hint(tmp_path: Path):
    @node("Refuse", category="test", is_output=True)
    def refuse() -> None:
        raise NodeError("Too small.", hint="Use 64.", code="too_small")

    engine = SmallEngine(tmp_path, [refuse])
    engine.run({"r": described("Refuse")})
    error = engine.failures["r"].error
    assert (error.code, error.message, error.hint) == ("too_small", "Too small.", "Use 64.")
    engine.close()


class OutOfMemoryError(RuntimeError):
    """Named like the one of torch."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: not enough memory"),
    ],
    ids=["MemoryError", "device", "allocator"],
)
def test_out_of_memory_gives_advice_and_frees_models(tmp_path: Path, error: Exception):
    @node("Huge", category="test", is_output=True)
    def huge() -> None:
        raise error

    engine = SmallEngine(tmp_path, [huge])
    engine.run({"h": described("Huge"), **chain(1)})
    report = engine.failures["h"].error
    assert report.code == "out_of_memory"
    assert "smaller" in report.hint
    assert engine.pool.freed == [True]
    assert engine.shown("out") == [1]
    engine.close()


def test_exit_of_a_node_fails_the_node_only(tmp_path: Path):
    @node("Quit", category="test", is_output=True)
    def quit_now() -> None:
        sys.exit(3)

    engine = SmallEngine(tmp_path, [quit_now])
    engine.run({"q": described("Quit")})
    assert engine.failures["q"].error.exception_type == "SystemExit"
    engine.close()


def test_wrong_number_of_outputs_is_named(tmp_path: Path):
    @node("Pair", category="test")
    def pair() -> tuple[int, int]:
        return (1,)  # type: ignore[return-value]

    engine = SmallEngine(tmp_path, [pair])
    engine.run({"p": described("Pair"), "o": described("Show", value=("p", 1))})
    assert "declares 2 outputs but gave 1" in engine.failures["p"].error.message
    engine.close()


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ({"a": {"class_type": "Nothing", "inputs": {}}}, "missing_node_type"),
        ({"a": {"class_type": "Add"}, "b": []}, "invalid_prompt"),
        ({"a": described("Show", value=("b", 0))}, "bad_linked_input"),
        ({"b": described("Show", value=1)}, "prompt_no_outputs"),
        (
            {
                "a": described("Add", a=("b", 0)),
                "b": described("Add", a=("a", 0)),
                "o": described("Show", value=("a", 0)),
            },
            "dependency_cycle",
        ),
    ],
    ids=["type", "form", "link", "output", "circle"],
)
def test_broken_prompts_end_their_job_only(engine: SmallEngine, prompt: dict, code: str):
    outputs = ["a"] if "o" not in prompt else []
    engine.run(prompt, *outputs)
    last = engine.events[-1]
    assert isinstance(last, JobFinished)
    assert last.status == "error"
    assert last.error is not None
    assert last.error.code == code
    engine.run(chain(1))
    assert engine.status == "success"


def test_link_to_an_output_that_is_not_there(engine: SmallEngine):
    engine.run({"a": described("Add", a=1), "o": described("Show", value=("a", 7))})
    assert engine.failures["o"].error.code == "bad_linked_input"


# Lists, lazy inputs, blockers ---------------------------------------------------------------------


def test_lists_map_and_the_last_item_repeats(engine: SmallEngine):
    engine.run(
        {
            "three": described("Count", n=3),
            "two": described("Count", n=2),
            "sum": described("Add", a=("three", 0), b=("two", 0)),
            "total": described("Total", values=("sum", 0)),
            "o": described("Show", value=("sum", 0)),
            "t": described("Show", value=("total", 0)),
        }
    )
    assert engine.shown("o") == [0, 2, 3]
    assert engine.shown("t") == [5]
    assert engine.started.count("sum") == 1


def test_empty_list_calls_nothing(engine: SmallEngine):
    engine.run(
        {
            "none": described("Count", n=0),
            "sum": described("Add", a=("none", 0)),
            "t": described("Total", values=("sum", 0)),
            "o": described("Show", value=("t", 0)),
        }
    )
    assert engine.shown("o") == [0]


def test_lazy_input_runs_only_when_asked_for(engine: SmallEngine):
    prompt = {
        "l": described("Add", a=1),
        "r": described("Fail"),
        "p": described("Pick", which="left", left=("l", 0), right=("r", 0)),
        "o": described("Show", value=("p", 0)),
    }
    engine.run(prompt)
    assert engine.status == "success"
    assert engine.shown("o") == [2]
    assert engine.started == ["l", "p", "o"]
    prompt["p"]["inputs"]["which"] = "right"
    engine.run(prompt)
    assert engine.states["r"] == "failed"
    assert "p" not in engine.states


def test_lazy_input_that_is_cached_is_not_run(engine: SmallEngine):
    engine.run(chain(1))
    engine.run(
        {
            "l": described("Add", a=0),
            "p": described("Pick", which="left", left=("l", 0)),
            "o": described("Show", value=("p", 0)),
        }
    )
    assert engine.started == ["p", "o"]
    assert engine.cached == {"l": "memory"}


def test_failing_lazy_check_fails_the_node(tmp_path: Path):
    def check(**_inputs: object) -> list[str]:
        raise KeyError("x")

    @node("Shy", category="test", is_output=True, check_lazy=check)
    def shy(value: Annotated[AnyValue, Options(lazy=True)] = None) -> None:
        pass

    engine = SmallEngine(tmp_path, [shy])
    engine.run({"a": described("Add", a=1), "s": described("Shy", value=("a", 0))})
    assert engine.failures["s"].error.exception_type == "KeyError"
    engine.close()


def test_blocked_value_stops_what_uses_it(tmp_path: Path):
    @node("Gate", category="test")
    def gate(value: AnyValue, message: str) -> AnyValue:
        return Blocked(message or None)

    engine = SmallEngine(tmp_path, [gate])
    prompt = {
        "a": described("Add", a=1),
        "gate": described("Gate", value=("a", 0), message=""),
        "after": described("Add", a=("gate", 0)),
        "o": described("Show", value=("after", 0)),
        **chain(1),
    }
    engine.run(prompt)
    assert engine.status == "success"
    assert {k: engine.states[k] for k in ("gate", "after", "o")} == {
        "gate": "ran", "after": "blocked", "o": "blocked"
    }  # fmt: skip
    assert "after" not in engine.started
    prompt["gate"]["inputs"]["message"] = "Closed today."
    for _ in range(2):  # the error is shown each time, not cached away
        engine.run(prompt)
        assert engine.status == "error"
        assert engine.failures["after"].error.message == "Closed today."
        assert engine.states["o"] == "blocked"
    engine.close()


def test_blocked_item_of_a_list_stops_its_slice_only(tmp_path: Path):
    @node("Odd", category="test")
    def odd(a: int) -> int:
        return a if a % 2 else Blocked()  # type: ignore[return-value]

    engine = SmallEngine(tmp_path, [odd])
    engine.run(
        {
            "c": described("Count", n=4),
            "odd": described("Odd", a=("c", 0)),
            "more": described("Add", a=("odd", 0)),
            "o": described("Show", value=("more", 0)),
        }
    )
    assert engine.shown("o") == [2, 4]
    engine.close()


# Asynchronous nodes -------------------------------------------------------------------------------


def test_async_nodes_run_side_by_side_and_beside_others(engine: SmallEngine):
    prompt: dict = {"sync": described("Add", a=1), "os": described("Show", value=("sync", 0))}
    for i in range(4):
        prompt[f"w{i}"] = described("Wait", seconds=0.5, value=i)
        prompt[f"o{i}"] = described("Show", value=(f"w{i}", 0))
    begin = time.perf_counter()
    engine.run(prompt)
    assert time.perf_counter() - begin < 1.9  # one after the other they take two
    assert engine.status == "success"
    assert [engine.shown(f"o{i}") for i in range(4)] == [[0], [1], [2], [3]]
    assert engine.started.index("w3") < engine.started.index("sync")
    order = [e.node_id for e in engine.events if isinstance(e, NodeFinished)]
    assert order.index("os") < order.index("w0")


def test_async_node_maps_and_fails_like_others(tmp_path: Path):
    @node("Late", category="test")
    async def late(a: int) -> int:
        if a == 2:
            raise ValueError("two")
        return a

    engine = SmallEngine(tmp_path, [late])
    prompt = {
        "c": described("Count", n=2),
        "l": described("Late", a=("c", 0)),
        "t": described("Total", values=("l", 0)),
        "o": described("Show", value=("t", 0)),
    }
    engine.run(prompt)
    assert engine.shown("o") == [1]
    prompt["c"]["inputs"]["n"] = 3
    engine.run(prompt)
    assert engine.failures["l"].error.message == "ValueError: two"
    engine.close()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(1)], ids=["cancel", "exit"])
def test_async_node_that_ends_itself_fails(tmp_path: Path, error: BaseException):
    @node("Leave", category="test", is_output=True)
    async def leave() -> None:
        raise error

    engine = SmallEngine(tmp_path, [leave])
    engine.run({"l": described("Leave"), **chain(1)})
    assert engine.states["l"] == "failed"
    assert engine.shown("out") == [1]
    engine.close()


def test_async_pack_that_changes_its_input_is_named(tmp_path: Path):
    @node("Make", category="test")
    def make() -> AnyValue:
        return FakeTensor(1)

    @node("SpoilLater", category="test", is_output=True)
    async def spoil(value: AnyValue) -> None:
        await asyncio.sleep(0.001)
        value.add_(1)

    engine = SmallEngine(tmp_path, [make, with_pack(node_type_of(spoil), "rude_pack")])
    engine.run({"m": described("Make"), "s": described("SpoilLater", value=("m", 0))})
    assert any("rude_pack" in e.text for e in engine.events if isinstance(e, LogLine))
    engine.close()


def test_nodes_run_within_the_mode_also_on_the_loop(tmp_path: Path):
    entered: list[str] = []
    seen: dict[str, bool] = {}

    @contextmanager
    def mode() -> Iterator[None]:
        entered.append(threading.current_thread().name)
        yield
        entered.remove(threading.current_thread().name)

    @node("Now", category="test")
    def now() -> int:
        seen["now"] = threading.current_thread().name in entered
        return 1

    @node("Later", category="test")
    async def later(a: int) -> int:
        seen["later"] = threading.current_thread().name in entered
        return a

    engine = SmallEngine(tmp_path, [now, later], node_mode=mode)
    engine.run(
        {
            "n": described("Now"),
            "l": described("Later", a=("n", 0)),
            "o": described("Show", value=("l", 0)),
        }
    )
    engine.close()
    assert seen == {"now": True, "later": True}
    assert entered == []


def test_interrupt_ends_a_waiting_run(engine: SmallEngine):
    prompt = {"w": described("Wait", seconds=30.0), "o": described("Show", value=("w", 0))}
    threading.Timer(0.05, lambda: engine.core.interrupt("job")).start()
    begin = time.perf_counter()
    engine.run(prompt)
    assert time.perf_counter() - begin < 5
    assert engine.status == "interrupted"
    engine.run(chain(1))
    assert engine.status == "success"


# Context ------------------------------------------------------------------------------------------


def test_interrupt_ends_a_node_at_its_next_report(tmp_path: Path):
    @node("Steps", category="test", is_output=True)
    def steps(ctx: RunContext) -> None:
        for i in range(1_000_000):
            ctx.progress(i, 1_000_000)
            time.sleep(0.001)

    engine = SmallEngine(tmp_path, [steps])
    assert not engine.core.interrupt("job")
    threading.Timer(0.02, lambda: engine.core.interrupt("another")).start()
    threading.Timer(0.06, lambda: engine.core.interrupt("job")).start()
    begin = time.perf_counter()
    engine.run({"s": described("Steps")})
    assert 0.05 < time.perf_counter() - begin < 5
    assert engine.status == "interrupted"
    assert "s" not in engine.states
    assert 1 <= sum(isinstance(e, NodeProgress) for e in engine.events) <= 6
    engine.close()


def test_context_tells_and_knows(tmp_path: Path):
    seen = {}

    @node("Talk", category="test", is_output=True)
    def talk(ctx: RunContext) -> None:
        seen.update(job=ctx.job_id, node=ctx.node_id, prompt=ctx.prompt, info=ctx.extra_pnginfo)
        ctx.text("hello")
        ctx.log("note")
        ctx.progress(3, 3)

    engine = SmallEngine(tmp_path, [talk])
    prompt = {"t": described("Talk")}
    engine.run(prompt)
    assert seen == {"job": "job", "node": "t", "prompt": prompt, "info": {}}
    assert [e.text for e in engine.events if isinstance(e, NodeText)] == ["hello"]
    assert [e.text for e in engine.events if isinstance(e, LogLine)] == ["[t] note"]
    engine.close()


def test_each_step_has_its_preview_before_the_job_ends(tmp_path: Path):
    torch = pytest.importorskip("torch")

    @node("Paint", category="test", is_output=True)
    def paint(ctx: RunContext, steps: int) -> None:
        for i in range(steps):
            ctx.progress(i + 1, steps, torch.zeros(1, 8, 16, 3))

    engine = SmallEngine(tmp_path, [paint])
    engine.run({"p": described("Paint", steps=5)})
    previews = [e for e in engine.events if isinstance(e, NodePreview)]
    assert [preview.step for preview in previews] == [1, 2, 3, 4, 5]
    assert all(preview.data[:2] == b"\xff\xd8" for preview in previews)
    assert isinstance(engine.events[-1], JobFinished)
    engine.run({"p": described("Paint", steps=2000)})  # faster than they can be encoded
    steps = [e.step for e in engine.events if isinstance(e, NodePreview)]
    assert steps == sorted(set(steps))
    engine.run({"p": described("Paint", steps=6)}, previews=False)
    assert not any(isinstance(e, NodePreview) for e in engine.events)
    engine.close()


# Expansion ----------------------------------------------------------------------------------------


def expanding(tmp_path: Path, output: object, **more: object) -> SmallEngine:
    @node("Grow", category="test")
    def grow(n: int, ctx: RunContext) -> int:
        return output(n, ctx) if callable(output) else output  # type: ignore[return-value]

    return SmallEngine(tmp_path, [grow, *more.values()])  # type: ignore[list-item]


GROWN = {"g": described("Grow", n=4), "o": described("Show", value=("g", 0))}


def test_expansion_runs_in_place_and_is_shown_on_its_node(tmp_path: Path):
    engine = expanding(
        tmp_path,
        lambda n, _ctx: NodeOutput(
            result=(["2", 0],),
            expand={
                "1": described("Add", a=n),
                "2": described("Add", a=("1", 0), b=10),
                "s": described("Show", value=("1", 0)),
            },
        ),
    )
    engine.run(GROWN)
    assert engine.shown("o") == [15]
    inner = [e for e in engine.events if isinstance(e, NodeFinished) and e.node_id not in GROWN]
    assert len(inner) == 3
    assert {e.display_id for e in inner} == {"g"}
    assert [e.ui for e in inner if e.ui] == [{"values": [5]}]
    engine.run(GROWN, "g", "o")
    assert engine.started == []
    assert engine.shown("g") == [5]  # what the inner node shows, kept with the node
    engine.close()


def test_only_inner_nodes_see_expanded_ones_in_the_prompt(tmp_path: Path):
    seen: dict[str, int] = {}

    @node("Look", category="test")
    def look(a: int, ctx: RunContext) -> int:
        seen[ctx.node_id] = len(ctx.prompt)
        return a

    engine = expanding(
        tmp_path,
        NodeOutput(result=(["x", 0],), expand={"x": described("Look", a=1)}),
        look=look,
    )
    prompt = {
        "g": described("Grow", n=1),
        "after": described("Look", a=("g", 0)),
        "o": described("Show", value=("after", 0)),
    }
    engine.run(prompt)
    assert seen.pop("after") == 3
    assert list(seen.values()) == [4]
    engine.close()


def test_inner_nodes_are_cached_on_their_own(tmp_path: Path):
    engine = expanding(
        tmp_path,
        lambda n, _ctx: NodeOutput(
            result=(["b", 0],),
            expand={"a": described("Add", a=1), "b": described("Add", a=("a", 0), b=n)},
        ),
    )
    engine.run(GROWN)
    changed = {**GROWN, "g": described("Grow", n=5)}
    engine.run(changed)
    assert len(engine.started) == 3  # g, its second inner node, o
    assert engine.shown("o") == [7]
    engine.close()


def test_values_that_are_no_json_pass_through_an_expansion(tmp_path: Path):
    class Thing:
        def __init__(self, n: int) -> None:
            self.n = n

    @node("Open", category="test")
    def open_thing(thing: AnyValue) -> int:
        return thing.n

    engine = expanding(
        tmp_path,
        lambda n, _ctx: NodeOutput(
            result=(["w", 0],),
            expand={"w": {"class_type": "Open", "inputs": {"thing": Thing(n)}}},
        ),
        open_thing=open_thing,
    )
    engine.run(GROWN)
    assert engine.shown("o") == [4]
    engine.run({**GROWN, "g": described("Grow", n=9)})
    assert engine.shown("o") == [9]
    engine.close()


def test_expansion_without_links_keeps_plain_results(tmp_path: Path):
    engine = expanding(tmp_path, NodeOutput(result=(42,), expand={"x": described("Show", value=1)}))
    engine.run(GROWN)
    assert engine.shown("o") == [42]
    engine.close()


@pytest.mark.parametrize(
    ("expand", "code"),
    [
        ({"x": described("Nothing")}, "missing_node_type"),
        ({"x": []}, "node_error"),
        ({"x": described("Add", a=("gone", 0))}, "bad_linked_input"),
        ({"x": described("Add", a=("x", 0))}, "dependency_cycle"),
    ],
    ids=["type", "form", "link", "circle"],
)
def test_broken_expansion_fails_its_node(tmp_path: Path, expand: dict, code: str):
    engine = expanding(tmp_path, NodeOutput(result=(["x", 0],), expand=expand))
    engine.run({**GROWN, **chain(1)})
    assert engine.status == "error"
    assert engine.failures["g"].error.code == code
    assert engine.shown("out") == [1]
    engine.close()


def test_expansion_that_links_back_is_a_circle(tmp_path: Path):
    engine = expanding(
        tmp_path,
        lambda _n, ctx: NodeOutput(
            result=(["x", 0],), expand={"x": described("Add", a=(ctx.node_id, 0))}
        ),
    )
    engine.run(GROWN)
    assert engine.status == "error"
    assert next(iter(engine.failures.values())).error.code == "dependency_cycle"
    engine.close()


def test_deep_expansions_keep_short_ids(tmp_path: Path):
    """A node that expands into itself, with ids made from its own as packs do."""

    def output(n: int, ctx: RunContext) -> NodeOutput:
        if n == 0:
            return NodeOutput(result=(7,))
        inner = f"{ctx.node_id}.0.0.next"
        return NodeOutput(result=([inner, 0],), expand={inner: described("Grow", n=n - 1)})

    engine = expanding(tmp_path, output)
    engine.run({**GROWN, "g": described("Grow", n=200)})
    assert engine.shown("o") == [7]
    assert max(len(node_id) for node_id in engine.started) < 120
    engine.close()


def test_failure_inside_an_expansion_is_shown_on_its_node(tmp_path: Path):
    engine = expanding(tmp_path, NodeOutput(result=(["x", 0],), expand={"x": described("Fail")}))
    engine.run(GROWN)
    (failed,) = engine.failures.values()
    assert (failed.display_id, failed.node_type) == ("g", "Fail")
    assert engine.status == "error"
    engine.close()


def test_mapped_expansions_keep_their_order(tmp_path: Path):
    engine = expanding(
        tmp_path,
        lambda n, _ctx: NodeOutput(result=(["x", 0],), expand={"x": described("Add", a=n, b=100)}),
    )
    engine.run(
        {
            "c": described("Count", n=3),
            "g": described("Grow", n=("c", 0)),
            "o": described("Show", value=("g", 0)),
        }
    )
    assert engine.shown("o") == [100, 101, 102]
    engine.close()


# Packs --------------------------------------------------------------------------------------------


class FakeTensor:
    """Counts in-place changes as torch does."""

    _version = 0

    def __init__(self, value: int) -> None:
        self.value = value

    def add_(self, n: int) -> None:
        self.value += n
        self._version += 1

    def clone(self) -> "FakeTensor":
        return FakeTensor(self.value)


def test_pack_that_changes_its_input_is_named_and_gets_copies(tmp_path: Path):
    made = []

    @node("Make", category="test")
    def make(n: int) -> AnyValue:
        made.append(n)
        return {"samples": FakeTensor(n)}

    @node("Spoil", category="test")
    def spoil(latent: AnyValue, by: int) -> int:
        latent["samples"].add_(by)
        return latent["samples"].value

    pack_node = with_pack(node_type_of(spoil), "rude_pack")
    engine = SmallEngine(tmp_path, [make, pack_node])

    def prompt(by: int) -> dict:
        return {
            "m": described("Make", n=1),
            "s": described("Spoil", latent=("m", 0), by=by),
            "o": described("Show", value=("s", 0)),
        }

    engine.run(prompt(1))
    (warning,) = [e.text for e in engine.events if isinstance(e, LogLine)]
    assert "rude_pack" in warning
    assert "latent" in warning
    assert engine.shown("o") == [2]
    engine.run(prompt(5))  # the spoilt value was dropped, so it is made again
    assert engine.shown("o") == [6]
    engine.run(prompt(7))  # and this time the node got a copy, so the kept one is whole
    assert engine.shown("o") == [8]
    assert made == [1, 1]
    engine.close()


# The whole ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [10_000])
def test_long_chain(engine: SmallEngine, length: int):
    engine.run(chain(length))
    assert engine.shown("out") == [length]


def test_fan_out_and_in(engine: SmallEngine):
    prompt = {"root": described("Add", a=0)}
    for i in range(1000):
        prompt[f"n{i}"] = described("Add", a=("root", 0), b=i)
        prompt[f"o{i}"] = described("Show", value=(f"n{i}", 0))
    engine.run(prompt)
    assert engine.shown("o999") == [1000]
    assert len(engine.events) == 2 + 2 * 2001


def test_results_that_nothing_reads_are_let_go(tmp_path: Path):
    class Big:
        pass

    alive: list[weakref.ref] = []
    counts = []

    @node("Big", category="test")
    def big(before: AnyValue = None) -> AnyValue:
        counts.append(sum(r() is not None for r in alive))
        thing = Big()
        alive.append(weakref.ref(thing))
        return thing

    engine = SmallEngine(tmp_path, [big], max_entries=0)
    prompt = {"b0": described("Big")}
    for i in range(1, 12):
        prompt[f"b{i}"] = described("Big", before=(f"b{i - 1}", 0))
    prompt["o"] = described("Show", value=("b11", 0))
    engine.run(prompt)
    assert max(counts) <= 2
    engine.close()


def test_own_checks_of_nodes(tmp_path: Path):
    asked = []

    def check(values: dict, types: dict) -> list[Problem]:
        asked.append((values, types))
        return [Problem(code="custom_validation_failed", message="too odd")] if values["b"] else []

    async def check_later(values: dict, types: dict) -> list[Problem]:
        return check(values, types)

    def broken(_values: dict, _types: dict) -> list[Problem]:
        raise RuntimeError("oops")

    kinds = []
    for name, function in (("Now", check), ("Later", check_later), ("Broken", broken)):
        base = node_type_of(add)
        kinds.append(replace(base, spec=replace(base.spec, name=name), validate=function))
    engine = SmallEngine(tmp_path, kinds)
    prompt = {
        "s": described("Add", a=1),
        "n": described("Now", a=("s", 0), b=3),
        "l": described("Later", a=2, b=4),
        "x": described("Broken", a=2, b=4),
    }
    problems = engine.core.validate(prompt, ["n", "l", "x", "s"])
    assert [(p.node_id, p.code) for p in problems] == [
        ("n", "custom_validation_failed"),
        ("l", "custom_validation_failed"),
        ("x", "exception_during_validation"),
    ]
    assert asked == [({"b": 3}, {"a": "INT"}), ({"a": 2, "b": 4}, {})]
    engine.close()


def test_worker_side_imports_without_torch():
    code = (
        "import sys, engine.run.core, engine.run.assets, engine.run.png_info;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'diffusers', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_expansion_may_use_results_that_were_let_go(tmp_path: Path):
    def output(_n: int, _ctx: RunContext) -> NodeOutput:
        expand = {"x": described("Add", a=("early", 0), b=1)}
        return NodeOutput(result=(["x", 0],), expand=expand)

    prompt = {
        "early": described("Add", a=5),
        "user": described("Add", a=("early", 0)),
        "g": described("Grow", n=("user", 0)),
        "o": described("Show", value=("g", 0)),
    }
    engine = expanding(tmp_path, output)
    engine.run(prompt)
    assert engine.shown("o") == [7]
    engine.close()


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_graph_gives_what_direct_evaluation_gives(data: st.DataObject):
    """Small graphs, run again and again with changes and hardly any room in memory."""
    with TemporaryDirectory() as folder:
        engine = SmallEngine(Path(folder), max_entries=data.draw(st.integers(0, 6)))
        constants = st.integers(-3, 3)
        prompt: dict = {}
        for _ in range(3):
            for i in range(data.draw(st.integers(1, 7))):
                links = st.sampled_from([*(str(j) for j in range(i))] or [None])
                inputs = {}
                for name in ("a", "b"):
                    source = data.draw(links) if data.draw(st.booleans()) else None
                    inputs[name] = (source, 0) if source else data.draw(constants)
                prompt[str(i)] = described("Add", **inputs)
            values: dict[str, int] = {}
            for node_id, item in prompt.items():
                if item["class_type"] == "Add":
                    a, b = (
                        values[v[0]] if isinstance(v, list) else v for v in item["inputs"].values()
                    )
                    values[node_id] = a + b
            shown = {f"o{i}": described("Show", value=(i, 0)) for i in values}
            engine.run({**prompt, **shown})
            assert {i: engine.shown(f"o{i}") for i in values} == {i: [v] for i, v in values.items()}
        engine.close()


def test_what_changed_is_known_after_a_restart(tmp_path: Path):
    before = SmallEngine(tmp_path)
    before.run(chain(2, seed=1))
    before.close()
    after = SmallEngine(tmp_path)
    after.run(chain(2, seed=2))
    assert after.reason("0") == "input a changed"
    after.close()
    (tmp_path / "user" / "weft" / "reasons.json").write_text('[[1], {}, "x"')
    damaged = SmallEngine(tmp_path)
    damaged.run(chain(2, seed=3))
    assert damaged.reason("0") == "first run"
    damaged.close()


def test_node_that_is_overtaken_gives_way_and_is_called_again(tmp_path: Path):
    calls: list[bool] = []

    @node("Long", category="test", is_output=True)
    def long(ctx: RunContext) -> NodeOutput:
        ctx.show({"steps": [len(calls)]})
        calls.append(ctx.is_overtaken)
        if len(calls) == 1:
            engine.core.overtake("another")
            assert not ctx.is_overtaken
            engine.core.overtake("job")
            if ctx.is_overtaken:
                ctx.give_way()
        return NodeOutput(ui={"steps": [len(calls)]})

    engine = SmallEngine(tmp_path, [long])
    prompt = {
        "a": described("Add", a=1),
        "l": described("Long"),
        "s": described("Show", value=("a", 0)),
    }
    events = engine.run(prompt)
    assert events[-1] == JobGaveWay(job_id="job")
    assert not any(isinstance(event, JobFinished | NodeFailed) for event in events)
    events = engine.run(prompt)
    assert engine.status == "success"
    assert calls == [False, False]
    shown = [event.ui for event in events if isinstance(event, NodeShown)]
    assert shown == [{"steps": [1]}]
    engine.close()
