"""Runs the nodes of one job: takes results from the caches and calls what is missing.

The order comes from the plan, keys from the fingerprinter, results from the store. It knows no
transport and no files. Nothing recurses, so memory alone limits the length of a graph.
"""

import time
from asyncio import gather
from collections import Counter, deque
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from queue import Empty
from typing import Any, cast

from engine.api.context import RunContext
from engine.api.errors import Cancelled, EngineError, NodeError
from engine.api.events import (
    ErrorReport,
    LogLine,
    NodeFailed,
    NodeFinished,
    NodeRecord,
    NodesCached,
    NodeStarted,
)
from engine.api.node import Blocked, Failed, NodeOutput
from engine.api.spec import BUILTIN_PACK
from engine.graph.plan import Plan
from engine.graph.prompt import Link, Node, as_link, node_to_json
from engine.run.expansion import HeldValues
from engine.run.failures import error_report, is_out_of_memory, short_inputs
from engine.run.guard import changed_inputs, copied, storage_of, storages, tensor_versions
from engine.run.mapping import Linked, merge_results, merge_ui, slices
from engine.run.memory_cache import Result
from engine.run.task import Completion, Expanded, Kind, RunParts, Task, kind_of

_WAKE_S = 1.0  # waits end this often, so that a signal can end them on every platform


