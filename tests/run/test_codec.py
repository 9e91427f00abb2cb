"""Codecs: what JSON stores without loss, and sizes of any value."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api.node import Blocked
from engine.run.codec import Codec, CodecError, CodecTable, is_json

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON_VALUES)
def test_json_values_come_back_the_same(value: object):
    table = CodecTable()
    stored = table.dump(value)
    assert stored is not None
    loaded = table.load(*stored)
    assert loaded == value
    assert repr(loaded) == repr(value)  # 1 stays 1, and not 1.0 or True


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, {1, 2}, b"x", object(), [(1,)]])
def test_other_values_are_not_stored(value: object):
    assert CodecTable().dump(value) is None
    assert not is_json(value)


def test_blocked_values_come_back():
    table = CodecTable()
    for value in (Blocked(), Blocked("why")):
        stored = table.dump(value)
        assert stored is not None
        assert table.load(*stored) == value


def test_registered_codec_is_used_and_missing_one_is_named():
    swapped = Codec(
        name="bytes",
        can_dump=lambda v: isinstance(v, bytes),
        dump=lambda v: v[::-1],
        load=lambda d: d[::-1],
        size_of=lambda v: len(v) if isinstance(v, bytes) else None,
    )
    assert CodecTable([swapped]).dump(b"abc") == ("bytes", b"cba")
    assert CodecTable([swapped]).load("bytes", b"cba") == b"abc"
    with pytest.raises(CodecError, match="bytes"):
        CodecTable().load("bytes", b"cba")


class Holder:
    def __init__(self, data: bytes) -> None:
        self.data = data


class Array:
    nbytes = 5_000_000


def test_sizes_count_what_is_held():
    size_of = CodecTable().size_of
    assert size_of(3) < 100
    assert size_of([bytes(1000), {"a": bytes(2000)}]) > 3000
    assert size_of(Holder(bytes(9000))) > 9000
    assert size_of({"samples": Array()}) > 5_000_000
    shared = bytes(10_000)
    assert size_of([shared, shared]) < 12_000
    circle: list = []
    circle.append(circle)
    assert size_of(circle) > 0
