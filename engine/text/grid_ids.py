"""The ids of the copies of nodes in a grid: `3:x0y1` is node 3 in column 0 and row 1."""

import re

AXES = "xyz"
_COPY = re.compile(r"(.+):(?:[xyz]\d+){1,3}", re.DOTALL)


def copy_id(node_id: str, suffix: str) -> str:
    """The id of a node's copy; the node itself where it does not depend on any axis."""
    return f"{node_id}:{suffix}" if suffix else node_id


def base_id(node_id: str) -> str:
    """The node that a copy was made of; any other id as it is."""
    found = _COPY.fullmatch(node_id)
    return found[1] if found else node_id
