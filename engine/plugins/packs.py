"""Node packs as folders and files: finding them, their digests, and which of them may be loaded.

Nothing of a pack is imported or executed here.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

from engine.api.errors import PluginError, StorageError

LEDGER_NAME = "packs.json"
CODE_SUFFIXES = frozenset(
    (
        ".py", ".pyw", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".zip", ".whl", ".egg",
        ".js", ".mjs", ".html", ".sh", ".bat",
    )
)  # fmt: skip
DATA_SUFFIXES = frozenset((".json", ".yaml", ".yml", ".toml"))
_SKIPPED_FOLDERS = frozenset((".git", "__pycache__", "node_modules", ".venv"))

# Code digests of the packs that come with Weft; exactly these contents need no permission.
SHIPPED: Mapping[str, str] = {
    "example_pack": "dce6cbceeec247aa027d16d38c417e19f049cdf26520c958b16f658acccedede",
}


class Policy(Enum):
    """Which packs are loaded without asking again."""

    LISTED = "listed"  # those whose very contents were allowed
    KNOWN = "known"  # also new contents of a pack that was allowed once (--dev)
    ALL = "all"  # every pack (--allow-packs all)


class PackState(StrEnum):
    """What became of a pack."""

    LOADED = "loaded"
    NOT_ALLOWED = "not_allowed"
    CHANGED = "changed"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackSource:
    """A pack on the disk: a folder with `__init__.py`, or one file."""

    name: str
    path: Path

    @property
    def entry(self) -> Path:
        """The file that is imported."""
        return self.path / "__init__.py" if self.path.is_dir() else self.path

    @property
    def is_disabled(self) -> bool:
        """Switched off by the customary ending of its name."""
        return self.path.name.endswith(".disabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackDigest:
    """`code` decides whether a pack may run; `version`, which covers its data files too, is part
    of the cache keys of its nodes (packs rewrite their own settings, but not their code)."""

    code: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackReport:
    """What became of a pack, for people and for the catalogue.

    `nodes` are the types it has, known without running it when it was not loaded. `refused` maps
    node types of a loaded pack that are not used to the reason. `digest` covers its code,
    `version` its data files too.
    """

    name: str
    state: PackState
    path: str = ""
    digest: str = ""
    version: str = ""
    error: str = ""
    hint: str = ""
    traceback: str = ""
    nodes: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    web_folder: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON form that `from_json` reads back."""
        names = self.__dataclass_fields__
        return {n: getattr(self, n) for n in names} | {
            "state": self.state.value,
            "nodes": list(self.nodes),
            "refused": dict(self.refused),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "PackReport":
        """The report of a JSON form. Raises: PluginError."""
        try:
            fields = dict(data)
            fields["state"] = PackState(fields["state"])
            fields["nodes"] = tuple(fields.get("nodes", ()))
            return PackReport(**fields)
        except (TypeError, KeyError, ValueError) as error:
            raise PluginError(f"A stored pack report cannot be read: {error}.") from error


def find_packs(folders: Iterable[Path]) -> tuple[PackSource, ...]:
    """The packs in `custom_nodes` folders, by name; the first folder wins, as with model folders.

    Names that begin with a dot or an underscore are no packs.
    """
    found: dict[str, PackSource] = {}
    for folder in folders:
        entries = sorted(folder.iterdir()) if folder.is_dir() else ()
        for path in entries:
            name = path.name.removesuffix(".disabled")
            if name.startswith((".", "_")):
                continue
            is_pack = (path / "__init__.py").is_file() if path.is_dir() else name.endswith(".py")
            if is_pack:
                name = name.removesuffix(".py")
                found.setdefault(name, PackSource(name=name, path=path))
    return tuple(found[name] for name in sorted(found))


def pack_files(source: PackSource) -> Iterator[tuple[str, Path]]:
    """The code and data files of a pack with their names inside it, in a fixed order."""
    if not source.path.is_dir():
        yield source.path.name, source.path
        return
    seen: set[str] = set()  # a link may lead back
    for folder, folders, files in os.walk(source.path, followlinks=True):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED_FOLDERS)
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(files):
            path = Path(folder, name)
            if path.suffix.lower() in CODE_SUFFIXES or path.suffix.lower() in DATA_SUFFIXES:
                yield path.relative_to(source.path).as_posix(), path


