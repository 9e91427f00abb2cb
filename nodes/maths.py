"""Nodes that calculate with numbers."""

import math
from typing import Annotated

from engine.api import Choice, Float, Int, NodeError, node

_CATEGORY = "utils/math"
_LIMIT = 2**53
_Whole = Annotated[int, Int(0, min=-_LIMIT, max=_LIMIT)]
_Number = Annotated[float, Float(0.0, min=-1e300, max=1e300, step=0.01, round=False)]
_OPERATIONS = ("add", "subtract", "multiply", "divide", "remainder", "power", "min", "max")


def _calculated(operation: str, a: float, b: float) -> float:
    """Raises: NodeError, where the result is no finite number."""
    try:
        match operation:
            case "add":
                result = a + b
            case "subtract":
                result = a - b
            case "multiply":
                result = a * b
            case "divide":
                result = a // b if isinstance(a, int) and isinstance(b, int) else a / b
            case "remainder":
                result = a % b
            case "power":
                # Not a ** b: it would count for hours on large whole numbers.
                result = math.pow(a, b)
            case "min":
                result = min(a, b)
            case _:
                result = max(a, b)
    except (ZeroDivisionError, OverflowError, ValueError) as error:
        raise NodeError(f"{a} {operation} {b} has no result: {error}.") from error
    if not math.isfinite(result):
        raise NodeError(f"{a} {operation} {b} is no finite number.")
    return result


@node("MathInt", title="Math (Int)", category=_CATEGORY, search=("calculate", "add"))
def math_int(a: _Whole, b: _Whole, operation: Annotated[str, Choice(_OPERATIONS)]) -> int:
    """Calculates with two whole numbers; division rounds down."""
    return int(_calculated(operation, a, b))


@node("MathFloat", title="Math (Float)", category=_CATEGORY, search=("calculate", "add"))
def math_float(a: _Number, b: _Number, operation: Annotated[str, Choice(_OPERATIONS)]) -> float:
    """Calculates with two numbers."""
    return float(_calculated(operation, float(a), float(b)))


@node("IntToFloat", title="Int to Float", category=_CATEGORY)
def int_to_float(value: _Whole) -> float:
    """A whole number as a number."""
    return float(value)


@node("FloatToInt", title="Float to Int", category=_CATEGORY)
def float_to_int(
    value: _Number, rounding: Annotated[str, Choice(("nearest", "down", "up"))]
) -> int:
    """A number rounded to a whole one."""
    if rounding == "down":
        return math.floor(value)
    return math.ceil(value) if rounding == "up" else math.floor(value + 0.5)


@node("NumberToString", title="Number to String", category=_CATEGORY)
def number_to_string(value: _Number, decimals: Annotated[int, Int(-1, min=-1, max=20)]) -> str:
    """A number as text; -1 decimals shows as many as needed."""
    if decimals < 0:
        return str(int(value)) if value == int(value) else repr(value)
    return f"{value:.{decimals}f}"


NODES = [math_int, math_float, int_to_float, float_to_int, number_to_string]
