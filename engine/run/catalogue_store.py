"""The catalogue on the server's side: kept on disk, so that it is there before any worker."""

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from engine.api.errors import EngineError
from engine.api.spec import NodeSpec
from engine.graph.catalogue import Catalogue

FORMAT = "1"  # part of the digest: raise it when the stored form changes
Json = dict[str, Any]


class NotReady(EngineError):
    """The node types are not known yet: the first worker is still starting."""

    code = "not_ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a worker offers: node types, what became of its packs, its devices."""

    catalogue: Catalogue
    packs: tuple[Mapping[str, Any], ...] = ()
    devices: tuple[Mapping[str, Any], ...] = ()


@dataclass(slots=True)
class CatalogueStore:
    """The newest catalogue; `path` is where it is kept for the sources as they are now."""

    path: Path
    contents: Contents | None = None
    _known: asyncio.Event = field(default_factory=asyncio.Event)

    def load(self) -> bool:
        """Take what an earlier worker left for the same sources; False if there is nothing."""
        try:
            self.contents = _read(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, LookupError, EngineError, TypeError, AttributeError):
            return False
        self._known.set()
        return True

    def update(self, data: Json) -> bool:
        """Take what a worker tells and keep it; False if it was known. Raises: EngineError."""
        contents = _read(data)
        old = self.contents
        is_new = old is None or (old.catalogue.specs, old.packs, old.devices) != (
            contents.catalogue.specs,
            contents.packs,
            contents.devices,
        )
        if is_new:
            self.contents = contents
            self._known.set()
            self._keep(data)
        return is_new

    async def wait(self) -> Contents:
        """The catalogue, once there is one."""
        await self._known.wait()
        return self.known

    @property
    def known(self) -> Contents:
        """Raises: NotReady."""
        if self.contents is None:
            raise NotReady(
                "The node types are not known yet.", hint="The worker is starting; try again soon."
            )
        return self.contents

    def _keep(self, data: Json) -> None:
        temporary = self.path.with_suffix(".tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for old in self.path.parent.glob("catalogue-*.json"):
                old.unlink()
            temporary.write_text(json.dumps(data), encoding="utf-8")
            temporary.replace(self.path)
        except OSError:
            return  # only the next start is slower


def _read(data: Json) -> Contents:
    specs = [NodeSpec.from_json(item) for item in data["specs"]]
    return Contents(
        catalogue=Catalogue({spec.name: spec for spec in specs}, data.get("unavailable")),
        packs=tuple(cast(Sequence[Json], data.get("packs", ()))),
        devices=tuple(cast(Sequence[Json], data.get("devices", ()))),
    )


def catalogue_path(state_dir: Path, sources: Iterable[Path], extra: str) -> Path:
    """Where the catalogue for these folders and files, as they are now, is kept.

    `extra` is what else decides the node types (options).
    """
    digest = hashlib.sha256(f"{FORMAT} {extra}".encode())
    for source in sources:
        for path in _python_files(source):
            stat = path.stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return state_dir / f"catalogue-{digest.hexdigest()[:16]}.json"


def _python_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    return sorted(p for p in source.rglob("*.py") if p.is_file())
