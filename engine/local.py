"""Weft in one process, no server needed: load a workflow, set inputs, run it, get pictures.

from engine.local import Weft

with Weft() as weft:
    result = weft.load("workflow.json").set("6.text", "a red circle").run()
    result.images[0]
"""

import copy
import io
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from engine.api import events
from engine.api.errors import Cancelled, EngineError, GraphInvalid, NodeError, Problem
from engine.api.spec import NodeSpec
from engine.config import Config
from engine.graph.document import is_workflow
from engine.graph.grid import expand, read_grid
from engine.graph.prompt import parse_prompt
from engine.graph.validate import Validation, nodes_with_own_check, validate, with_problems
from engine.graph.values import Choices
from engine.graph.workflow import to_prompt
from engine.run.core import JobRequest
from engine.run.folders import Folders
from engine.run.picture_texts import PICTURES, read_picture_texts
from engine.worker_main import Parts, build_parts

if TYPE_CHECKING:
    from PIL.Image import Image

    from engine.plugins.packs import PackReport

OnEvent = Callable[[events.RunEvent], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one run gave: saved files, what output nodes show, how each node got its result."""

    files: Sequence[Path]
    outputs: Mapping[str, Mapping[str, Any]]
    records: Mapping[str, events.NodeRecord]
    titles: Mapping[str, str]

    @property
    def images(self) -> "list[Image]":
        """The saved pictures, in order; in a notebook each shows itself."""
        from PIL import Image  # not needed for runs without pictures

        Image.init()
        endings = {ending for ending, name in Image.EXTENSION.items() if name in Image.OPEN}
        pictures: list[Image.Image] = []
        for path in self.files:
            if path.suffix.lower() in endings:
                with Image.open(path) as picture:
                    picture.load()
                    pictures.append(picture)
        return pictures

    def _repr_png_(self) -> bytes | None:
        images = self.images
        if not images:
            return None
        buffer = io.BytesIO()
        images[0].convert("RGB").save(buffer, "PNG")
        return buffer.getvalue()


class RunFailed(NodeError):
    """Nodes of a run failed. `made` is what the others gave: files, and a grid's sheet."""

    def __init__(self, message: str, *, hint: str, code: str, made: Result) -> None:
        super().__init__(message, hint=hint, code=code)
        self.made = made


class Workflow:
    """A workflow that was loaded; `set` changes inputs, `run` runs it as often as you like."""

    def __init__(self, weft: "Weft", prompt: Mapping[str, Any], document: Any = None) -> None:
        self._weft = weft
        self.document = document
        self.prompt: dict[str, Any] = copy.deepcopy(dict(prompt))

    def set(self, key: str, value: Any) -> Self:
        """Set an input: `set("6.text", "a red circle")`. A node may be named by its title or type.

        Texts become numbers or booleans where the input wants them. Raises: EngineError.
        """
        node_name, dot, input_name = key.rpartition(".")
        if not dot:
            raise EngineError(
                f"'{key}' names no input.", hint="Write NODE.INPUT, for example 6.text"
            )
        node = self._find(node_name)
        kind = self._weft.input_type(node["class_type"], input_name)
        node["inputs"] = {**node.get("inputs", {}), input_name: _typed(value, kind)}
        return self

    def grid(
        self, axes: Mapping[str, Any], *, picture: str | None = None, title: str = "grid"
    ) -> "Workflow":
        """The same workflow once for each combination of values: `grid({"3.cfg": [2, 4, 8]})`.

        Up to three axes: columns, rows, blocks. Values are a list or a text such as `1-10 [5]`.
        Running it gives the cells and, last, the sheet. Raises: GraphInvalid with all problems.
        """
        request = {"axes": [_axis(*axis) for axis in axes.items()], "picture": picture}
        return self._weft.expand(self, {**request, "title": title})

    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with it, warnings too; nothing is run."""
        return self._weft.check(self.prompt).problems

    def run(self, on_event: OnEvent | None = None) -> Result:
        """Run it. Raises: GraphInvalid with all problems; RunFailed; Cancelled."""
        return self._weft.run(self.prompt, self.document, on_event)

    def _find(self, name: str) -> dict[str, Any]:
        if name in self.prompt:
            return self.prompt[name]
        titles = {
            i: (n.get("_meta", {}).get("title", ""), n["class_type"])
            for i, n in self.prompt.items()
        }
        found = [i for i, names in titles.items() if name in names]
        if len(found) == 1:
            return self.prompt[found[0]]
        nodes = ", ".join(f"{i} ({title or kind})" for i, (title, kind) in titles.items())
        trouble = "several nodes are" if found else "no node is"
        raise EngineError(f"{trouble} called '{name}'.".capitalize(), hint=f"Nodes: {nodes}.")


class Weft:
    """The engine in this process, with the same caches and folders as the server."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self._listeners: list[OnEvent] = []
        self._parts: Parts = build_parts(self.config, self._emit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def precision(self) -> str:
        """What denoisers compute in and why, in one line."""
        return self._parts.precision_words

    def close(self) -> None:
        """Write what is to be kept and end the threads."""
        self._parts.close()

    @property
    def specs(self) -> Iterable[NodeSpec]:
        return self._parts.core.catalogue

    @property
    def packs(self) -> "Sequence[PackReport]":
        return self._parts.packs

    @property
    def folders(self) -> Folders:
        return self._parts.folders

    def load(self, source: str | Path | Mapping[str, Any]) -> Workflow:
        """A workflow from a file (API form, editor form, or a picture that carries one) or a dict.

        Raises: EngineError, GraphInvalid.
        """
        document = dict(source) if isinstance(source, Mapping) else read_workflow(Path(source))
        if is_workflow(document):
            return Workflow(self, to_prompt(document, self._parts.core.catalogue), document)
        prompt = document.get("prompt", document)
        parse_prompt(prompt)
        return Workflow(self, prompt)

    def input_type(self, class_type: str, input_name: str) -> str:
        """The wire type of an input, "" for a node type that is not here. Raises: EngineError."""
        spec = self._parts.core.catalogue.get(class_type)
        if spec is None:
            return ""
        found = spec.input(input_name)
        if found is None and not spec.takes_any_input:
            names = ", ".join(i.name for i in spec.inputs)
            raise EngineError(
                f"{class_type} has no input {input_name}.", hint=f"Its inputs: {names}."
            )
        return found.type if found else ""

    def expand(self, workflow: Workflow, request: Mapping[str, Any]) -> Workflow:
        """A workflow's grid as a workflow (see `Workflow.grid`). Raises: GraphInvalid."""
        choices = Choices(self.folders.list_files)
        grid = read_grid(workflow.prompt, request, self._parts.core.catalogue, choices)
        return Workflow(self, expand(grid), workflow.document)

    def check(self, prompt: Mapping[str, Any]) -> Validation:
        """Validate a prompt, with the nodes' own checks. Raises: GraphInvalid if it is none."""
        self._parts.refresh()
        core = self._parts.core
        validation = validate(parse_prompt(prompt), core.catalogue, self.folders.list_files)
        own = nodes_with_own_check(validation, core.catalogue)
        if not own:
            return validation
        problems = core.validate(validation.graph.to_json(), own)
        return with_problems(validation, core.catalogue, problems)

    def run(
        self, prompt: Mapping[str, Any], document: Any = None, on_event: OnEvent | None = None
    ) -> Result:
        """Run a prompt in API form. Raises: GraphInvalid, RunFailed, Cancelled."""
        validation = self.check(prompt)
        if validation.errors:
            raise GraphInvalid("The workflow cannot run.", problems=validation.errors)
        collected = _Collector()
        self._listeners = [collected, *([on_event] if on_event else [])]
        self._parts.run(
            JobRequest(
                job_id=str(uuid.uuid4()),
                prompt=validation.graph.to_json(),
                outputs=validation.good_outputs,
                extra_pnginfo={"workflow": document} if document else {},
                wants_previews=False,
            )
        )
        return collected.result(self._parts.folders, prompt)

    def _emit(self, event: events.RunEvent) -> None:
        for listener in self._listeners:
            listener(event)


class _Collector:
    """Gathers the events of one run."""

    def __init__(self) -> None:
        self._outputs: dict[str, Mapping[str, Any]] = {}
        self._records: dict[str, events.NodeRecord] = {}
        self._failures: list[events.NodeFailed] = []
        self._end: events.JobFinished | None = None

    def __call__(self, event: events.RunEvent) -> None:
        if isinstance(event, events.NodesCached):
            self._records.update(event.records)
        elif isinstance(event, events.NodeFinished):
            self._records[event.node_id] = event.record
            if event.ui is not None:
                self._outputs[event.node_id] = event.ui
        elif isinstance(event, events.NodeFailed):
            self._failures.append(event)
        elif isinstance(event, events.JobFinished):
            self._end = event

    def result(self, folders: Folders, prompt: Mapping[str, Any]) -> Result:
        """The result, or the failure as an exception."""
        if self._end is None or self._end.status == "interrupted":
            raise Cancelled
        if self._failures:
            first, *more = self._failures
            place = f"Node {first.display_id} ({first.node_type})"
            others = f" {len(more)} more failed." if more else ""
            raise RunFailed(
                f"{place}: {first.error.message}{others}",
                hint=first.error.hint or "",
                code=first.error.code,
                made=self._made(folders, prompt),
            )
        if self._end.error:
            raise EngineError(self._end.error.message, hint=self._end.error.hint)
        return self._made(folders, prompt)

    def _made(self, folders: Folders, prompt: Mapping[str, Any]) -> Result:
        images = [
            i for ui in self._outputs.values() for k in ("images", "files") for i in ui.get(k, ())
        ]
        return Result(
            files=[
                folders.join(i["type"], f"{i['subfolder']}/{i['filename']}".lstrip("/"))
                for i in images
            ],
            outputs=self._outputs,
            records=self._records,
            titles={
                i: n.get("_meta", {}).get("title") or n["class_type"] for i, n in prompt.items()
            },
        )


def read_workflow(path: Path) -> dict[str, Any]:
    """The workflow in a JSON file or a picture's metadata. Raises: EngineError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}.") from error
    text = data.decode("utf-8", errors="replace")
    if path.suffix.lower() in PICTURES:
        text = _embedded(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EngineError(f"{path} holds no JSON: {error}.") from error
    if not isinstance(document, dict):
        raise EngineError(f"{path} holds no workflow, but {type(document).__name__}.")
    return document


def _embedded(path: Path) -> str:
    """The prompt, or else the workflow, that a picture carries."""
    texts = read_picture_texts(path)
    found = texts.get("prompt") or texts.get("workflow")
    if found is None:
        raise EngineError(f"{path} carries no workflow.", hint="Pictures that Weft saved do.")
    return found


def _axis(key: str, values: Any) -> dict[str, Any]:
    node, dot, name = key.rpartition(".")
    if not dot:
        raise EngineError(f"'{key}' names no input.", hint="Write NODE.INPUT, for example 3.cfg")
    return {"node": node, "input": name, "values": values}


def _typed(value: Any, kind: str) -> Any:
    """A text from the command line as the number or boolean that the input wants."""
    if not isinstance(value, str):
        return value
    try:
        if kind == "INT":
            return int(value)
        if kind == "FLOAT":
            return float(value)
    except ValueError:
        return value  # validation names it, with what was expected
    if kind == "BOOLEAN" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value
