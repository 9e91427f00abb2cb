"""All problems of a graph at once, before anything runs, and which of its outputs may run."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from engine.api.errors import Problem, Severity
from engine.api.spec import InputSpec
from engine.graph.catalogue import Catalogue, Entry, ListFiles
from engine.graph.prompt import Constant, Graph, Input, Link, Node, shorten, shown
from engine.graph.typecheck import fits
from engine.graph.values import Choices, Misfit, fit
from engine.graph.walk import Walk, walk
from engine.text.lora_tags import START
from engine.text.suggest import did_you_mean, is_likely_typo

_MAX_DEPENDANTS = 20  # outputs named per refused node
_MAX_CYCLE_SHOWN = 12
_MAX_COMPARISONS = 20_000  # of undeclared with absent names in one validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What is wrong with a graph and what of it may run.

    `graph` holds the constants as the nodes take them (`"20"` is 20). Outputs are node ids, in the
    prompt's order; a sink of unknown type counts as a refused output. `dependent_outputs` names
    the refused outputs (at most 20) that need a node with an error.
    """

    graph: Graph
    problems: tuple[Problem, ...]
    good_outputs: tuple[str, ...]
    bad_outputs: tuple[str, ...]
    dependent_outputs: Mapping[str, tuple[str, ...]]
    targets: tuple[str, ...] | None = None

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(p for p in self.problems if p.severity == "warning")

    @property
    def can_run(self) -> bool:
        """Whether at least one output may run."""
        return bool(self.good_outputs)


def validate(
    graph: Graph,
    catalogue: Catalogue,
    list_files: ListFiles,
    targets: Sequence[str] | None = None,
) -> Validation:
    """Check every node and link; linear in the graph, and all problems come at once.

    `list_files` gives the files of a model folder (or `input`), with `/` between folders; it is
    called once per folder. `targets` limits the run to these nodes (partial_execution_targets).
    """
    check = _Check(graph, catalogue, Choices(list_files))
    nodes = {node_id: check.node(node) for node_id, node in graph.nodes.items()}
    wanted = None if targets is None else tuple(dict.fromkeys(targets))
    return _judge(Graph(nodes=nodes), catalogue, check.problems, wanted)


def with_problems(
    validation: Validation, catalogue: Catalogue, problems: Sequence[Problem]
) -> Validation:
    """The same validation with what the nodes' own checks found."""
    kept = [p for p in validation.problems if p.code not in _GRAPH_CODES]
    return _judge(validation.graph, catalogue, [*kept, *problems], validation.targets)


def nodes_with_own_check(validation: Validation, catalogue: Catalogue) -> tuple[str, ...]:
    """The nodes of outputs that may run whose own validation is still to be asked."""
    order = walk(validation.graph, validation.good_outputs).order
    return tuple(i for i in order if _has_validate(catalogue, validation.graph.nodes[i]))


def _has_validate(catalogue: Catalogue, node: Node) -> bool:
    spec = catalogue.get(node.class_type)
    return spec is not None and spec.has_validate


# One node -----------------------------------------------------------------------------------------


