"""Did-you-mean: the known names that are closest to a wrong one; knows nothing of graphs."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_MAX_NAME = 120  # longer names are no typing errors, and comparing them costs


def suggest(name: str, known: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """Up to `limit` of the `known` names that look like `name`, the closest first."""
    if not name or len(name) > _MAX_NAME:
        return ()
    folded: dict[str, str] = {}
    for candidate in known:
        if len(candidate) <= _MAX_NAME:
            folded.setdefault(candidate.lower(), candidate)
    return tuple(folded[m] for m in get_close_matches(name.lower(), folded, limit, 0.6))


def is_likely_typo(wrong: str, right: str) -> bool:
    """Whether `wrong` is `right` with at most two letters added, lost, changed or swapped.

    Names that differ in their digits only (`image1`, `image2`) are two names, and names of three
    or four letters may differ in one.
    """
    longest = max(len(wrong), len(right))
    allowed = 2 if longest > 4 else longest // 3
    if abs(len(wrong) - len(right)) > allowed or len(right) > _MAX_NAME:
        return False
    if _without_digits(wrong) == _without_digits(right):
        return False
    return _edits(wrong.lower(), right.lower()) <= allowed


def _without_digits(text: str) -> str:
    return "".join(c for c in text if not c.isdigit())


def _edits(a: str, b: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        before, last, row = row, before, [i]
        for j, other in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def did_you_mean(names: Sequence[str]) -> str | None:
    """A hint that names close matches; None when there is none."""
    if not names:
        return None
    *first, last = [f'"{n}"' for n in names]
    return f"Did you mean {', '.join(first) + ' or ' if first else ''}{last}?"
