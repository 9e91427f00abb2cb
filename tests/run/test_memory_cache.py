"""The memory cache: least recently used out, within bytes or entries."""

from engine.run.codec import CodecTable
from engine.run.memory_cache import MemoryCache, Result

KB = bytes(1000)


def cache(budget: int, entries: int | None = None) -> MemoryCache:
    return MemoryCache(budget_bytes=budget, size_of=CodecTable().size_of, max_entries=entries)


def result(value: object = KB) -> Result:
    return Result(outputs=([value],))


def test_least_recently_used_goes_first():
    kept = cache(4000)
    for key in "abc":
        kept.put(key, result())
    assert kept.get("a") is not None
    kept.put("d", result())
    assert [k in kept for k in "abcd"] == [True, False, True, True]
    assert kept.size_bytes <= 4000


def test_what_is_larger_than_all_is_not_kept():
    kept = cache(4000)
    kept.put("a", result())
    kept.put("big", result(bytes(10_000)))
    assert "big" not in kept
    assert "a" in kept


def test_replacing_and_discarding_count_bytes():
    kept = cache(10_000)
    kept.put("a", result())
    before = kept.size_bytes
    kept.put("a", result())
    assert kept.size_bytes == before
    kept.discard("a")
    kept.discard("a")
    assert kept.size_bytes == 0
    kept.put("a", result())
    kept.clear()
    assert (len(kept), kept.size_bytes) == (0, 0)


def test_limit_by_entries():
    kept = cache(10_000, entries=2)
    for key in "abc":
        kept.put(key, result(1))
    assert [k in kept for k in "abc"] == [False, True, True]
    none = cache(10_000, entries=0)
    none.put("a", result(1))
    assert "a" not in none
