"""What the caches hold for one output of a prompt as it is now; nothing is run for it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.api.errors import StorageError
from engine.graph.fingerprint import Fingerprinter
from engine.graph.prompt import Graph
from engine.run.keys import PastKeys, RunKeys
from engine.run.store import Caches

READ_LIMIT_S = 2.0  # for files whose digest is not known: then no run has read them yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Peeked:
    """The values of an output (one unless mapped), or None with the reason in words."""

    values: Sequence[Any] | None
    words: str
    seconds: float = 0.0


def peek(
    graph: Graph, node_id: str, output: int, maker: Fingerprinter, past: PastKeys, caches: Caches
) -> Peeked:
    """The values under the key that a run would use now; those of other keys are never given.

    Raises: GraphInvalid when the node's inputs cannot be followed, EngineError for unknown types.
    """
    keys = RunKeys(graph, (node_id,), maker, past)
    found = caches.look(keys.of(node_id))
    if found is None or not keys.is_current(node_id, found[0].reads):
        return Peeked(values=None, words=_why(keys, node_id, was_kept=found is not None))
    result, record = found
    if not 0 <= output < len(result.outputs):
        return Peeked(values=None, words=f"{graph.label(node_id)} gave no such output.")
    return Peeked(values=result.outputs[output], words=record.reason, seconds=result.seconds)


def _why(keys: RunKeys, node_id: str, *, was_kept: bool) -> str:
    if keys.is_as_before(node_id) and not was_kept:
        return "It is no longer in the cache. Run again to see it."
    reason = keys.reason(node_id)
    return "It is not computed yet." + ("" if reason == "first run" else f" Since then: {reason}.")


def reading_limit() -> Callable[[], None]:
    """A check for file reading that gives up after some seconds. Raises: StorageError."""
    end = time.monotonic() + READ_LIMIT_S

    def check() -> None:
        if time.monotonic() > end:
            raise StorageError("The file is still being read.")

    return check
