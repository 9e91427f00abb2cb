"""Grids: one prompt and up to three axes become one prompt with a picture for each cell.

A node is copied only for the axes that it depends on, so that what cells share is there once; the
rest is an ordinary prompt: it is queued, resumed and cached as any other. Copies are called
`3:x0y1`, which shows them on node 3.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, cast

from engine.api.errors import GraphInvalid, Problem
from engine.api.spec import InputSpec
from engine.graph.catalogue import Catalogue
from engine.graph.grid_values import ValuesFault, labels_of, read_values
from engine.graph.prompt import Graph, Json, Link, Node, node_to_json, parse_prompt, shorten, shown
from engine.graph.typecheck import is_link_only
from engine.graph.values import Choices, fit
from engine.graph.walk import walk
from engine.text.grid_ids import AXES, copy_id
from engine.text.suggest import did_you_mean, suggest

MAX_CELLS = 1000
MAX_AXES = 3
MAX_TITLE = 80
FORBIDDEN = '/\\:*?"<>|%'
CELL, SHEET = "GridCell", "GridSheet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An input and the values that it takes along an axis; `labels` are as many."""

    node_id: str
    input_name: str
    title: str
    values: Sequence[Json]
    labels: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A checked grid: its axes (columns, rows, blocks) and the output that the cells show."""

    graph: Graph
    axes: Sequence[Axis]
    picture: Link
    title: str

    @property
    def sheet_id(self) -> str:
        """The sheet's node, under an id that the prompt does not use."""
        name = "grid"
        while name in self.graph.nodes:
            name += "_"
        return name

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis.values) for axis in self.axes)

    def cell_id(self, place: Sequence[int]) -> str:
        """The node that shows the cell at a place (column, row, block)."""
        return copy_id(self.sheet_id, _suffix(dict(enumerate(place))))


def read_grid(
    prompt: object, request: Mapping[str, Any], catalogue: Catalogue, choices: Choices
) -> Grid:
    """A grid from a prompt in API form and a request: `axes`, `picture`, `title`.

    An axis is {"node": id, "input": name, "values": see `read_values`, "labels": […]}. `picture` is
    the node that shows or saves the picture, or [id, output]; without it the first one that does.
    Raises: GraphInvalid with everything that is wrong.
    """
    reader = _Reader(graph=parse_prompt(prompt), catalogue=catalogue, choices=choices)
    axes = reader.axes(request.get("axes"))
    picture = reader.picture(request.get("picture"))
    reader.check_reach(axes, picture)
    title = reader.title(request.get("title"))
    if reader.problems or picture is None:
        raise GraphInvalid("The grid cannot be made.", problems=reader.problems, code="grid")
    return Grid(
        graph=reader.graph,
        axes=axes,
        picture=picture,
        title=title,
    )


def expand(grid: Grid) -> dict[str, Any]:
    """The prompt with all cells of a grid and the sheet that gathers them."""
    copies = _copies(grid)
    nodes: dict[str, Any] = {}
    for node_id, own in copies.items():
        for place in product(*(range(grid.shape[axis]) for axis in own)):
            at = dict(zip(own, place))
            copy = _copy(grid, grid.graph.nodes[node_id], at, copies)
            nodes[copy.id] = node_to_json(copy)
    cells: dict[str, Json] = {}
    for place in product(*map(range, grid.shape)):
        at = dict(enumerate(place))
        values = {axis.title: axis.labels[i] for axis, i in zip(grid.axes, place)}
        nodes[grid.cell_id(place)] = {
            "class_type": CELL,
            "inputs": {
                "images": _target(grid.picture, at, copies),
                "place": ",".join(map(str, place)),
                "values": json.dumps(values, ensure_ascii=False),
                "title": grid.title,
            },
            "_meta": {"title": ", ".join(f"{k} {v}" for k, v in values.items())},
        }
        cells[f"cell{len(cells)}"] = [grid.cell_id(place), 0]
    nodes[grid.sheet_id] = {
        "class_type": SHEET,
        "inputs": {"request": json.dumps(described(grid), ensure_ascii=False), **cells},
    }
    return nodes


def described(grid: Grid) -> dict[str, Any]:
    """The grid as a request that makes it again, with its prompt."""
    return {
        "title": grid.title,
        "axes": [
            {
                "node": axis.node_id,
                "input": axis.input_name,
                "title": axis.title,
                "values": list(axis.values),
                "labels": list(axis.labels),
            }
            for axis in grid.axes
        ],
        "picture": [grid.picture.node_id, grid.picture.index],
        "prompt": grid.graph.to_json(),
    }


# Copies -------------------------------------------------------------------------------------------


