"""Problems in the wire format's JSON: the body of a 400 and the `node_errors` of an answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.api.errors import GraphInvalid, Problem
from engine.graph.validate import Validation

_MAX_PROBLEMS = 1000  # of one answer; the rest are counted

# Error types that name the whole refusal when every error is of that type.
_WHOLE = ("prompt_no_outputs", "missing_node_type", "dependency_cycle", "invalid_prompt")


def to_wire(validation: Validation) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `error` and the `node_errors` of a validation.

    `error` sums the refusal up; a server sends it when nothing may run (or in strict mode), and
    `node_errors` in every case.
    """
    errors = validation.errors
    codes = {p.code for p in errors}
    code = next((c for c in _WHOLE if codes == {c}), "prompt_outputs_failed_validation")
    if "prompt_no_outputs" in codes:
        code = "prompt_no_outputs"
    return _summary(code, errors), node_errors(validation)


def invalid_to_wire(refusal: GraphInvalid) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `error` and the `node_errors` of a prompt that could not be read at all."""
    return _summary(refusal.code, refusal.problems, refusal.message), _by_node(refusal.problems, {})


def node_errors(validation: Validation) -> dict[str, Any]:
    """The errors by node, each with the refused outputs that need it."""
    return _by_node(validation.errors, validation.dependent_outputs)


def warnings_to_wire(validation: Validation) -> list[dict[str, Any]]:
    """The warnings, for the answer's `weft.warnings`."""
    return [problem_to_wire(p) for p in validation.warnings[:_MAX_PROBLEMS]]


def problem_to_wire(problem: Problem) -> dict[str, Any]:
    """One problem: type, message, details and, under `extra_info`, its parts."""
    extra: dict[str, Any] = dict(problem.extra)
    parts = {
        "node_id": problem.node_id,
        "class_type": problem.node_type,
        "input_name": problem.input_name,
        "received_value": problem.got,
        "expected": problem.expected,
        "hint": problem.hint,
        "severity": problem.severity,
    }
    extra.update({name: text for name, text in parts.items() if text is not None})
    return {
        "type": problem.code,
        "message": problem.message,
        "details": _details(problem),
        "extra_info": extra,
    }


def problem_text(problem: Problem) -> str:
    """One problem as a line for terminals and logs."""
    details = _details(problem)
    return f"{problem.message} {details}".rstrip()


def _details(problem: Problem) -> str:
    parts: list[str] = []
    if problem.expected:
        parts.append(f"Expected: {problem.expected}.")
    if problem.hint:
        parts.append(problem.hint)
    return " ".join(parts)


def _summary(code: str, problems: Sequence[Problem], message: str = "") -> dict[str, Any]:
    count = len(problems)
    if not message and count == 1:
        message = problems[0].message
    elif not message:
        message = f"{count} errors keep the prompt from running."
    return {
        "type": code,
        "message": message,
        "details": "\n".join(problem_text(p) for p in problems[:10]),
        "extra_info": {"problems": count},
    }


def _by_node(
    problems: Sequence[Problem], dependants: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for problem in problems[:_MAX_PROBLEMS]:
        if problem.node_id is None:
            continue
        entry = out.setdefault(
            problem.node_id,
            {
                "errors": [],
                "dependent_outputs": list(dependants.get(problem.node_id, ())),
                "class_type": problem.node_type or "",
            },
        )
        entry["errors"].append(problem_to_wire(problem))
    return out
