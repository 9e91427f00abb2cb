"""Nodes that fail in the ways that the editor must tell apart."""

from typing import Annotated

from engine.api import Int, node


@node("Fails", category="test", is_output=True)
def fails(number: Annotated[int, Int(1, min=0, max=9)]) -> None:
    """Fails with an error of its own."""
    raise ValueError(f"The number {number} is <b>unlucky</b>.")


@node("FillsMemory", category="test", is_output=True)
def fills_memory(number: Annotated[int, Int(1, min=0, max=9)]) -> None:
    """Needs more memory than there is."""
    raise MemoryError(f"no room for {number} GiB")


NODES = [fails, fills_memory]
