"""Published model files that are known by their SHA-256: `known_models.json`.

Only files whose hash was known beforehand are in it. It offers downloads (`main.py models get`) and
names a file that somebody renamed. `bytes` is for the person and the free disk; the hash decides.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("known_models.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """One published file: how to call it, where it is, what it is, and its licence."""

    name: str
    title: str
    file: str
    kind: str
    family: str
    bytes: int
    sha256: str
    url: str
    page: str
    licence: str
    licence_url: str

    @property
    def command(self) -> str:
        """The command that gets it."""
        return f"python3 main.py models get {self.name}"


def known_models(file: Path = FILE) -> Sequence[KnownModel]:
    """All of them."""
    rows = json.loads(file.read_text(encoding="utf-8"))["models"]
    return tuple(KnownModel(**row) for row in rows)


def by_digest(models: Sequence[KnownModel], sha256: str) -> KnownModel | None:
    """The published file of a digest."""
    return next((model for model in models if sha256 and model.sha256 == sha256), None)