class Run:
    """One execution of a job; `execute` is called once."""

    def __init__(self, parts: RunParts) -> None:
        self._parts = parts
        self._kinds: dict[str, Kind] = {}
        self._tasks: dict[str, Task] = {}
        self._results: dict[str, Result] = {}
        self._lost: dict[str, str] = {}  # nodes without a result, and why
        self._looked_up: set[str] = set()
        self._cached: dict[str, NodeRecord] = {}  # found, but not yet announced
        self._running: dict[str, Future[Any]] = {}
        self._held = HeldValues()
        self._described: dict[str, Any] = {}
        self._turns: deque[Task] = deque()  # put off while asynchronous nodes are started
        self._has_async = False
        self._has_failed = False
        self._readers = self._count_readers()
        self._plan = Plan(parts.graph, parts.catalogue, parts.outputs, has_result=self._find)

    def prompt(self) -> Mapping[str, Any]:
        """The prompt in API form, with the nodes of expansions."""
        nodes, described = self._plan.graph.nodes, self._described
        for node_id in islice(nodes, len(described), None):
            described[node_id] = node_to_json(nodes[node_id])
        return described

    def execute(self) -> bool:
        """Run everything that the outputs need; False if a node failed.

        Raises: Cancelled.
        """
        self._announce_cached(with_unvisited=True)
        try:
            while True:
                self._check_cancelled()
                task = self._next_task()
                if task is not None:
                    self._advance(task)
                elif not self._running:
                    break
                self._take_completions(wait=task is None)
        finally:
            for future in list(self._running.values()):
                future.cancel()
        self._report_circle()
        return not self._has_failed

    # Results that exist -----------------------------------------------------------------------

    def _find(self, node_id: str) -> bool:
        self._looked_up.add(node_id)
        found = self._parts.store.find(self._parts.keys.of(node_id))
        if found is None:
            return False
        if not self._parts.keys.is_current(node_id, found[0].reads):
            self._parts.store.drop(self._parts.keys.of(node_id))
            return False
        self._results[node_id], self._cached[node_id] = found
        self._parts.reads.found(node_id, found[0].reads)
        return True

    def _announce_cached(self, *, with_unvisited: bool = False) -> None:
        """Tell which results were found; also those that only found ones would need."""
        records, self._cached = self._cached, {}
        shown = [(i, r, self._results[i].ui) for i, r in records.items()]
        if with_unvisited:
            keys, store = self._parts.keys, self._parts.store
            for node_id in keys.order:
                if node_id not in self._looked_up:
                    record = store.peek(keys.of(node_id))
                    if record is not None:
                        records[node_id] = record
        if records:
            self._parts.emit(NodesCached(job_id=self._parts.job_id, records=records))
        for node_id, record, ui in shown:
            if ui is not None:
                self._emit_finished(node_id, record, ui)

    def _count_readers(self) -> Counter[str] | None:
        """How many links read each result, or None if an expansion might add more of them."""
        nodes = self._parts.graph.nodes
        counts: Counter[str] = Counter()
        for node_id in self._parts.keys.order:
            node = nodes[node_id]
            kind = self._kind(node.class_type)
            if kind.raw or any(i.type == "DYNPROMPT" for i in kind.node_type.spec.inputs):
                return None
            counts.update(v.node_id for v in node.inputs.values() if type(v) is Link)
        counts.update(self._parts.outputs)
        return counts

    def _release_sources(self, node: Node) -> None:
        """Let go of results that nothing in this run reads any more."""
        if self._readers is None or node.id not in self._parts.graph.nodes:
            return
        for value in node.inputs.values():
            if type(value) is Link:
                self._readers[value.node_id] -= 1
                if not self._readers[value.node_id]:
                    self._results.pop(value.node_id, None)

    # One turn of a node -----------------------------------------------------------------------

    def _kind(self, class_type: str) -> Kind:
        kind = self._kinds.get(class_type)
        if kind is None:
            kind = self._kinds[class_type] = kind_of(self._parts.find_type(class_type))
            self._has_async = self._has_async or kind.node_type.spec.is_async
        return kind

    def _next_task(self) -> Task | None:
        """Whose turn it is; asynchronous nodes come first, so that others run beside them."""
        while (node_id := self._plan.next_ready()) is not None:
            task = self._task(node_id)
            if not self._has_async or task.kind.node_type.spec.is_async:
                return task
            self._turns.append(task)
        return self._turns.popleft() if self._turns else None

    def _task(self, node_id: str) -> Task:
        task = self._tasks.get(node_id)
        if task is None:
            node = self._plan.graph.nodes[node_id]
            task = self._tasks[node_id] = Task(
                node=node,
                kind=self._kind(node.class_type),
                display_id=self._plan.display_id(node_id),
            )
        return task

    def _advance(self, task: Task) -> None:
        """Give a node its turn: ask for its lazy inputs, call it, or finish its expansion."""
        if task.is_expanded:
            self._complete(task)
            return
        try:
            lists = self._input_lists(task)
        except NodeError as error:
            self._fail(task, error, {})
            return
        if not (task.kind.lazy and self._asks_for_more(task, lists)):
            self._call(task, lists)

    def _input_lists(self, task: Task) -> dict[str, list[Any]]:
        kind = task.kind
        takes_any = kind.node_type.spec.takes_any_input
        lists: dict[str, list[Any]] = {}
        for name, value in task.node.inputs.items():
            if name not in kind.inputs and not takes_any:
                continue
            if type(value) is not Link:
                lists[name] = [self._held.value_of(value)]
            elif name in kind.raw:
                lists[name] = [[value.node_id, value.index]]
            elif name in kind.lazy and name not in task.asked:
                lists[name] = [None]
            else:
                lists[name] = self._values(value)
        return lists

    def _values(self, link: Link) -> list[Any]:
        if link.node_id in self._lost:
            return [Failed(self._lost[link.node_id])]
        outputs = self._result_of(link.node_id).outputs
        if not 0 <= link.index < len(outputs):
            raise NodeError(
                f"Node {link.node_id} has no output {link.index}.",
                hint=f"It has {len(outputs)}, counted from 0.",
                code="bad_linked_input",
            )
        return outputs[link.index]

    def kept_values(self, link: Link) -> Sequence[Any]:
        """The values of an output as far as its node has run or its result was kept; else ()."""
        result = self._results.get(link.node_id)
        outputs = result.outputs if result else ()
        return outputs[link.index] if 0 <= link.index < len(outputs) else ()

    def _result_of(self, node_id: str) -> Result:
        """The result of a finished node; an expansion may ask for one that was let go before."""
        result = self._results.get(node_id)
        if result is None:
            found = self._parts.store.find(self._parts.keys.of(node_id))
            if found is None:
                raise NodeError(
                    f"The result of node {node_id} was let go before an expansion asked for it.",
                    hint="Let the node that expands take a link to it as an input (rawLink).",
                )
            result = self._results[node_id] = found[0]
        return result

    def _asks_for_more(self, task: Task, lists: Mapping[str, list[Any]]) -> bool:
        """Whether a node still needs lazy inputs; it gets another turn when they are there."""
        node_type = task.kind.node_type
        assert node_type.check_lazy is not None, "only such nodes have lazy inputs"
        names: set[str] = set()
        try:
            for i, call in enumerate(slices(lists, takes_lists=node_type.spec.takes_lists)):
                if not isinstance(call, Blocked):
                    names.update(node_type.check_lazy(call, self._context(task, i)) or ())
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - the seam to a node's own code
            self._fail(task, error, lists)
            return True
        inputs = task.node.inputs
        new = [n for n in inputs if n in names and n in task.kind.lazy and n not in task.asked]
        new = [n for n in new if type(inputs[n]) is Link]
        if not new:
            return False
        task.asked.update(new)
        self._plan.require(task.node.id, new)
        self._announce_cached()
        return True

    def _context(self, task: Task, call_index: int) -> RunContext:
        return self._parts.make_context(task.node.id, task.display_id, call_index)

    # Calls ------------------------------------------------------------------------------------

    def _call(self, task: Task, lists: dict[str, list[Any]]) -> None:
        """Call the node once per slice of its inputs; it ends now, or later if asynchronous."""
        spec = task.kind.node_type.spec
        calls = slices(lists, takes_lists=spec.takes_lists)
        if calls and all(isinstance(call, Blocked) for call in calls):
            task.calls = [call for call in calls if isinstance(call, Blocked)]
            self._complete(task)
            return
        self._parts.emit(
            NodeStarted(job_id=self._parts.job_id, node_id=task.node.id, display_id=task.display_id)
        )
        if spec.pack != BUILTIN_PACK:
            if spec.name in self._parts.copying_types:
                calls = [call if isinstance(call, Blocked) else copied(call) for call in calls]
            else:
                task.watched = tensor_versions(lists)
        call_node = task.kind.node_type.call
        task.started_s = time.perf_counter()
        try:
            returned = [
                call if isinstance(call, Blocked) else call_node(call, self._context(task, i))
                for i, call in enumerate(calls)
            ]
        except Cancelled:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the seam to a node's own code
            self._fail(task, error, lists)
            return
        if any(isinstance(item, Awaitable) for item in returned):
            self._await(task, returned, lists)
            return
        task.seconds = time.perf_counter() - task.started_s
        self._take_results(task, cast("list[NodeOutput | Blocked]", returned), lists)

    def _await(self, task: Task, returned: list[Any], lists: dict[str, list[Any]]) -> None:
        async def all_calls() -> list[NodeOutput | Blocked]:
            return list(await gather(*[_settled(item) for item in returned]))

        def when_done(future: Future[Any]) -> None:
            gone = NodeError("The node cancelled itself.")
            error = gone if future.cancelled() else future.exception()
            self._parts.completions.put(
                Completion(
                    task=task,
                    results=[] if error else future.result(),
                    error=error,
                    lists=lists,
                    seconds=time.perf_counter() - task.started_s,
                )
            )

        self._running[task.node.id] = self._parts.loop.submit(all_calls(), when_done)

    def _take_completions(self, *, wait: bool) -> None:
        """Take in asynchronous nodes that ended; with `wait`, until one has."""
        completions = self._parts.completions
        while self._running and (wait or not completions.empty()):
            try:
                done = completions.get(timeout=_WAKE_S)
            except Empty:
                done = None
            self._check_cancelled()
            if done is None:
                continue
            wait = False
            del self._running[done.task.node.id]
            done.task.seconds = done.seconds
            if done.error is None:
                self._take_results(done.task, done.results, done.lists)
            elif isinstance(done.error, Cancelled):
                raise done.error
            else:
                self._fail(done.task, done.error, done.lists)

    def _take_results(
        self, task: Task, results: list[NodeOutput | Blocked], lists: Mapping[str, list[Any]]
    ) -> None:
        self._check_unchanged(task)
        if not any(isinstance(r, NodeOutput) and r.expand is not None for r in results):
            task.calls = list(results)
            self._complete(task, lists)
            return
        try:
            self._expand(task, results)
        except EngineError as error:
            self._fail(task, error, lists)

    def _check_unchanged(self, task: Task) -> None:
        """Drop kept results that a node changed in place, and copy for its type from then on."""
        watched, task.watched = task.watched, {}
        names = changed_inputs(watched)
        if not names:
            return
        spec = task.kind.node_type.spec
        self._parts.copying_types.add(spec.name)
        changed = {storage_of(t) for name in names for t, _ in watched[name]}
        for node_id, result in self._results.items():
            if changed & storages(result.outputs):
                self._parts.store.drop(self._parts.keys.of(node_id))
        self._parts.emit(
            LogLine(
                level="warning",
                text=f"{spec.name} ({task.node.id}) of the pack {spec.pack} changed its input "
                f"{', '.join(names)} in place; it gets copies from now on.",
            )
        )

    # Expansion --------------------------------------------------------------------------------

    def _expand(self, task: Task, results: Sequence[NodeOutput | Blocked]) -> None:
        """Add the sub-graphs of a node's calls to the plan, and wait for what is needed of them.

        Raises: GraphInvalid or NodeError when they cannot run.
        """
        node_id, nodes = task.node.id, self._plan.graph.nodes
        needed: list[str] = []
        for i, call in enumerate(results):
            if isinstance(call, Blocked) or call.expand is None:
                task.calls.append(call)
                continue
            source = f"{self._parts.keys.of(node_id)}/{i}"
            expand = self._held.hold(call.expand, self._plan.graph.label(node_id), source)
            ids = self._plan.expand(node_id, expand, call=i).ids
            result: list[Any] = []
            for value in call.result:
                link = as_link(value)
                if link is not None:
                    link = Link(ids.get(link.node_id, link.node_id), link.index)
                is_link = link is not None and link.node_id in nodes
                result.append(link if is_link else value)
            sinks = [
                new
                for new in ids.values()
                if self._kind(nodes[new].class_type).node_type.spec.is_output
            ]
            needed += [v.node_id for v in result if type(v) is Link] + sinks
            task.calls.append(Expanded(result=tuple(result), sinks=tuple(sinks), ui=call.ui))
        task.is_expanded = True
        self._parts.keys.add(self._plan.graph, needed)
        self._plan.wait_for(node_id, needed)
        self._announce_cached()

    def _resolved(self, call: NodeOutput | Expanded | Blocked) -> tuple[Any, ...] | Blocked:
        """The result of one call, links into its sub-graph replaced by their values."""
        if isinstance(call, Blocked):
            return call
        if isinstance(call, NodeOutput):
            return call.result
        return tuple(Linked(self._values(v)) if type(v) is Link else v for v in call.result)

    def _shown(self, task: Task, *, with_inner: bool) -> Mapping[str, Any] | None:
        """What a node shows; what the nodes of its expansions show is told by these themselves."""
        shown = [call.ui for call in task.calls if not isinstance(call, Blocked)]
        if with_inner:
            sinks = [i for call in task.calls if isinstance(call, Expanded) for i in call.sinks]
            shown += [self._results[node_id].ui for node_id in sinks]
        return merge_ui(shown)

    # The end of a node ------------------------------------------------------------------------

    def _complete(self, task: Task, lists: Mapping[str, list[Any]] | None = None) -> None:
        """Make the result of a task from its calls, keep it, and tell everybody."""
        node_id = task.node.id
        try:
            outputs = merge_results(
                task.kind.node_type.spec, [self._resolved(call) for call in task.calls]
            )
        except NodeError as error:
            self._fail(task, error, lists or {})
            return
        seconds = time.perf_counter() - task.started_s if task.is_expanded else task.seconds
        ui = self._shown(task, with_inner=True)
        reads = self._parts.reads.made_of(node_id, _sources(task), self._plan.graph)
        result = Result(outputs=outputs, ui=ui, seconds=seconds, reads=reads)
        self._results[node_id] = result
        stops = [call for call in task.calls if isinstance(call, Blocked)]
        message = next((stop.message for stop in stops if stop.message), None)
        if not stops and not self._is_partial(task.node):
            self._parts.store.keep(self._parts.keys.of(node_id), result, self._parts.job_id)
        if message is not None:
            self._report_failure(task, ErrorReport(code="execution_blocked", message=message), {})
        elif stops and len(stops) == len(task.calls):
            record = NodeRecord(state="blocked", reason="an input is blocked")
            self._emit_finished(node_id, record, None)
        else:
            reason = self._parts.keys.reason(node_id)
            record = NodeRecord(state="ran", seconds=task.seconds, reason=reason)
            self._emit_finished(node_id, record, self._shown(task, with_inner=False))
        del self._tasks[node_id]
        self._release_sources(task.node)
        self._plan.mark_done(node_id)

    def _emit_finished(
        self, node_id: str, record: NodeRecord, ui: Mapping[str, Any] | None
    ) -> None:
        self._parts.emit(
            NodeFinished(
                job_id=self._parts.job_id,
                node_id=node_id,
                display_id=self._plan.display_id(node_id),
                record=record,
                ui=ui,
            )
        )

    def _fail(self, task: Task, error: BaseException, lists: Mapping[str, list[Any]]) -> None:
        """Report a failure; what needs the node never gets its turn, other branches go on."""
        self._check_unchanged(task)
        report = error_report(error)
        self._report_failure(task, report, short_inputs(lists))
        for node_id in self._plan.mark_failed(task.node.id, self._takes_failures):
            self._lost.setdefault(node_id, report.message)
        if is_out_of_memory(error):
            self._parts.free_memory()

    def _takes_failures(self, node_id: str) -> bool:
        kind = self._kind(self._plan.graph.nodes[node_id].class_type)
        return kind.node_type.spec.takes_failures

    def _is_partial(self, node: Node) -> bool:
        """Whether a node ran though nodes before it failed."""
        return any(type(v) is Link and v.node_id in self._lost for v in node.inputs.values())

    def _report_failure(self, task: Task, report: ErrorReport, inputs: Mapping[str, Any]) -> None:
        self._has_failed = True
        self._parts.emit(
            NodeFailed(
                job_id=self._parts.job_id,
                node_id=task.node.id,
                display_id=task.display_id,
                node_type=task.kind.node_type.spec.name,
                error=report,
                inputs=inputs,
            )
        )

    def _report_circle(self) -> None:
        """Name nodes that wait for each other: a circle that an expansion made."""
        circle = self._plan.blocked_by()
        if circle:
            error = NodeError(
                f"Nodes wait for each other: {', '.join(circle[:12])}.",
                hint="The sub-graph of an expansion links back to the node that made it.",
                code="dependency_cycle",
            )
            self._fail(self._task(circle[0]), error, {})

    def _check_cancelled(self) -> None:
        if self._parts.is_cancelled():
            raise Cancelled


def _sources(task: Task) -> list[str]:
    """The nodes whose results went into that of a task, inner ones too."""
    links = [v for v in task.node.inputs.values() if type(v) is Link]
    expanded = [call for call in task.calls if isinstance(call, Expanded)]
    links += [v for call in expanded for v in call.result if type(v) is Link]
    return [link.node_id for link in links] + [i for call in expanded for i in call.sinks]


async def _settled(item: Any) -> NodeOutput | Blocked:
    try:
        return await item if isinstance(item, Awaitable) else item
    except SystemExit as error:  # would end the loop's thread
        raise NodeError("The node tried to end the process.") from error
