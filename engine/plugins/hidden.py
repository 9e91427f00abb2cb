"""The hidden inputs of pack nodes: what a node may learn about the prompt it runs in."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from engine.api.context import RunContext
from engine.api.spec import InputSpec


class DynamicPrompt:
    """The prompt of the running job, expanded nodes included (DYNPROMPT)."""

    def __init__(self, prompt: Mapping[str, Any]) -> None:
        self._prompt = prompt

    def get_node(self, node_id: str) -> Any:
        """The API form of a node. Raises: KeyError."""
        return self._prompt[node_id]

    def has_node(self, node_id: str) -> bool:
        return node_id in self._prompt

    def all_node_ids(self) -> set[str]:
        return set(self._prompt)

    def get_original_prompt(self) -> Mapping[str, Any]:
        return self._prompt

    def get_parent_node_id(self, node_id: str) -> str | None:
        """The node that was expanded into this one, if any: `10` of `10:3` and `10.0.3`."""
        return next((p for p in _parents(node_id) if p in self._prompt), None)

    def get_real_node_id(self, node_id: str) -> str:
        """The outermost node that this one came from."""
        return next((p for p in reversed(list(_parents(node_id))) if p in self._prompt), node_id)

    def get_display_node_id(self, node_id: str) -> str:
        """The node of the user's graph that shows what this one does."""
        return self.get_real_node_id(node_id)


def _parents(node_id: str) -> Iterator[str]:
    """What may be ids of outer nodes, the innermost first: subgraphs use `:`, expansions `.`."""
    for mark in reversed(list(re.finditer(r"[:.]", node_id))):
        yield node_id[: mark.start()]


def hidden_values(inputs: tuple[InputSpec, ...], ctx: RunContext) -> dict[str, Any]:
    """The values of a spec's hidden inputs for one call; kinds unknown here are None."""
    return {i.name: _value(i.type, ctx) for i in inputs if i.kind == "hidden"}


def _value(kind: str, ctx: RunContext) -> Any:
    if kind == "UNIQUE_ID":
        return ctx.node_id
    if kind == "PROMPT":
        return ctx.prompt
    if kind == "DYNPROMPT":
        return DynamicPrompt(ctx.prompt)
    if kind == "EXTRA_PNGINFO":
        return ctx.extra_pnginfo
    return None
