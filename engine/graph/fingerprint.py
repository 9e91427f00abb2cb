"""The key of each node's result: one hash over all that decides it, made in one pass.

A key covers the node type and its version, constants, file inputs by digest, what the node says
about changes (`is_changed`), the keys of its parents and the environment. Node ids are no part of
it (but for node types that ask for theirs), so that the same work has the same key in every prompt.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from engine.api.errors import EngineError
from engine.graph.catalogue import Catalogue
from engine.graph.prompt import Constant, Graph, Link, Node, shorten, shown
from engine.graph.values import annotated

FileDigest = Callable[[str, str], str]
IsChanged = Callable[[Node], object]

_LONG = 200  # longer constants stand in the parts as their hash
_EXACT = 1 << 53  # whole numbers that a float holds exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """The key of a node's result and the text it was made from, one part a line.

    `is_volatile` results belong to their job only.
    """

    key: str
    parts: str
    is_volatile: bool = False


class Fingerprinter:
    """Makes keys, node by node, parents first; also for nodes that appear while a job runs.

    `file_digest(folder, name)` gives the content hash of a file; an EngineError from it makes the
    node volatile (it will fail by itself, with its own message). `is_changed(node)` is asked for
    node types that have it; NaN means that the node runs in every job. `environment` stands for
    everything else that decides results: code, library versions, device class, precision.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        file_digest: FileDigest,
        is_changed: IsChanged,
        environment: str,
        job_id: str = "",
    ) -> None:
        self._catalogue = catalogue
        self._file_digest = file_digest
        self._is_changed = is_changed
        self._job_id = job_id
        self._environment = f"E {environment!r}"

    def key_of(self, node: Node, parents: Mapping[str, Key]) -> Key:
        """The key of a node, given the keys of the nodes that it links to."""
        entry = self._catalogue.entry(node.class_type)
        if entry is None:
            raise EngineError(
                f"Node {node.label} is of the unknown type {shorten(node.class_type)}.",
                code="missing_node_type",
            )
        spec = entry.spec
        lines = [f"T {spec.name!r} {spec.version!r}", self._environment]
        is_volatile = spec.is_volatile
        for name, value in sorted(node.inputs.items()):
            if type(value) is Link:
                lines.append(f"L {name!r} {parents[value.node_id].key}:{value.index}")
            elif isinstance(value, str) and name in entry.file_folders:
                digest = self.digest_of(entry.file_folders[name], value)
                is_volatile = is_volatile or digest is None
                lines.append(f"F {name!r} {digest}")
            elif type(value) is int and name in entry.float_inputs and abs(value) <= _EXACT:
                lines.append(f"C {name!r} {float(value)!r}")
            else:
                lines.append(f"C {name!r} {_constant(value)}")
        for place in spec.reads:
            lines.append(f"R {place!r} {self._digest_of_place(place, node)}")
        if spec.has_is_changed:
            said = _plain(self._is_changed(node))
            is_volatile = is_volatile or said is None
            lines.append(f"I {said}")
        if entry.knows_its_id:
            lines.append(f"U {node.id!r}")
        if is_volatile:
            lines.append(f"V {self._job_id!r} {node.id!r}")
        parts = "\n".join(lines)
        key = hashlib.sha256(parts.encode()).hexdigest()
        return Key(key=key, parts=parts, is_volatile=is_volatile)

    def stands_for(self, node: Node, folder: str, name: str) -> bool:
        """Whether a node's key stands for a file under that name."""
        entry = self._catalogue.entry(node.class_type)
        if entry is None:
            return False
        folders = entry.file_folders
        is_chosen = any(folders.get(n) == folder and v == name for n, v in node.inputs.items())
        return is_chosen or (folder, name) in [_place(read, node) for read in entry.spec.reads]

    def digest_of(self, folder: str, name: str) -> str | None:
        """What a file holds now; None if it is not there."""
        folder, file = annotated(folder, name)
        try:
            return self._file_digest(folder, file)
        except EngineError:
            return None

    def _digest_of_place(self, read: str, node: Node) -> str | None:
        folder, name = _place(read, node)
        return self.digest_of(folder, name) if name else None