def _copies(grid: Grid) -> dict[str, tuple[int, ...]]:
    """The nodes that the picture needs, parents first, with the axes that each depends on."""
    found: dict[str, tuple[int, ...]] = {}
    own: dict[str, set[int]] = {}
    for number, axis in enumerate(grid.axes):
        own.setdefault(axis.node_id, set()).add(number)
    for node_id in walk(grid.graph, [grid.picture.node_id]).order:
        axes = set(own.get(node_id, ()))
        for _, link in grid.graph.nodes[node_id].links():
            axes.update(found.get(link.node_id, ()))
        found[node_id] = tuple(sorted(axes))
    return found


def _copy(
    grid: Grid, node: Node, at: Mapping[int, int], copies: Mapping[str, tuple[int, ...]]
) -> Node:
    inputs = dict(node.inputs)
    for name, value in inputs.items():
        if type(value) is Link:
            target = _target(value, at, copies)
            inputs[name] = Link(str(target[0]), value.index)
    for number, axis in enumerate(grid.axes):
        if axis.node_id == node.id:
            inputs[axis.input_name] = axis.values[at[number]]
    return Node(id=_copy_id(node.id, at), class_type=node.class_type, inputs=inputs, meta=node.meta)


def _target(link: Link, at: Mapping[int, int], copies: Mapping[str, tuple[int, ...]]) -> list[Json]:
    own = copies.get(link.node_id, ())
    return [_copy_id(link.node_id, {axis: at[axis] for axis in own}), link.index]


def _copy_id(node_id: str, at: Mapping[int, int]) -> str:
    return copy_id(node_id, _suffix(at))


def _suffix(at: Mapping[int, int]) -> str:
    return "".join(f"{AXES[axis]}{at[axis]}" for axis in sorted(at))


