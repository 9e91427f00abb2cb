"""A captioned set of pictures as an immutable value, and what can be made of one; reads no file."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from engine.api.errors import NodeError

GreyRange = Literal["automatic", "full", "12-bit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One picture with its caption.

    `digest` is of the picture's bytes, so are `mask_digest` and `condition_digest`. `look` is a
    perceptual hash of 64 bit: pictures that look alike differ in few bits. A picture with
    `repeats` 3 is seen three times in an epoch; `is_class` marks one of prior preservation.
    `grey_range` says how a grey picture of more than 8 bit is scaled.
    """

    path: Path
    digest: str
    text: str
    width_px: int
    height_px: int
    mask_path: Path | None = None
    mask_digest: str | None = None
    condition_path: Path | None = None
    condition_digest: str | None = None
    repeats: int = 1
    is_class: bool = False
    grey_range: GreyRange = "automatic"
    look: int = 0

    @property
    def content(self) -> list[object]:
        """Everything that training can see of it: no paths."""
        return [
            self.digest,
            self.text,
            self.mask_digest,
            self.condition_digest,
            self.repeats,
            self.is_class,
            self.grey_range,
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found: an error stops training, a warning is only shown.

    `code` is for programs, `files` are the names it is about.
    """

    severity: Literal["error", "warning"]
    code: str
    message: str
    hint: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Examples in a fixed order; `findings` are what their reading already brought to light."""

    examples: tuple[Example, ...]
    name: str = "dataset"
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over file digests, texts and flags; a set that was moved keeps it."""
        body = json.dumps([e.content for e in self.examples], separators=(",", ":"))
        return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()

    def require(self) -> None:
        """Pass if it can be trained on. Raises: NodeError with all errors."""
        errors = [f for f in self.findings if f.severity == "error"]
        if errors:
            raise NodeError(
                f"The dataset '{self.name}' cannot be trained on: "
                + " ".join(f.message for f in errors),
                hint=errors[0].hint,
            )
        if not any(not e.is_class for e in self.examples):
            raise NodeError(
                f"The dataset '{self.name}' holds no pictures"
                + (" but class pictures." if self.examples else "."),
                hint="Choose a folder with pictures, or select some with the node's button.",
            )


def change(dataset: Dataset, edit: Callable[[Example], Example]) -> Dataset:
    """The dataset with each example changed."""
    return replace(dataset, examples=tuple(edit(e) for e in dataset.examples))


def merge(datasets: Iterable[Dataset]) -> Dataset:
    """Several datasets, one after the other."""
    parts = tuple(datasets)
    return Dataset(
        examples=tuple(e for part in parts for e in part.examples),
        name=" + ".join(part.name for part in parts),
        findings=tuple(f for part in parts for f in part.findings),
    )


def subset(dataset: Dataset, count: int, seed: int | None = None) -> Dataset:
    """The first `count` examples, or `count` random ones in their old order; 0 = all of them."""
    if count <= 0 or count >= len(dataset):
        return dataset
    chosen: Sequence[int] = range(count)
    if seed is not None:
        chosen = sorted(_shuffled(len(dataset), seed)[:count])
    return replace(dataset, examples=tuple(dataset.examples[i] for i in chosen))


def split(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """A part to train on and the `share` of it that is held back to validate.

    Equal pictures stay on one side, and class pictures on the first: the second only tells the
    truth about pictures that were never seen. Both parts keep the old order.
    Raises: NodeError when a side would be empty.
    """
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(dataset.examples):
        if not example.is_class:
            groups.setdefault(example.digest, []).append(index)
    names = sorted(groups)  # by content, so that the order of files changes nothing
    count = round(len(names) * share)
    if len(names) < 2 or not 0 < count < len(names):
        raise NodeError(
            f"{len(names)} different pictures cannot be split with a share of {share:g}: "
            "one side would be empty.",
            hint="Use more pictures or another share.",
        )
    order = _shuffled(len(names), seed)
    held = {i for k in order[:count] for i in groups[names[k]]}
    train = tuple(e for i, e in enumerate(dataset.examples) if i not in held)
    kept = tuple(e for i, e in enumerate(dataset.examples) if i in held)
    return (
        replace(dataset, examples=train),
        Dataset(examples=kept, name=f"{dataset.name} (validation)"),
    )


def _shuffled(count: int, seed: int) -> list[int]:
    return [int(i) for i in np.random.default_rng([seed, count]).permutation(count)]