def pack_digest(source: PackSource) -> PackDigest:
    """What a pack consists of now. Raises: PluginError when it cannot be read."""
    code, version = hashlib.sha256(), hashlib.sha256()
    for name, path in pack_files(source):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise PluginError(
                f"The pack {source.name} cannot be read: {path}: {error.strerror}."
            ) from error
        if b"\0" not in content:
            content = content.replace(b"\r\n", b"\n")  # a checkout on Windows is no change
        part = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        part += hashlib.sha256(content).digest()
        version.update(part)
        if path.suffix.lower() not in DATA_SUFFIXES:
            code.update(part)
    return PackDigest(code=code.hexdigest(), version=version.hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What the user decided about packs, and which were put into quarantine.

    Maps names to code digests; a quarantine also holds the reason. `damage` says why what the
    user decided could not be read.
    """

    allowed: Mapping[str, str] = field(default_factory=dict[str, str])
    quarantined: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    damage: str = ""

    def judge(self, name: str, digest: str, policy: Policy) -> tuple[PackState, str] | None:
        """Why a pack may not be loaded, or None when it may.

        Quarantine holds under every policy, but only for the contents that misbehaved.
        """
        jailed, reason = self.quarantined.get(name, ("", ""))
        if jailed == digest:
            return PackState.QUARANTINED, reason
        if policy is Policy.ALL or SHIPPED.get(name) == digest:
            return None
        known = self.allowed.get(name)
        if known is None and name not in SHIPPED:
            return PackState.NOT_ALLOWED, self.damage or "It is new and was not allowed yet."
        if known == digest or policy is Policy.KNOWN:
            return None
        return PackState.CHANGED, "Its code changed since it was allowed."


def read_ledger(state_dir: Path) -> Ledger:
    """The ledger in `user/weft/packs.json`; empty when there is none. Raises: StorageError."""
    path = state_dir / LEDGER_NAME
    try:
        data = json.loads(path.read_text("utf-8"))
        return Ledger(
            allowed={str(k): str(v) for k, v in data.get("allowed", {}).items()},
            quarantined={
                str(k): (str(v["digest"]), str(v["reason"]))
                for k, v in data.get("quarantined", {}).items()
            },
        )
    except FileNotFoundError:
        return Ledger()
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise StorageError(
            f"The list of allowed packs cannot be read: {path}: {error}",
            hint="Mend or delete the file; packs must then be allowed again.",
        ) from error


def write_ledger(state_dir: Path, ledger: Ledger) -> None:
    """Store the ledger, atomically. Raises: StorageError."""
    data = {
        "allowed": dict(ledger.allowed),
        "quarantined": {
            name: {"digest": digest, "reason": reason}
            for name, (digest, reason) in ledger.quarantined.items()
        },
    }
    path = state_dir / LEDGER_NAME
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(data, indent=1, sort_keys=True), "utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"The list of allowed packs cannot be written: {path}: {error}") from (
            error
        )


def allow_packs(folders: Sequence[Path], state_dir: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Allow packs with the contents they have now, and lift their quarantine.

    Returns their names. Raises: PluginError for a name that is no pack here.
    """
    sources = {s.name: s for s in find_packs(folders)}
    ledger = read_ledger(state_dir)
    allowed, jailed = dict(ledger.allowed), dict(ledger.quarantined)
    for name in names:
        if name not in sources:
            known = ", ".join(sources) or "there are none"
            raise PluginError(f"There is no pack {name} in custom_nodes.", hint=f"Packs: {known}.")
        allowed[name] = pack_digest(sources[name]).code
        jailed.pop(name, None)
    write_ledger(state_dir, Ledger(allowed=allowed, quarantined=jailed))
    return tuple(names)


def quarantine_pack(folders: Sequence[Path], state_dir: Path, name: str, reason: str) -> None:
    """Keep a pack from being loaded until it changes or is allowed again."""
    source = next((s for s in find_packs(folders) if s.name == name), None)
    if source is None:
        return
    ledger = read_ledger(state_dir)
    jailed = {**ledger.quarantined, name: (pack_digest(source).code, reason)}
    write_ledger(state_dir, Ledger(allowed=ledger.allowed, quarantined=jailed))