# Reading a request --------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Reads the parts of a request and gathers what is wrong with them."""

    graph: Graph
    catalogue: Catalogue
    choices: Choices
    problems: list[Problem] = field(default_factory=list[Problem])

    def axes(self, given: object) -> list[Axis]:
        """The axes that can be read."""
        if not isinstance(given, list) or not 1 <= len(cast("list[Any]", given)) <= MAX_AXES:
            self._add(
                "A grid has one to three axes.",
                hint='"axes": [{"node": …, "input": …, "values": …}]',
            )
            return []
        found = [self._axis(number, axis) for number, axis in enumerate(cast("list[Any]", given))]
        axes = [axis for axis in found if axis is not None]
        places = [(axis.node_id, axis.input_name) for axis in axes]
        for axis in {place for place in places if places.count(place) > 1}:
            self._add(f"Input {axis[1]} of {self.graph.label(axis[0])} is on two axes.", *axis)
        count = 1
        for axis in axes:
            count *= len(axis.values)
        if count > MAX_CELLS:
            shape = " × ".join(str(len(axis.values)) for axis in axes)
            self._add(
                f"The grid has {count} cells ({shape}).",
                hint=f"At most {MAX_CELLS} are made at once; take fewer values.",
            )
        return axes

    def _axis(self, number: int, given: object) -> Axis | None:
        where = f"Axis {AXES[number]}"
        if not isinstance(given, dict):
            self._add(
                f"{where} is no object.", hint='{"node": "3", "input": "cfg", "values": [2, 4]}'
            )
            return None
        axis = cast("dict[str, Any]", given)
        node = self._node(where, axis.get("node"))
        item = node and self._input(where, node, axis.get("input"))
        if node is None or item is None:
            return None
        try:
            values = read_values(axis.get("values"), item)
        except ValuesFault as fault:
            self._add(
                f"{where} ({node.label}, {item.name}): the values {fault}.", node.id, item.name
            )
            return None
        fitted = [self._fitted(where, node, item, value) for value in values]
        labels = axis.get("labels")
        if labels is None:
            labels = labels_of(fitted)
        elif not isinstance(labels, list) or len(cast("list[Any]", labels)) != len(values):
            self._add(
                f"{where} has {len(values)} values, but not as many labels.", node.id, item.name
            )
            return None
        title = axis.get("title")
        return Axis(
            node_id=node.id,
            input_name=item.name,
            title=title if isinstance(title, str) and title else item.name,
            values=fitted,
            labels=[str(label) for label in cast("list[Any]", labels)],
        )

    def _node(self, where: str, given: object) -> Node | None:
        """A node by its id, or else by its title or type."""
        name = str(given)
        if name in self.graph.nodes:
            return self.graph.nodes[name]
        nodes = self.graph.nodes.values()
        named = [n for n in nodes if name in (n.meta.get("title"), n.class_type)]
        if len(named) == 1:
            return named[0]
        known = {str(n) for node in nodes for n in (node.meta.get("title"), node.class_type) if n}
        hint = did_you_mean(suggest(name, known)) or f"Its nodes: {', '.join(self.graph.nodes)}."
        several = f"{len(named)} nodes are called" if named else "the prompt has no node"
        self._add(
            f"{where}: {several} {shorten(name)}.", hint="Name it by its id." if named else hint
        )
        return None

    def _input(self, where: str, node: Node, given: object) -> InputSpec | None:
        name, entry = str(given), self.catalogue.entry(node.class_type)
        if entry is None:
            self._add(f"{where}: {node.label} is of an unknown type.", node.id)
            return None
        item = entry.inputs.get(name)
        hint = None
        if item is None:
            names = [i.name for i in entry.inputs.values() if not is_link_only(i.type)]
            fault = f"has no input {shorten(name)}"
            hint = did_you_mean(suggest(name, names)) or f"Its inputs: {', '.join(names)}."
        elif is_link_only(item.type):
            fault = f"takes {name} by a link only"
        elif type(node.inputs.get(name)) is Link:
            fault = f"gets {name} from another node"
            hint = "Take the input of that node."
        else:
            return item
        self._add(f"{where}: {node.label} {fault}.", node.id, name, hint)
        return None

    def _fitted(self, where: str, node: Node, item: InputSpec, value: Json) -> Json:
        found, misfit = fit(item, value, self.choices)
        if misfit is not None:
            says = f"{where}: input {item.name} of {node.label} {misfit.says}."
            self._add(
                says, node.id, item.name, misfit.hint, got=shown(value), expected=misfit.expected
            )
        return found

    def title(self, given: object) -> str:
        """The title, which is also the start of the files' names."""
        title = given.strip() if isinstance(given, str) else ""
        if len(title) > MAX_TITLE or any(c in FORBIDDEN or not c.isprintable() for c in title):
            self._add(
                f"The title {shorten(title)} cannot be a file name.",
                hint=f"Leave out {' '.join(FORBIDDEN)} and keep it below {MAX_TITLE} letters.",
            )
        return title or "grid"

    def picture(self, given: object) -> Link | None:
        """The output that is each cell's picture."""
        if isinstance(given, list) and len(cast("list[Any]", given)) == 2:
            node_id, index = cast("list[Any]", given)
            node = self.graph.nodes.get(str(node_id))
            spec = node and self.catalogue.get(node.class_type)
            if spec and type(index) is int and 0 <= index < len(spec.outputs):
                if spec.outputs[index].type in ("IMAGE", "*"):
                    return Link(str(node_id), index)
                self._add(f"Output {index} of {self.graph.label(str(node_id))} is no picture.")
                return None
            self._add(f"There is no output {shown(cast('Json', given))} for the cells' pictures.")
            return None
        if given is not None and str(given) not in self.graph.nodes:
            self._add(f"There is no node {shorten(str(given))} for the cells' pictures.")
            return None
        for node in self.graph.nodes.values():
            if given is None or node.id == str(given):
                link = self._shown_by(node)
                if link is not None:
                    return link
        whose = (
            "No node saves or shows"
            if given is None
            else f"{self.graph.label(str(given))} does not save or show"
        )
        self._add(f"{whose} a picture.", hint="Add Save Image or Preview Image after the picture.")
        return None

    def _shown_by(self, node: Node) -> Link | None:
        entry = self.catalogue.entry(node.class_type)
        if entry is None or not entry.spec.is_output:
            return None
        links = (
            link
            for name, link in node.links()
            if name in entry.inputs and entry.inputs[name].type == "IMAGE"
        )
        return next(links, None)

    def check_reach(self, axes: Sequence[Axis], picture: Link | None) -> None:
        """An axis that changes nothing in the picture is an error."""
        if picture is None:
            return
        needed = set(walk(self.graph, [picture.node_id]).order)
        for axis in axes:
            if axis.node_id not in needed:
                self._add(
                    f"{self.graph.label(axis.node_id)} does not lead to the picture, "
                    f"so {axis.input_name} would change nothing.",
                    axis.node_id,
                    axis.input_name,
                )

    def _add(
        self,
        message: str,
        node_id: str | None = None,
        input_name: str | None = None,
        hint: str | None = None,
        got: str | None = None,
        expected: str | None = None,
    ) -> None:
        node = self.graph.nodes.get(node_id) if node_id else None
        self.problems.append(
            Problem(
                code="grid",
                message=message,
                node_id=node_id,
                node_type=node.class_type if node else None,
                input_name=input_name,
                hint=hint,
                got=got,
                expected=expected,
            )
        )