class _Check:
    """Collects the problems of single nodes and their links."""

    def __init__(self, graph: Graph, catalogue: Catalogue, choices: Choices) -> None:
        self.graph = graph
        self.catalogue = catalogue
        self.choices = choices
        self.comparisons_left = _MAX_COMPARISONS
        self.problems: list[Problem] = []

    def node(self, node: Node) -> Node:
        """The node with its constants converted; problems are collected."""
        entry = self.catalogue.entry(node.class_type)
        if entry is None:
            self._unknown_type(node)
            return node
        converted: dict[str, Input] | None = None
        undeclared: list[str] = []
        declared = entry.inputs
        for name, value in node.inputs.items():
            item = declared.get(name)
            if item is None:
                undeclared.append(name)
            if type(value) is Link:
                self._link(node, entry, name, item, value)
            elif item is not None:
                fitted, misfit = fit(
                    item,
                    value,
                    self.choices,
                    is_own_check=_is_own(entry, name),
                    is_bare_list=isinstance(value, list) and node.is_bare_list(name),
                )
                if misfit:
                    self._misfit(node, item, value, misfit)
                elif fitted is not value:
                    converted = converted or dict(node.inputs)
                    converted[name] = fitted
                elif isinstance(value, str) and START in value:
                    self._lora_tag(node, entry, item)
        self._absent(node, entry, undeclared)
        return replace(node, inputs=converted) if converted else node

    def _add(self, code: str, message: str, node: Node, **parts: Any) -> None:
        self.problems.append(
            Problem(code=code, message=message, node_id=node.id, node_type=node.class_type, **parts)
        )

    def _unknown_type(self, node: Node) -> None:
        reason = self.catalogue.unavailable.get(node.class_type)
        near = self.choices.closest(node.class_type, "node types", self.catalogue.names)
        self._add(
            "missing_node_type",
            f"Node {node.label} is of the unknown type {shorten(node.class_type)}.",
            node,
            got=shorten(node.class_type),
            expected="a node type of this installation",
            hint=reason
            or did_you_mean(near)
            or "Install or allow the node pack that has it, then start Weft again.",
        )

    def _link(
        self, node: Node, entry: Entry, name: str, item: InputSpec | None, link: Link
    ) -> None:
        source = self.graph.nodes.get(link.node_id)
        if source is None:
            self._bad_link(node, name, link, "there is no node of that id", "the id of a node")
            return
        source_entry = self.catalogue.entry(source.class_type)
        if source_entry is None:
            return
        outputs = source_entry.spec.outputs
        if not 0 <= link.index < len(outputs):
            expected = f"an output from 0 to {len(outputs) - 1}" if outputs else "another node"
            count = f"{source.label} has {len(outputs) or 'no'} outputs"
            self._bad_link(node, name, link, count, expected)
            return
        got = outputs[link.index].type
        if item is None or got == item.type or fits(got, item.type):
            return
        if "input_types" in entry.spec.validated_inputs:
            return
        self._add(
            "return_type_mismatch",
            f"Input {name} of {node.label} takes {item.type}, "
            f"but output {link.index} of {source.label} gives {got}.",
            node,
            input_name=name,
            got=got,
            expected=item.type,
            hint=_fitting_output(source_entry, item.type),
            extra={"linked_node": [link.node_id, link.index]},
        )

    def _bad_link(self, node: Node, name: str, link: Link, why: str, expected: str) -> None:
        index = shown(link.index)
        self._add(
            "bad_linked_input",
            f"Input {shorten(name)} of {node.label} is linked to output {index} "
            f"of node {shorten(link.node_id)}, but {why}.",
            node,
            input_name=name,
            got=f'["{shorten(link.node_id)}", {index}]',
            expected=expected,
        )

    def _misfit(self, node: Node, item: InputSpec, value: Constant, misfit: Misfit) -> None:
        extra: dict[str, object] = {}
        if misfit.missing:
            extra["folder"], extra["file"] = misfit.missing
        self._add(
            misfit.code,
            f"Input {item.name} of {node.label} {misfit.says}.",
            node,
            input_name=item.name,
            got=shown(value),
            expected=misfit.expected,
            hint=misfit.hint,
            extra=extra,
        )

    def _lora_tag(self, node: Node, entry: Entry, item: InputSpec) -> None:
        """A tag in a prompt that goes straight to a text encoder, to which it means nothing."""
        outputs = {output.type for output in entry.spec.outputs}
        if item.options.get("dynamicPrompts") and "CONDITIONING" in outputs:
            self._add(
                "no_effect",
                f"{START}…> in input {item.name} of {node.label} loads no LoRA: "
                "the node reads it as words.",
                node,
                severity="warning",
                input_name=item.name,
                hint="Use Load LoRA, or write the prompt into Load LoRAs from Text.",
            )

    def _absent(self, node: Node, entry: Entry, undeclared: Sequence[str]) -> None:
        """Missing required inputs, undeclared ones, and undeclared ones that were mistyped."""
        given = node.inputs
        mistyped: dict[str, str] = {}
        if undeclared and not entry.spec.takes_any_input:
            absent = [n for n in entry.inputs if n not in given]
            for name in undeclared:
                right = self._meant(name, absent)
                if right:
                    mistyped[right] = name
        for name in entry.required:
            if name not in given:
                self._missing(node, entry.inputs[name], mistyped.get(name))
        if entry.spec.takes_any_input:
            return
        typos = {wrong: right for right, wrong in mistyped.items()}
        for name in undeclared:
            right = typos.get(name)
            if right is None or right not in entry.required:
                self._undeclared(node, entry, name, right)

    def _meant(self, name: str, absent: Sequence[str]) -> str | None:
        """The absent input that an undeclared name is a mistyped form of."""
        if self.comparisons_left <= 0:
            return None
        self.comparisons_left -= len(absent)
        return next((n for n in absent if is_likely_typo(name, n)), None)

    def _missing(self, node: Node, item: InputSpec, mistyped: str | None) -> None:
        hint = f'Did you mean "{item.name}" where "{mistyped}" is written?' if mistyped else None
        self._add(
            "required_input_missing",
            f"Input {item.name} of {node.label} is missing.",
            node,
            input_name=item.name,
            got="nothing",
            expected=item.type,
            hint=hint,
        )

    def _undeclared(self, node: Node, entry: Entry, name: str, right: str | None) -> None:
        severity: Severity = "error" if right else "warning"
        self._add(
            "undeclared_input",
            f"Node {node.label} has no input {shorten(name)}.",
            node,
            severity=severity,
            input_name=name,
            got=shorten(name),
            expected=f"one of {', '.join(entry.inputs)}" if entry.inputs else "no input",
            hint=did_you_mean([right]) if right else "It is passed on to the node unchecked.",
        )


def _is_own(entry: Entry, name: str) -> bool:
    own = entry.spec.validated_inputs
    return bool(own) and (name in own or "*" in own)


def _fitting_output(entry: Entry, wanted: str) -> str | None:
    for index, output in enumerate(entry.spec.outputs):
        if fits(output.type, wanted) and output.type != "*":
            return f"Output {index} ({output.name}) of that node gives {output.type}."
    return None


