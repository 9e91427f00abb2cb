"""Files that nodes read under names which no key holds: made of texts, or given over a link.

A key stands for the files that constants name. Which embedding or LoRA a text names that another
node makes is known only when the node runs, so its result keeps what was read, and so does every
result made of it; a kept result counts while those files are as they were.
Source: Mokhov et al. 2018, "Build Systems à la Carte", section 4.2.2 (verifying traces).
"""

from collections.abc import Iterable, Mapping

from engine.graph.fingerprint import Fingerprinter
from engine.graph.prompt import Graph
from engine.graph.walk import walk

Place = tuple[str, str]  # folder and name, as the node asked for it
Reads = Mapping[Place, str | None]  # the digest; None where nothing was found

_SEVERAL = ""  # the digest of a file that was replaced while the job ran: never found again


class ReadFiles:
    """What the results of one job were made of; a node at work notes only for itself."""

    def __init__(self, maker: Fingerprinter) -> None:
        self._maker = maker
        self._noted: dict[str, dict[Place, str | None]] = {}
        self._results: dict[str, Reads] = {}

    def note(self, node_id: str, folder: str, name: str) -> None:
        """A node asks for a file, which may be there or not."""
        noted = self._noted.setdefault(node_id, {})
        if (folder, name) not in noted:
            noted[folder, name] = self._maker.digest_of(folder, name)

    def found(self, node_id: str, reads: Reads) -> None:
        """A kept result is used."""
        if reads:
            self._results[node_id] = reads

    def made_of(self, node_id: str, before: Iterable[str], graph: Graph) -> Reads:
        """The files of a new result: those that its node read, and those of nodes `before` it."""
        parts = [self._results[i] for i in before if i in self._results]
        noted = self._noted.pop(node_id, None)
        reads = _joined([self._beside_keys(node_id, noted, graph), *parts] if noted else parts)
        self.found(node_id, reads)
        return reads

    def _beside_keys(self, node_id: str, noted: Reads, graph: Graph) -> Reads:
        """The files that no key stands for, of the node or of one before it."""
        nodes = [graph.nodes[i] for i in walk(graph, [node_id]).order]
        return {
            (folder, name): digest
            for (folder, name), digest in noted.items()
            if not any(self._maker.stands_for(node, folder, name) for node in nodes)
        }


def _joined(parts: Iterable[Reads]) -> Reads:
    some = [part for part in parts if part]
    if len(some) < 2:
        return some[0] if some else {}
    found: dict[Place, str | None] = {}
    for part in some:
        for place, digest in part.items():
            found[place] = digest if found.get(place, digest) == digest else _SEVERAL
    return found
