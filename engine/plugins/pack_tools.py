"""Making a pack and trying out one that exists: `pack new` and `pack check`.

`check_pack` runs the pack's code in this process: only call it for a pack that you wrote or trust.
"""

import asyncio
import inspect
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.api.errors import EngineError, PluginError, StorageError
from engine.api.node import Blocked, NodeOutput, NodeType
from engine.api.spec import InputSpec, NodeSpec
from engine.plugins.check_values import (
    KNOWN_TYPES,
    CheckContext,
    copy_of,
    differs_from_type,
    is_same,
    sample,
)
from engine.plugins.loader import load_pack
from engine.plugins.packs import PackSource, PackState
from engine.plugins.registry import NodeRegistry

TEMPLATE = Path(__file__).resolve().parents[2] / "custom_nodes" / "example_pack"

RoundTrip = Callable[[Any], Any]
"""Stores a value as the disk store does and reads it back; raises EngineError if it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that `pack check` noticed. A `note` is nothing to mend."""

    severity: Literal["error", "warning", "note"]
    code: str
    message: str
    node: str | None = None

    def __str__(self) -> str:
        where = f"{self.node}: " if self.node else ""
        return f"{self.severity}: {where}{self.message} [{self.code}]"


def new_pack(folder: Path, name: str, *, template: Path = TEMPLATE) -> Path:
    """Make a working pack with a test in a `custom_nodes` folder, from the example pack.

    Raises: PluginError for a name that cannot be or is taken; StorageError.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise PluginError(
            f"A pack cannot be called {name}.",
            hint="Use letters, digits and underscores, with a letter first.",
        )
    target = folder / name
    if target.exists():
        raise PluginError(f"There is already a pack {name}: {target}.", hint="Take another name.")
    try:
        sources = sorted(template.glob("*.py"))
        texts = {source.name: source.read_text("utf-8") for source in sources}
        target.mkdir(parents=True)
        for file_name, text in texts.items():
            mine = text.replace("example_pack", name).replace("example.", f"{name}.")
            mine = mine.replace('category="example"', f'category="{name}"')
            (target / file_name).write_text(mine, "utf-8")
    except OSError as error:
        raise StorageError(f"The pack {name} cannot be made: {error}.") from error
    return target


def check_pack(
    path: Path, *, taken: Collection[str] = (), round_trip: RoundTrip | None = None
) -> list[Finding]:
    """What is wrong with a pack: types, ranges, docs, purity, determinism, storing of results.

    `taken` are the names of other node types. Nodes whose inputs cannot be made up (models) are
    not run, which is noted.
    """
    path = path.absolute()
    if not (path.is_file() or (path / "__init__.py").is_file()):
        return [_error("no_pack", f"{path} is neither a Python file nor has an __init__.py.")]
    registry = NodeRegistry()
    report = load_pack(PackSource(name=path.stem, path=path), registry)
    if report.state is not PackState.LOADED:
        return [_error("import_failed", f"{report.error}\n{report.traceback}".rstrip())]
    findings = [_error("refused_node", why, node) for node, why in report.refused.items()]
    if not report.nodes:
        findings.append(_error("no_nodes", report.error or "The pack has no nodes."))
    if path.is_dir() and not any(path.rglob("test_*.py")):
        findings.append(_warning("no_test", "The pack has no test_*.py."))
    own_types = {o.type for spec in registry.specs() for o in spec.outputs}
    for spec in registry.specs():
        for name in (spec.name, *spec.aliases):
            if name in taken:
                findings.append(_error("duplicate_name", f"{name} is taken already.", spec.name))
        findings.extend(_spec_findings(spec, own_types))
        findings.extend(_run_findings(registry.get(spec.name), round_trip))
    return findings


def _error(code: str, message: str, node: str | None = None) -> Finding:
    return Finding(severity="error", code=code, message=message, node=node)


def _warning(code: str, message: str, node: str | None = None) -> Finding:
    return Finding(severity="warning", code=code, message=message, node=node)


def _spec_findings(spec: NodeSpec, own_types: Collection[str]) -> Iterator[Finding]:
    if not spec.description:
        yield _warning("no_docs", "It has no docstring (DESCRIPTION), its help.", spec.name)
    if not spec.outputs and not spec.is_output:
        yield _error("no_effect", "It has no outputs and is no output node.", spec.name)
    for item in spec.inputs:
        for kind in item.type.split(",") if item.kind != "hidden" else ():
            if kind not in KNOWN_TYPES and kind not in own_types:
                text = f"Nothing known gives {kind}, the type of its input {item.name}."
                yield _warning("unknown_type", text, spec.name)
        wrong = _range_problem(item)
        if wrong:
            yield _error("bad_range", f"Input {item.name}: {wrong}.", spec.name)


def _range_problem(item: InputSpec) -> str | None:
    options = item.options
    low, high, step = options.get("min"), options.get("max"), options.get("step")
    default = options.get("default")
    if item.choices is not None and default is not None and not options.get("multiselect"):
        return None if default in item.choices else f"its default {default!r} is no choice"
    if item.type not in ("INT", "FLOAT"):
        return None
    if not all(v is None or isinstance(v, int | float) for v in (low, high, step, default)):
        return "min, max, step and default must be numbers"
    if low is not None and high is not None and low > high:
        return f"its min {low} is above its max {high}"
    if step is not None and step <= 0:
        return f"its step {step} is not above 0"
    if default is not None:
        is_low, is_high = low is not None and default < low, high is not None and default > high
        if is_low or is_high:
            return f"its default {default} lies outside {low} to {high}"
    return None


def _run_findings(node_type: NodeType, round_trip: RoundTrip | None) -> list[Finding]:
    """What two runs of a node on the same made-up inputs tell."""
    spec = node_type.spec
    wanted = [i for i in spec.inputs if i.kind == "required"]
    values = {i.name: sample(i) for i in wanted}
    unknown = [i.type for i in wanted if values[i.name] is None]
    if unknown:
        text = f"It was not run: no sample for {', '.join(unknown)}."
        return [Finding(severity="note", code="not_run", message=text, node=spec.name)]
    if spec.takes_lists:
        values = {name: [value] for name, value in values.items()}
    with tempfile.TemporaryDirectory() as folder:
        context = CheckContext(Path(folder))
        before = copy_of(values)
        try:
            first = _run(node_type, values, context)
            changed = [n for n in values if not is_same(values[n], before[n])]
            second = _run(node_type, copy_of(before), context)
        except EngineError as error:
            text = f"It refused the sample inputs: {error}"
            return [Finding(severity="note", code="not_run", message=text, node=spec.name)]
        except Exception as error:  # noqa: BLE001 - a pack's own code
            text = f"It failed on sample inputs: {type(error).__name__}: {error}"
            return [_error("failed", text, spec.name)]
    findings = [
        _error("changes_input", f"It changes its input {name} in place.", spec.name)
        for name in changed
    ]
    if not _is_volatile(node_type, before) and not is_same(first.result, second.result):
        text = "The same inputs gave two different results."
        findings.append(_error("not_deterministic", text, spec.name))
    return findings + list(_output_findings(spec, first, round_trip))


def _run(node_type: NodeType, values: Mapping[str, Any], context: CheckContext) -> NodeOutput:
    returned = node_type.call(values, context)
    if inspect.isawaitable(returned):

        async def wait() -> NodeOutput:
            return await returned

        return asyncio.run(wait())
    return returned


def _is_volatile(node_type: NodeType, values: Mapping[str, Any]) -> bool:
    said = node_type.is_changed(values) if node_type.is_changed else None
    return node_type.spec.is_volatile or said != said  # NaN


def _output_findings(
    spec: NodeSpec, output: NodeOutput, round_trip: RoundTrip | None
) -> Iterator[Finding]:
    if output.expand is not None:
        return
    if len(output.result) != len(spec.outputs):
        text = f"It declares {len(spec.outputs)} outputs but returned {len(output.result)} values."
        yield _error("wrong_count", text, spec.name)
        return
    for declared, value in zip(spec.outputs, output.result):
        for item in value if declared.is_list else (value,):
            if isinstance(item, Blocked):
                continue
            wrong = differs_from_type(item, declared.type)
            if wrong:
                text = f"Its output {declared.name} is declared {declared.type} but is {wrong}."
                yield _error("wrong_type", text, spec.name)
            if round_trip is not None:
                yield from _round_trip_findings(spec, declared.name, item, round_trip)


def _round_trip_findings(
    spec: NodeSpec, name: str, value: Any, round_trip: RoundTrip
) -> Iterator[Finding]:
    try:
        if is_same(round_trip(value), value):
            return
        text = f"Its output {name} is changed by being stored."
    except EngineError as error:
        text = f"Its output {name} cannot be stored, so it is not kept over a restart: {error}"
    yield _warning("not_storable", text, spec.name)
