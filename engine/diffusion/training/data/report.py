"""What should be known of a dataset before hours of training, for people and for programs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from engine.diffusion.training.data.dataset import Dataset, Example, Finding
from engine.diffusion.training.data.loading import shown

MAX_TOKENS = 75
FEW, MANY = 10, 30  # the customary number of pictures of one subject
_MAX_ASPECT = 2.5
_ALIKE_BITS = 5
_MAX_COMPARED = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Findings, errors first, and the figures of a dataset."""

    name: str
    figures: Mapping[str, Any]
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        return any(f.severity == "error" for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "figures": dict(self.figures),
            "findings": [{**asdict(f), "files": list(f.files)} for f in self.findings],
        }

    def to_text(self) -> str:
        """The report as people read it."""
        lines = [f"{self.name}: {self.figures['summary']}"]
        if not self.findings:
            lines.append("Nothing to complain about.")
        for finding in self.findings:
            mark = "ERROR  " if finding.severity == "error" else "warning"
            lines.append(f"{mark}  {finding.message}")
            if finding.hint:
                lines.append(f"         {finding.hint}")
        return "\n".join(lines)


def check(
    dataset: Dataset, size_px: int, count_tokens: Callable[[str], int], *, is_subject: bool = False
) -> Report:
    """Look at a dataset as one to be trained at `size_px`.

    `is_subject` tells that it shows one subject, of which 10 to 30 pictures are customary.
    """
    found = [
        *dataset.findings,
        *_count_findings(dataset, is_subject),
        *_duplicates(dataset.examples),
        *_sizes(dataset.examples, size_px),
        *_captions(dataset.examples, count_tokens),
    ]
    errors = [f for f in found if f.severity == "error"]
    warnings = [f for f in found if f.severity != "error"]
    return Report(name=dataset.name, figures=_figures(dataset), findings=(*errors, *warnings))


def _figures(dataset: Dataset) -> dict[str, Any]:
    examples = dataset.examples
    own = sum(not e.is_class for e in examples)
    sides = [min(e.width_px, e.height_px) for e in examples]
    masks = sum(e.mask_path is not None for e in examples)
    captioned = sum(bool(e.text) for e in examples)
    parts = [f"{own} pictures", f"{captioned} with a caption"]
    if own < len(examples):
        parts.insert(1, f"{len(examples) - own} class pictures")
    if masks:
        parts.append(f"{masks} with a mask")
    if sides:
        parts.append(f"shorter sides {min(sides)} to {max(sides)} px")
    return {
        "summary": ", ".join(parts) + ".",
        "pictures": own,
        "class_pictures": len(examples) - own,
        "seen_per_epoch": sum(e.repeats for e in examples if not e.is_class),
        "captioned": captioned,
        "masks": masks,
        "smallest_px": min(sides, default=0),
        "largest_px": max(sides, default=0),
    }


def _finding(code: str, message: str, hint: str, files: Sequence[str]) -> Finding:
    return Finding(
        severity="warning",
        code=code,
        message=f"{message}: {shown(files)}." if files else message,
        hint=hint,
        files=tuple(files),
    )


def _count_findings(dataset: Dataset, is_subject: bool) -> Iterator[Finding]:
    own = len({e.digest for e in dataset.examples if not e.is_class})
    if own == 0:
        yield Finding(
            severity="error",
            code="no_pictures",
            message="There is no picture to train on.",
            hint="Choose a folder with pictures, or take the filter away.",
        )
    elif own < FEW:
        yield _finding(
            "few_pictures",
            f"Few different pictures: {own}; {FEW} to {MANY} of a subject are customary.",
            "Add pictures with other backgrounds, light and angles, or train fewer steps.",
            (),
        )
    elif is_subject and own > MANY:
        yield _finding(
            "many_pictures",
            f"Many pictures of one subject: {own}; {FEW} to {MANY} are customary.",
            "Take the best and most different ones.",
            (),
        )


def _duplicates(examples: Sequence[Example]) -> Iterator[Finding]:
    by_digest: dict[str, list[Example]] = {}
    for example in examples:
        by_digest.setdefault(example.digest, []).append(example)
    # The same file with several captions (COCO) is meant so.
    same = [g for g in by_digest.values() if len({e.path for e in g}) > 1]
    if same:
        names = [" = ".join(sorted({e.path.name for e in group})) for group in same]
        yield _finding(
            "duplicates",
            "There more than once",
            "They count that much more; take the copies out if that is not meant.",
            names,
        )
    alike = _alike([group[0] for group in by_digest.values()])
    if alike:
        names = [f"{a.path.name} ~ {b.path.name}" for a, b in alike]
        yield _finding(
            "near_duplicates",
            "Nearly alike",
            "Many pictures of one scene teach the scene; keep the best of each.",
            names,
        )


def _alike(examples: Sequence[Example]) -> list[tuple[Example, Example]]:
    """Pairs whose perceptual hashes differ in few bits."""
    some = examples[:_MAX_COMPARED]
    looks = np.array([e.look for e in some], dtype=np.uint64)
    pairs: list[tuple[Example, Example]] = []
    for index in range(len(some) - 1):
        different = np.bitwise_count(looks[index + 1 :] ^ looks[index])
        near = np.flatnonzero(different <= _ALIKE_BITS)
        pairs += [(some[index], some[index + 1 + int(i)]) for i in near]
    return pairs


def _sizes(examples: Sequence[Example], size_px: int) -> Iterator[Finding]:
    small = [e for e in examples if e.width_px * e.height_px < size_px * size_px * 0.8]
    if small:
        yield _finding(
            "too_small",
            f"Fewer pixels than training at {size_px} px needs, so that they would be blurred",
            "Use larger pictures, enlarge them with an upscaler, or train at a smaller size.",
            [f"{e.path.name} ({e.width_px}×{e.height_px})" for e in small],
        )
    long = [e for e in examples if _aspect(e) > _MAX_ASPECT]
    if long:
        yield _finding(
            "extreme_aspect",
            "So wide or tall that much is cut off",
            "Cut them by hand to the part that counts.",
            [f"{e.path.name} ({e.width_px}×{e.height_px})" for e in long],
        )


def _aspect(example: Example) -> float:
    sides = (example.width_px, example.height_px)
    return max(sides) / max(1, min(sides))


def _captions(examples: Sequence[Example], count_tokens: Callable[[str], int]) -> Iterator[Finding]:
    empty = [e.path.name for e in examples if not e.text]
    if empty:
        yield _finding(
            "caption_missing",
            f"Without a caption ({len(empty)} of {len(examples)})",
            "Write captions in the node's caption editor, or add words with Edit Captions.",
            empty,
        )
    long = [(e, n) for e in examples if (n := count_tokens(e.text)) > MAX_TOKENS]
    if long:
        yield _finding(
            "caption_long",
            f"Captions longer than {MAX_TOKENS} tokens, the rest is not learned",
            "Shorten them, the important words first.",
            [f"{e.path.name} ({n})" for e, n in long],
        )
