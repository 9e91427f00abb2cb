"""Nodes that decide and repeat: compare, choose, block, and loops by expansion.

A loop is a start node, nodes between, and an end node. Each turn runs a copy of the nodes between
them: the end expands into a turn, which copies them with the next start and asks for one more turn.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from engine.api import (
    AnyValue,
    Blocked,
    Choice,
    Int,
    NodeError,
    NodeOutput,
    Options,
    RunContext,
    Socket,
    Text,
    Toggle,
    node,
)

if TYPE_CHECKING:
    Loop: TypeAlias = Any
else:
    Loop = Socket("LOOP")

RAW = Options(rawLink=True)
LAZY = Options(lazy=True)
_CHOICES = 8

Lists = list[Any]


# Values -------------------------------------------------------------------------------------------

_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_OPERATIONS = ("and", "or", "xor", "nand", "nor", "not a")


@node("Compare", title="Compare", category="logic", search=("equal", "less", "greater"))
def compare(
    a: AnyValue, b: AnyValue, comparison: Annotated[str, Choice(_COMPARISONS, default="==")]
) -> bool:
    """Tells whether a and b are equal, or which is larger."""
    try:
        match comparison:
            case "==":
                result = a == b
            case "!=":
                result = a != b
            case "<":
                result = a < b
            case "<=":
                result = a <= b
            case ">":
                result = a > b
            case _:
                result = a >= b
        return bool(result)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NodeError(
            f"{type(a).__name__} {comparison} {type(b).__name__} cannot be told.",
            hint="Compare numbers with numbers and texts with texts.",
        ) from error


@node("BooleanLogic", title="Boolean Logic", category="logic", search=("and", "or", "not"))
def boolean_logic(
    a: Annotated[bool, Toggle()],
    b: Annotated[bool, Toggle()],
    operation: Annotated[str, Choice(_OPERATIONS, default="and")],
) -> bool:
    """Joins two yes-or-no values."""
    match operation:
        case "and":
            return a and b
        case "or":
            return a or b
        case "xor":
            return a != b
        case "nand":
            return not (a and b)
        case "nor":
            return not (a or b)
        case _:
            return not a


def _needed_side(switch: bool | None = None, **_values: Any) -> list[str]:
    return ["on_true" if switch else "on_false"]


@node(
    "ComfySwitchNode",
    title="Switch",
    category="logic",
    aliases=("IfElse",),
    search=("if", "else", "choose"),
    check_lazy=_needed_side,
    output_names=("output",),
)
def switch_values(
    switch: Annotated[bool, Toggle()],
    on_false: Annotated[AnyValue, LAZY] = None,
    on_true: Annotated[AnyValue, LAZY] = None,
) -> AnyValue:
    """Passes one of two values on; the nodes that only the other one needs do not run."""
    return _passed(on_true if switch else on_false)


def _needed_choice(index: int | None = None, **_values: Any) -> list[str]:
    return [f"value{index}"]


@node("SwitchByIndex", title="Switch by Index", category="logic", check_lazy=_needed_choice)
def switch_by_index(
    index: Annotated[int, Int(0, min=0, max=_CHOICES - 1)],
    value0: Annotated[AnyValue, LAZY] = None,
    value1: Annotated[AnyValue, LAZY] = None,
    value2: Annotated[AnyValue, LAZY] = None,
    value3: Annotated[AnyValue, LAZY] = None,
    value4: Annotated[AnyValue, LAZY] = None,
    value5: Annotated[AnyValue, LAZY] = None,
    value6: Annotated[AnyValue, LAZY] = None,
    value7: Annotated[AnyValue, LAZY] = None,
) -> AnyValue:
    """Passes the value of that number on; what only the other values need does not run."""
    return _passed((value0, value1, value2, value3, value4, value5, value6, value7)[index])


@node("Blocker", title="Blocker", category="logic", search=("stop", "gate"))
def blocker(
    value: AnyValue,
    is_open: Annotated[bool, Toggle(True, tooltip="No: nothing after this node runs.")],
    message: Annotated[str, Text("", tooltip="Shown as an error where the value is used.")] = "",
) -> AnyValue:
    """Passes a value on, or stops every node that would use it."""
    return _passed(value if is_open else Blocked(message or None))


def _passed(value: Any) -> NodeOutput:
    """A value as the only output, also when it is a tuple or None."""
    return NodeOutput(result=(value,))


# Loops: all take and give whole lists, so that a mapped value stays one value of the loop --------


@node(
    "ForLoopStart",
    title="For Loop Start",
    category="logic/loops",
    takes_lists=True,
    list_outputs=(2,),
    output_names=("loop", "index", "value"),
)
def for_loop_start(
    count: Annotated[int, Int(3, min=0, max=1_000_000)], value: AnyValue | None = None
) -> tuple[Loop, int, AnyValue]:
    """Starts a loop with a number of turns. `index` counts from 0; `value` goes round."""
    return _start(count, value)


@node(
    "ForLoopEnd",
    title="For Loop End",
    category="logic/loops",
    takes_lists=True,
    list_outputs=(0,),
    output_names=("value",),
)
def for_loop_end(loop: Annotated[Loop, RAW], value: Annotated[AnyValue, RAW]) -> AnyValue:
    """Ends a loop: its value goes round to the start, and on from here after the last turn.

    The nodes between the start and this value run in every turn.
    """
    return _first_turn(loop[0], value[0], None)


@node(
    "WhileLoopStart",
    title="While Loop Start",
    category="logic/loops",
    takes_lists=True,
    list_outputs=(2,),
    output_names=("loop", "index", "value"),
)
def while_loop_start(
    value: AnyValue | None = None,
    max_turns: Annotated[int, Int(1000, min=1, max=1_000_000)] = 1000,
) -> tuple[Loop, int, AnyValue]:
    """Starts a loop that goes on while a condition holds, for at most so many turns."""
    return _start(max_turns, value)


@node(
    "WhileLoopEnd",
    title="While Loop End",
    category="logic/loops",
    takes_lists=True,
    list_outputs=(0,),
    output_names=("value",),
)
def while_loop_end(
    loop: Annotated[Loop, RAW],
    value: Annotated[AnyValue, RAW],
    condition: Annotated[bool, Toggle(True, forceInput=True), RAW],
) -> AnyValue:
    """Ends a loop: one more turn while the condition is true, looked at after each turn."""
    conditions: Any = condition
    return _first_turn(loop[0], value[0], conditions[0])


@node(
    "LoopAgain",
    title="Loop: Next Start",
    category="logic/loops",
    takes_lists=True,
    list_outputs=(2,),
    is_deprecated=True,
)
def loop_again(
    state: Loop, value: AnyValue, condition: Annotated[bool, Toggle(True)] = True
) -> tuple[Loop, int, AnyValue]:
    """The start of a further turn; loops add it by themselves."""
    before = state[0]
    goes_on = all(condition) if isinstance(condition, list) else condition
    after = {**before, "index": before["index"] + 1, "is_over": not goes_on}
    return after, after["index"], value


@node(
    "LoopTurn",
    title="Loop: Turn",
    category="logic/loops",
    takes_lists=True,
    list_outputs=(0,),
    is_deprecated=True,
)
def loop_turn(
    ctx: RunContext,
    state: Loop,
    value: AnyValue,
    loop: Annotated[Loop, RAW],
    body: Annotated[AnyValue, RAW],
    condition: Annotated[AnyValue, RAW] = None,
) -> AnyValue:
    """One turn of a loop, or its result; loops add it by themselves."""
    at = state[0]
    if at["is_over"] or at["index"] >= at["count"]:
        return value
    ctx.progress(at["index"], at["count"])
    start = loop[0][0]
    test = condition[0] if condition else None
    ends = [link for link in (body[0], test) if isinstance(link, list)]
    nodes = ctx.prompt
    names = {n: str(i) for i, n in enumerate(_between(nodes, start, [e[0] for e in ends]))}
    names[start] = "again"
    copies = {names[n]: _copy(nodes[n], n, names) for n in names if n != start}
    again: dict[str, Any] = {"state": [start, 0], "value": body[0]}
    turn: dict[str, Any] = {
        "state": ["again", 0],
        "value": ["again", 2],
        "loop": ["again", 0],
        "body": _linked(body[0], names),
    }
    if test is not None:
        again["condition"] = test
        turn["condition"] = _linked(test, names)
    expand = {
        **copies,
        "again": {"class_type": "LoopAgain", "inputs": again},
        "turn": {"class_type": "LoopTurn", "inputs": turn},
    }
    return NodeOutput(result=(["turn", 0],), expand=expand)


def _start(count: Any, value: Lists | None) -> tuple[dict[str, Any], int, Lists]:
    turns = count[0] if isinstance(count, list) else count
    return {"index": 0, "count": turns, "is_over": False}, 0, [None] if value is None else value


def _first_turn(loop: Any, value: Any, condition: Any) -> NodeOutput:
    if not (isinstance(loop, list) and isinstance(value, list)):
        raise NodeError(
            "The end of a loop needs links for loop and value.",
            hint="Link loop to the start of the loop and value to its last node.",
        )
    inputs: dict[str, Any] = {
        "state": [loop[0], 0], "value": [loop[0], 2], "loop": loop, "body": value
    }  # fmt: skip
    if isinstance(condition, list):
        inputs["condition"] = condition
    turn = {"class_type": "LoopTurn", "inputs": inputs}
    return NodeOutput(result=(["turn", 0],), expand={"turn": turn})


def _between(nodes: Mapping[str, Any], start: str, ends: list[str]) -> list[str]:
    """The nodes that need the start of a loop and that its ends need, ends first."""
    order: list[str] = []
    needs_start: dict[str, bool] = {start: True}
    stack = [(end, False) for end in reversed(ends)]
    while stack:
        node_id, are_sources_known = stack.pop()
        if are_sources_known:
            needs_start[node_id] = any(needs_start.get(s, False) for s in _sources(nodes[node_id]))
            order.append(node_id)
        elif node_id not in needs_start and node_id in nodes:
            needs_start[node_id] = False
            stack.append((node_id, True))
            stack += [(source, False) for source in _sources(nodes[node_id])]
    return [node_id for node_id in order if needs_start[node_id]]


def _sources(described: Mapping[str, Any]) -> list[str]:
    return [v[0] for v in described["inputs"].values() if _is_link(v)]


def _copy(described: Mapping[str, Any], node_id: str, names: Mapping[str, str]) -> dict[str, Any]:
    inputs = {name: _linked(value, names) for name, value in described["inputs"].items()}
    return {**described, "inputs": inputs, "override_display_id": node_id}


def _linked(value: Any, names: Mapping[str, str]) -> Any:
    return [names.get(value[0], value[0]), value[1]] if _is_link(value) else value


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


NODES = [
    compare,
    boolean_logic,
    switch_values,
    switch_by_index,
    blocker,
    for_loop_start,
    for_loop_end,
    while_loop_start,
    while_loop_end,
    loop_again,
    loop_turn,
]