def _place(read: str, node: Node) -> tuple[str, str]:
    """Folder and name of a file that a node type reads beside its inputs."""
    for name, value in node.inputs.items():
        read = read.replace(f"{{{name}}}", value if isinstance(value, str) else "")
    folder, _, name = read.partition("/")
    return folder, name


def fingerprint(
    graph: Graph,
    catalogue: Catalogue,
    order: Iterable[str],
    *,
    file_digest: FileDigest,
    is_changed: IsChanged,
    environment: str,
    job_id: str = "",
) -> dict[str, Key]:
    """The keys of the nodes in `order` (parents before children), in one linear pass."""
    maker = Fingerprinter(
        catalogue,
        file_digest=file_digest,
        is_changed=is_changed,
        environment=environment,
        job_id=job_id,
    )
    keys: dict[str, Key] = {}
    for node_id in order:
        keys[node_id] = maker.key_of(graph.nodes[node_id], keys)
    return keys


def _constant(value: Constant) -> str:
    """A constant as text, equal for equal values only; long ones as their hash."""
    if isinstance(value, list | dict):
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    else:
        text = repr(value)
    if len(text) > _LONG:
        return f"#{hashlib.sha256(text.encode()).hexdigest()}"
    return text


def _plain(said: object) -> str | None:
    """What `is_changed` said as text; None for NaN and for what no text can stand for."""
    if isinstance(said, float) and math.isnan(said):
        return None
    try:
        text = json.dumps(said, sort_keys=True, separators=(",", ":"), default=repr)
    except (TypeError, ValueError, RecursionError):
        return None
    return text if len(text) <= _LONG else f"#{hashlib.sha256(text.encode()).hexdigest()}"


# Why a node runs ----------------------------------------------------------------------------------


def explain(old_parts: str | None, new_parts: str, node: Node, graph: Graph) -> str:
    """Why a node's key is not the one of an earlier run, for people.

    `old_parts` are the parts of that run's key, None when there was none.
    """
    if old_parts is None:
        return "first run"
    old, new = _by_name(old_parts), _by_name(new_parts)
    if ("V", "") in new:
        return "it runs in every job"
    reasons: list[str] = []
    for part in dict.fromkeys((*new, *old)):
        if old.get(part) != new.get(part):
            reasons.append(_reason(part, old.get(part), new.get(part), node, graph))
    if not reasons:
        return "its result was not kept"
    shown_reasons = list(dict.fromkeys(reasons))
    more = len(shown_reasons) - 3
    return ", ".join(shown_reasons[:3]) + (f" and {more} more" if more > 0 else "")


def _by_name(parts: str) -> dict[tuple[str, str], str]:
    """The lines by kind and input name (as its repr)."""
    found: dict[tuple[str, str], str] = {}
    for line in parts.split("\n"):
        kind, _, rest = line.partition(" ")
        if kind in ("L", "F", "C"):
            name, value = _split_name(rest)
            found["input", name] = f"{kind} {value}"
        elif kind == "R":
            name, found_value = _split_name(rest)
            found[kind, name] = found_value
        else:
            found[kind, ""] = rest
    return found


def _split_name(rest: str) -> tuple[str, str]:
    """Split `'name' value` after the quoted name."""
    quote = rest[:1]
    end = 1
    while end < len(rest) and rest[end] != quote:
        end += 2 if rest[end] == "\\" else 1
    return rest[1:end], rest[end + 2 :]


def _reason(
    part: tuple[str, str], old: str | None, new: str | None, node: Node, graph: Graph
) -> str:
    kind, name = part
    if kind == "T":
        return "the node's code or type changed"
    if kind == "E":
        return "the engine or the device changed"
    if kind == "I":
        return "the node reported a change"
    if kind == "U":
        return "the node's id changed"
    if kind == "V":
        return "it ran in every job before"
    if kind == "R":
        return f"{name} changed, which the node reads"
    if new is None:
        return f"input {name} was removed"
    if old is None:
        return f"input {name} was added"
    value = node.inputs.get(name)
    if old[0] != new[0]:
        return f"input {name} changed"
    if new[0] == "L" and type(value) is Link:
        if old.split(":")[0] != new.split(":")[0]:
            return f"node {graph.label(value.node_id)} before it changed"
        return f"input {name} takes another output"
    if new[0] == "F":
        return f"the file of input {name} changed ({shown(value)})"
    return f"input {name} changed"