# The whole graph ----------------------------------------------------------------------------------

_GRAPH_CODES = frozenset({"dependency_cycle", "prompt_no_outputs", "unknown_target"})


def _judge(
    graph: Graph,
    catalogue: Catalogue,
    found: Sequence[Problem],
    targets: tuple[str, ...] | None,
) -> Validation:
    """Which outputs are free of errors; problems that no output meets become warnings."""
    problems = list(found)
    outputs = _outputs(graph, catalogue, targets, problems)
    path = walk(graph, outputs)
    problems.extend(_cycle_problem(graph, cycle) for cycle in path.cycles)
    needed = frozenset(path.order)
    if not path.cycles and len(needed) < len(graph.nodes):
        elsewhere = walk(graph, graph.nodes).cycles
        problems.extend(_cycle_problem(graph, cycle) for cycle in elsewhere)
    problems = [_ranked(p, needed) for p in problems]
    bad_nodes = {p.node_id for p in problems if p.severity == "error" and p.node_id}
    refused = _needing(graph, path, bad_nodes | path.in_cycle)
    bad = tuple(o for o in outputs if o in refused)
    return Validation(
        graph=graph,
        problems=tuple(problems),
        good_outputs=tuple(o for o in outputs if o not in refused),
        bad_outputs=bad,
        dependent_outputs=_dependants(graph, bad, bad_nodes) if bad else {},
        targets=targets,
    )


def _outputs(
    graph: Graph,
    catalogue: Catalogue,
    targets: tuple[str, ...] | None,
    problems: list[Problem],
) -> tuple[str, ...]:
    """The nodes to run for: output nodes, sinks of unknown type, or the targets."""
    if targets is None:
        used = {
            v.node_id for n in graph.nodes.values() for v in n.inputs.values() if type(v) is Link
        }
        outputs = tuple(
            node_id
            for node_id, node in graph.nodes.items()
            if _is_output(catalogue, node, is_sink=node_id not in used)
        )
    else:
        outputs = tuple(t for t in targets if t in graph.nodes)
        problems.extend(_unknown_target(t) for t in targets if t not in graph.nodes)
    if not outputs:
        problems.append(
            Problem(
                code="prompt_no_outputs",
                message="The prompt has no output node, so there is nothing to run.",
                got=f"{len(graph.nodes)} nodes",
                expected="at least one node that saves or shows something",
                hint="Add an output node such as SaveImage or PreviewImage.",
            )
        )
    return outputs


def _is_output(catalogue: Catalogue, node: Node, *, is_sink: bool) -> bool:
    spec = catalogue.get(node.class_type)
    return is_sink if spec is None else spec.is_output


def _unknown_target(target: str) -> Problem:
    return Problem(
        code="unknown_target",
        message=f"The target {shorten(target)} is no node of the prompt.",
        got=shorten(target),
        expected="the id of a node",
    )


def _cycle_problem(graph: Graph, cycle: tuple[str, ...]) -> Problem:
    """A cycle, named in the direction of the data: A -> B -> A."""
    ids = list(reversed(cycle))
    if len(ids) > _MAX_CYCLE_SHOWN:
        half = _MAX_CYCLE_SHOWN // 2
        left_out = len(ids) - 2 * half
        texts = [graph.label(i) for i in ids[:half]]
        texts += [f"… {left_out} more …", *(graph.label(i) for i in ids[-half:])]
    else:
        texts = [graph.label(i) for i in ids]
    return Problem(
        code="dependency_cycle",
        message=f"These nodes wait for each other: {' -> '.join(texts)}.",
        node_id=ids[0],
        node_type=graph.nodes[ids[0]].class_type,
        got=" -> ".join(texts),
        expected="links without a circle",
        hint="Remove one of these links.",
        extra={"cycle": ids[:1000]},
    )


def _ranked(problem: Problem, needed: frozenset[str]) -> Problem:
    if problem.node_id is None or problem.node_id in needed or problem.severity == "warning":
        return problem
    return replace(problem, severity="warning")


def _needing(graph: Graph, path: Walk, bad: Set[str]) -> set[str]:
    """The nodes that are bad or need a bad one."""
    nodes = graph.nodes
    refused: set[str] = set()
    if not bad:
        return refused
    for node_id in path.order:
        links = (v.node_id for v in nodes[node_id].inputs.values() if type(v) is Link)
        if node_id in bad or not refused.isdisjoint(links):
            refused.add(node_id)
    return refused


def _dependants(
    graph: Graph, outputs: Sequence[str], bad_nodes: Set[str]
) -> dict[str, tuple[str, ...]]:
    """For each bad node the first outputs that need it; O(20 · links)."""
    found: dict[str, list[str]] = {}
    for output in outputs:
        stack = [output]
        while stack:
            node_id = stack.pop()
            node = graph.nodes.get(node_id)
            if node is None:
                continue
            known = found.setdefault(node_id, [])
            if len(known) >= _MAX_DEPENDANTS or (known and known[-1] == output):
                continue
            known.append(output)
            stack.extend(v.node_id for v in node.inputs.values() if type(v) is Link)
    return {i: tuple(found[i]) for i in bad_nodes if i in found}
