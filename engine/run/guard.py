"""Notices nodes that change their inputs in place, and copies inputs for those that did before.

Tensors count their in-place changes in `_version`; it is read without importing torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_MAX_DEPTH = 5


def tensor_versions(lists: Mapping[str, Sequence[Any]]) -> dict[str, list[tuple[Any, int]]]:
    """The tensors within each input, with their counts of in-place changes."""
    found: dict[str, list[tuple[Any, int]]] = {}
    for name, values in lists.items():
        tensors = _tensors(values)
        if tensors:
            found[name] = [(tensor, _version(tensor)) for tensor in tensors]
    return found


def changed_inputs(before: Mapping[str, list[tuple[Any, int]]]) -> list[str]:
    """The names of inputs with a tensor that was changed in place since `tensor_versions`."""
    return [
        name
        for name, tensors in before.items()
        if any(_version(tensor) != version for tensor, version in tensors)
    ]


def copied(value: Any, depth: int = 0) -> Any:
    """The value with new tensors, lists and dicts; anything else is shared."""
    if _is_tensor(value):
        return value.clone()
    if depth < _MAX_DEPTH:
        if type(value) is dict:
            return {k: copied(v, depth + 1) for k, v in value.items()}
        if type(value) in (list, tuple):
            return type(value)(copied(v, depth + 1) for v in value)
    return value


def storage_of(tensor: Any) -> int:
    """The address of a tensor's memory, which its views share."""
    if not hasattr(tensor, "untyped_storage"):
        return id(tensor)
    return tensor.untyped_storage().data_ptr()


def storages(values: Any) -> set[int]:
    """The addresses of the memory of all tensors within a value."""
    return {storage_of(tensor) for tensor in _tensors(values)}


def _tensors(root: Any) -> list[Any]:
    found: list[Any] = []
    level = [root]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list | tuple):
                below.extend(value)
            elif _is_tensor(value):
                found.append(value)
        level = below
    return found


def _is_tensor(value: Any) -> bool:
    return hasattr(type(value), "_version") and hasattr(type(value), "clone")


def _version(tensor: Any) -> int:
    """The count of in-place changes; 0 for inference tensors, which keep none."""
    try:
        return tensor._version
    except RuntimeError:
        return 0
