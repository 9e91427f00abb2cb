"""How node results become bytes and how large they are; knows JSON, torch values are registered."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.api.errors import EngineError
from engine.api.node import Blocked


class CodecError(EngineError):
    """Bytes that no codec of this worker can read."""

    code = "codec_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """One way to store values. `size_of` gives bytes, or None for values that it does not know."""

    name: str
    can_dump: Callable[[Any], bool]
    dump: Callable[[Any], bytes]
    load: Callable[[bytes], Any]
    size_of: Callable[[Any], int | None]


_SMALL = (int, float, bool, type(None))
_UNKNOWN_BYTES = 4096
_MAX_PARTS = 100_000


def is_json(value: Any) -> bool:
    """Whether JSON gives back exactly this value (no tuples, no keys but texts)."""
    stack, parts = [value], 0
    while stack:
        item = stack.pop()
        parts += 1
        if parts > _MAX_PARTS:
            return False
        if isinstance(item, list):
            if type(item) is not list:
                return False
            stack.extend(item)
        elif isinstance(item, dict):
            if type(item) is not dict or not all(type(k) is str for k in item):
                return False
            stack.extend(item.values())
        elif type(item) not in (str, int, float, bool, type(None)):
            return False
    return True


JSON = Codec(
    name="json",
    can_dump=is_json,
    dump=lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"),
    load=lambda data: json.loads(data.decode("utf-8", "surrogatepass")),
    size_of=lambda value: None,
)
BLOCKED = Codec(
    name="blocked",
    can_dump=lambda value: isinstance(value, Blocked),
    dump=lambda value: json.dumps(value.message).encode(),
    load=lambda data: Blocked(json.loads(data)),
    size_of=lambda value: 64 if isinstance(value, Blocked) else None,
)


class CodecTable:
    """The codecs of one worker, asked in order."""

    def __init__(self, codecs: Sequence[Codec] = ()) -> None:
        self._codecs = (JSON, BLOCKED, *codecs)
        self._by_name: Mapping[str, Codec] = {c.name: c for c in self._codecs}

    def dump(self, value: Any) -> tuple[str, bytes] | None:
        """The codec's name and the bytes; None when no codec stores such values without loss."""
        for codec in self._codecs:
            if codec.can_dump(value):
                return codec.name, codec.dump(value)
        return None

    def load(self, name: str, data: bytes) -> Any:
        """The value of stored bytes. Raises: CodecError."""
        codec = self._by_name.get(name)
        if codec is None:
            raise CodecError(f"A stored value needs the codec {name}, which is not registered.")
        return codec.load(data)

    def can_dump(self, value: Any) -> bool:
        return any(codec.can_dump(value) for codec in self._codecs)

    def size_of(self, value: Any) -> int:
        """Bytes that a value holds; for unknown types an estimate that is rather too large."""
        if isinstance(value, _SMALL):
            return 32
        if isinstance(value, str | bytes):
            return sys.getsizeof(value)
        return self._size_of_tree(value)

    def _size_of_tree(self, root: Any) -> int:
        total, stack, seen = 0, [root], set[int]()
        while stack:
            value = stack.pop()
            if isinstance(value, _SMALL):
                total += 32
                continue
            if id(value) in seen:
                continue
            seen.add(id(value))
            known = next((n for c in self._codecs if (n := c.size_of(value)) is not None), None)
            if known is not None:
                total += known
            elif isinstance(value, Mapping):
                total += sys.getsizeof(value)
                stack.extend(value.values())
            elif isinstance(value, list | tuple | set | frozenset):
                total += sys.getsizeof(value)
                stack.extend(value)
            else:
                total += _size_of_other(value, stack)
        return total


def _size_of_other(value: Any, stack: list[Any]) -> int:
    """Bytes of one object; what it holds is pushed on the stack."""
    count = getattr(value, "nbytes", None)
    if isinstance(count, int):
        return count + 64
    if isinstance(value, str | bytes | bytearray):
        return sys.getsizeof(value)
    held = getattr(value, "__dict__", None)
    if isinstance(held, dict) and not isinstance(value, type):
        stack.extend(held.values())
        return _UNKNOWN_BYTES
    slots = getattr(type(value), "__slots__", ())
    if isinstance(slots, tuple):
        stack.extend(getattr(value, name) for name in slots if hasattr(value, name))
    return _UNKNOWN_BYTES
