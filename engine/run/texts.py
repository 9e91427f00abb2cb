"""Prompts that nodes make (dynamic prompts, styles …): found, so that pictures can carry them.

A text that is linked into a prompt field is known only when the job runs. Its node is made an
output of the run, so that the text is there even if everything after it comes from the cache.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.graph.catalogue import Catalogue
from engine.graph.prompt import Graph, Link
from engine.graph.walk import walk

ValuesOf = Callable[[Link], Sequence[Any]]


class MadeTexts:
    """The links into prompt fields among the nodes that outputs need.

    A prompt field is a text input with the customary option `dynamicPrompts`. What only lazy
    inputs lead to is left out, as nobody knows whether it will run.
    """

    def __init__(self, graph: Graph, catalogue: Catalogue, outputs: Sequence[str]) -> None:
        self._graph = graph
        self._links: dict[str, dict[str, Link]] = {}
        entries = {i: catalogue.entry(n.class_type) for i, n in graph.nodes.items()}

        def deferred(node_id: str) -> Any:
            entry = entries[node_id]
            return entry.deferred if entry else ()

        for node_id in walk(graph, outputs, lambda node: deferred(node.id)).order:
            entry = entries.get(node_id)
            for name, link in graph.nodes[node_id].links() if entry else ():
                field = entry.spec.input(name) if entry else None
                if field is not None and field.options.get("dynamicPrompts"):
                    self._links.setdefault(node_id, {})[name] = link

    @property
    def sources(self) -> tuple[str, ...]:
        """The nodes that make the texts, each once."""
        links = (link for fields in self._links.values() for link in fields.values())
        return tuple(dict.fromkeys(link.node_id for link in links))

    def before(self, node_id: str, values_of: ValuesOf) -> Mapping[str, Mapping[str, Any]]:
        """The texts that a node's result was made of, as {node: {input: text}}; lists if several.

        Nodes of expansions get those of the whole prompt.
        """
        if not self._links:
            return {}
        known = node_id in self._graph.nodes
        order = walk(self._graph, [node_id]).order if known else tuple(self._links)
        found: dict[str, dict[str, Any]] = {}
        for before in order:
            for name, link in self._links.get(before, {}).items():
                texts = [value for value in values_of(link) if isinstance(value, str)]
                if texts:
                    found.setdefault(before, {})[name] = texts[0] if len(texts) == 1 else texts
        return found
