"""Nodes of packs inside the worker core: what their features do to a whole run."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.api.events import NodeFailed, NodeFinished, RunEvent
from engine.graph.catalogue import Catalogue
from engine.graph.prompt import parse_prompt
from engine.graph.validate import validate
from engine.plugins.check_values import CheckContext
from engine.plugins.loader import PackLoader
from engine.plugins.registry import NodeRegistry
from engine.run.core import JobRequest, WorkerCore
from engine.run.memory_cache import MemoryCache
from engine.run.store import Caches


class NoFiles:
    def file_digest(self, folder: str, name: str, check: Callable[[], None] | None = None) -> str:
        return name

    def view(
        self,
        job_id: str,
        node_id: str,
        call_index: int,
        prompt: Callable[[], Mapping[str, Any]],
        note: Callable[[str, str], None],
    ) -> CheckContext:
        return CheckContext(Path())


class Runner:
    def __init__(self, registry: NodeRegistry) -> None:
        self.events: list[RunEvent] = []
        caches = Caches(
            memory=MemoryCache(budget_bytes=10**6, size_of=lambda _value: 100),
            disk=None,
            is_shown_file_there=lambda _file: True,
        )
        pool: Any = None
        self.core = WorkerCore(registry, pool, NoFiles(), caches, self.events.append)
        self._jobs = 0

    def run(self, **nodes: tuple[str, dict[str, Any]]) -> dict[str, Any]:
        """What the output nodes show, or the message of a node's failure, by id."""
        prompt = {i: {"class_type": kind, "inputs": inputs} for i, (kind, inputs) in nodes.items()}
        self.events.clear()
        self._jobs += 1
        self.core.run(JobRequest(job_id=f"job {self._jobs}", prompt=prompt))
        shown: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, NodeFinished) and event.ui:
                shown[event.display_id] = event.ui.get("text")
            elif isinstance(event, NodeFailed):
                shown[event.display_id] = event.error.message
        return shown

    def state(self, node_id: str) -> str:
        """How a node got its result."""
        found = [e for e in self.events if isinstance(e, NodeFinished) and e.node_id == node_id]
        return found[-1].record.state if found else "none"


@pytest.fixture
def runner(registry: NodeRegistry) -> Iterator[Runner]:
    made = Runner(registry)
    yield made
    made.core.close()


def show(node_id: str, index: int = 0) -> tuple[str, dict[str, Any]]:
    return "FeatureOutput", {"text": [node_id, index]}


def test_lists_map_over_the_nodes_after_them(runner: Runner) -> None:
    shown = runner.run(a=("FeatureLists", {"n": 7}), z=show("a"))
    assert shown == {"z": [7, ["a"]]}


def test_only_the_lazy_input_that_is_asked_for_runs(runner: Runner) -> None:
    shown = runner.run(
        yes=("FeatureAsync", {"n": 1}),
        no=("FeatureAsync", {"n": 5}),
        pick=("FeatureLazy", {"which": True, "yes": ["yes", 0], "no": ["no", 0]}),
        z=show("pick"),
    )
    assert shown == {"z": [2]}
    assert (runner.state("yes"), runner.state("no")) == ("ran", "none")


def test_a_blocker_stops_what_hangs_on_its_output(runner: Runner) -> None:
    shown = runner.run(a=("FeatureBlocker", {"how": "one"}), y=show("a", 0), z=show("a", 1))
    assert shown["y"] == [1]
    assert "z" not in shown or "stop here" in str(shown["z"])


def test_nan_runs_a_node_in_every_job(runner: Runner) -> None:
    states: list[str] = []
    for seed in (1, 1, 0, 0):
        runner.run(
            i=("FeatureAsync", {"n": 1}),
            a=("FeatureChanges", {"seed": seed, "image": ["i", 0]}),
            z=show("a"),
        )
        states.append(runner.state("a"))
    assert states[0] == "ran" and states[1] != "ran" and states[2:] == ["ran", "ran"]


def test_expansion_runs_in_place_of_the_node(runner: Runner) -> None:
    shown = runner.run(
        m=("FeatureAsync", {"n": 0}), a=("FeatureExpand", {"model": ["m", 0]}), z=show("a")
    )
    assert shown == {"z": [2]}


def test_undeclared_inputs_come_through_links(runner: Runner) -> None:
    shown = runner.run(
        m=("FeatureAsync", {"n": 0}), a=("FeatureAnyInput", {"x": ["m", 0], "y": 5}), z=show("a")
    )
    assert shown == {"z": [6]}


def test_declarative_nodes_run_too(runner: Runner) -> None:
    shown = runner.run(a=("SchemaBlend", {"a": 1, "share": 0.25, "speed": "slow"}), z=show("a"))
    assert shown == {"a": ("a slow",), "z": [0.25]}


def test_own_checks_are_asked(runner: Runner) -> None:
    prompt = {"1": {"class_type": "FeatureAsyncChecks", "inputs": {"low": 2, "high": 1}}}
    (problem,) = runner.core.validate(prompt, ["1"])
    assert (problem.code, problem.node_id) == ("custom_validation_failed", "1")


def test_validation_says_which_pack_a_node_type_waits_in(loader: PackLoader) -> None:
    catalogue = Catalogue({}, loader.unavailable())
    graph = parse_prompt({"1": {"class_type": "HostUser", "inputs": {}}})
    found = validate(graph, catalogue, lambda _folder: ()).problems
    hints = [p.hint or "" for p in found if p.code == "missing_node_type"]
    assert hints and "is in the pack host_user, which could not be loaded" in hints[0]
