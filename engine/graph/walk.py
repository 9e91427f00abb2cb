"""The one walk over a graph: what outputs need, parents first, and the cycles on the way."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from engine.graph.prompt import Graph, Link, Node

_MAX_CYCLES = 20  # naming a cycle costs its length, so only the first ones are named

Skip = Callable[[Node], Collection[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """`order`: each node after its parents. `cycles`: named parent by parent, first id repeated.

    `in_cycle` are nodes with a link back to a node that needs them; every cycle has one.
    """

    order: tuple[str, ...]
    cycles: tuple[tuple[str, ...], ...]
    in_cycle: frozenset[str]


def walk(graph: Graph, roots: Iterable[str], skip: Skip | None = None) -> Walk:
    """The nodes that `roots` need, depth first from the first root on, in O(nodes + links).

    The order depends on nothing but the order of roots and inputs. Inputs that `skip` names for a
    node are not followed; links to unknown nodes are passed over.
    """
    nodes = graph.nodes
    order: list[str] = []
    cycles: list[tuple[str, ...]] = []
    in_cycle: set[str] = set()
    is_done: dict[str, bool] = {}  # False while the node is on the path
    for root in roots:
        if root in is_done or root not in nodes:
            continue
        is_done[root] = False
        path = [root]
        pending = [_parents(nodes[root], skip)]
        while path:
            if not pending[-1]:
                pending.pop()
                node_id = path.pop()
                is_done[node_id] = True
                order.append(node_id)
                continue
            parent = pending[-1].pop()
            done = is_done.get(parent)
            if done is None:
                node = nodes.get(parent)
                if node is not None:
                    is_done[parent] = False
                    path.append(parent)
                    pending.append(_parents(node, skip))
            elif not done:
                in_cycle.add(path[-1])
                if len(cycles) < _MAX_CYCLES:
                    cycles.append((*path[path.index(parent) :], parent))
    return Walk(order=tuple(order), cycles=tuple(cycles), in_cycle=frozenset(in_cycle))


def _parents(node: Node, skip: Skip | None) -> list[str]:
    """The ids of the node's parents, last input first."""
    if skip and (names := skip(node)):
        found = [v.node_id for n, v in node.inputs.items() if type(v) is Link and n not in names]
    else:
        found = [v.node_id for v in node.inputs.values() if type(v) is Link]
    found.reverse()
    return found
