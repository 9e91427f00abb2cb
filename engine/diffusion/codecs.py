"""Values on wires as bytes: trees of tensors and plain values, in safetensors, without loss."""

import json
from collections.abc import Iterator
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from engine.api.errors import CorruptFile
from engine.api.recipe import Recipe

_TREE = "tree"
_MAX_DEPTH = 100
_RECIPE_BYTES = 1024
_PLAIN = (str, int, float, bool, type(None))
_DTYPES = frozenset(
    (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
        torch.int16, torch.int8, torch.uint8, torch.bool,
    )
)  # fmt: skip


def can_dump(value: object) -> bool:
    """Whether `load_value` gives back exactly this: dicts, lists, tuples, tensors, plain values."""
    stack: list[tuple[Any, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > _MAX_DEPTH:
            return False
        if type(item) is Tensor:
            if item.layout != torch.strided or item.dtype not in _DTYPES or item.requires_grad:
                return False
        elif type(item) is dict:
            if not all(type(key) in _PLAIN for key in item):
                return False
            stack.extend((part, depth + 1) for part in item.values())
        elif type(item) in (list, tuple):
            stack.extend((part, depth + 1) for part in item)
        elif type(item) not in _PLAIN:
            return False
    return True


def dump_value(value: object) -> bytes:
    """The bytes of a value. Raises: TypeError for one that `can_dump` refuses."""
    tensors: dict[str, Tensor] = {}
    tree = _to_json(value, tensors, {})
    return save(tensors, metadata={_TREE: json.dumps(tree)})


def load_value(data: bytes) -> Any:
    """The value of `dump_value`; its tensors are on the CPU. Raises: CorruptFile."""
    try:
        size = int.from_bytes(data[:8], "little")
        tree = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_TREE])
        return _from_json(tree, load(data))
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFile(f"A stored value cannot be read: {error}.") from error


def size_of(value: object) -> int | None:
    """Bytes of the tensors and recipes in a value, shared memory once; None if it has none."""
    storages: dict[int, int] = {}
    recipes = 0
    for item in _leaves(value):
        if isinstance(item, Recipe):
            recipes += 1
        elif item.layout == torch.strided:
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        else:
            storages[id(item)] = item.nbytes
    found = sum(storages.values()) + recipes * _RECIPE_BYTES
    return found if storages or recipes else None


def _leaves(value: object) -> Iterator[Tensor | Recipe]:
    stack: list[Any] = [value]
    seen: set[int] = set()
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor | Recipe):
            yield item
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            stack.extend(cast(Any, item.values() if isinstance(item, dict) else item))


def _to_json(value: Any, tensors: dict[str, Tensor], names: dict[int, str]) -> Any:
    if isinstance(value, Tensor):
        name = names.setdefault(id(value), str(len(names)))
        if name not in tensors:
            tensors[name] = value.detach().cpu().contiguous().clone()  # views share no memory here
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _to_json(item, tensors, names)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_to_json(item, tensors, names) for item in value]}
    if type(value) not in _PLAIN:
        raise TypeError(f"A value of type {type(value).__name__} cannot be stored.")
    return value


def _from_json(tree: Any, tensors: dict[str, Tensor]) -> Any:
    match tree:
        case {"tensor": name}:
            return tensors[name]
        case {"dict": items}:
            return {key: _from_json(item, tensors) for key, item in items}
        case {"list": items}:
            return [_from_json(item, tensors) for item in items]
        case {"tuple": items}:
            return tuple(_from_json(item, tensors) for item in items)
        case _:
            return tree
