"""The disk cache: what it keeps over restarts, crashes, damage and full disks."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.api.errors import StorageError
from engine.api.node import Blocked
from engine.run.codec import CodecTable
from engine.run.disk_cache import DiskCache
from engine.run.memory_cache import Result


def slow(value: object, seconds: float = 1.0, ui: dict | None = None) -> Result:
    return Result(outputs=([value], [1, 2]), ui=ui, seconds=seconds)


@contextmanager
def opened(folder: Path, warnings: list | None = None, **more: int) -> Iterator[DiskCache]:
    warn = warnings.append if warnings is not None else pytest.fail
    with closing(DiskCache(folder, CodecTable(), warn=warn, **more)) as cache:
        yield cache


def blobs(folder: Path) -> list[Path]:
    return [p for p in folder.glob("??/*") if p.is_file()]


def test_results_survive_a_restart(tmp_path: Path):
    with opened(tmp_path) as cache:
        cache.offer("k", slow({"a": [1.5, "ü"]}, ui={"text": ["x"]}), job_id="j")
        cache.flush()
        assert "k" in cache
    with opened(tmp_path) as cache:
        found = cache.get("k")
        assert found == slow({"a": [1.5, "ü"]}, ui={"text": ["x"]})
        assert cache.get("other") is None


def test_quick_results_are_not_stored_unless_they_show_files(tmp_path: Path):
    with opened(tmp_path) as cache:
        cache.offer("quick", slow(1, seconds=0.05), job_id="j")
        cache.offer("save", slow(1, seconds=0.05), job_id="j", shows_files=True)
        cache.offer("huge", slow(bytes(10**8), seconds=0.2), job_id="j")
        cache.offer("strange", slow(object()), job_id="j")
        cache.offer("stop", slow(Blocked("no")), job_id="j")
        cache.flush()
        assert [k in cache for k in ("quick", "save", "huge", "strange", "stop")] == [
            False, True, False, False, True
        ]  # fmt: skip


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone", "empty"])
def test_damaged_bytes_count_as_absent(tmp_path: Path, damage: str):
    with opened(tmp_path) as cache:
        cache.offer("k", slow("value"), job_id="j")
        cache.flush()
        (blob,) = blobs(tmp_path)
        data = blob.read_bytes()
        if damage == "gone":
            blob.unlink()
        else:
            torn = {"truncated": data[:-3], "changed": b"x" + data[1:], "empty": b""}[damage]
            blob.write_bytes(torn)
        assert cache.get("k") is None
        assert "k" not in cache
        cache.offer("k", slow("value"), job_id="j")
        cache.flush()
        assert cache.get("k") == slow("value")


def test_blob_of_a_crash_is_written_anew(tmp_path: Path):
    with opened(tmp_path) as cache:
        cache.offer("k", slow("value"), job_id="j")
        cache.flush()
        (blob,) = blobs(tmp_path)
    (tmp_path / "index.sqlite").unlink()
    blob.write_bytes(blob.read_bytes()[:5])  # torn, and never committed
    with opened(tmp_path) as cache:
        cache.offer("k", slow("value"), job_id="j")
        cache.flush()
        assert cache.get("k") == slow("value")


@pytest.mark.parametrize("damage", [b"", b"garbage" * 1000, None])
def test_index_may_be_lost_or_damaged(tmp_path: Path, damage: bytes | None):
    with opened(tmp_path) as cache:
        cache.offer("k", slow(1), job_id="j")
    index = tmp_path / "index.sqlite"
    if damage is None:
        index.unlink()
    else:
        index.write_bytes(damage)
    with opened(tmp_path) as cache:
        assert cache.get("k") is None
        cache.offer("k", slow(1), job_id="j")
        cache.flush()
        assert cache.get("k") == slow(1)


def test_leftovers_are_swept_when_old(tmp_path: Path):
    folder = tmp_path / "ab"
    folder.mkdir()
    old, new = folder / "ab_old", folder / "ab_new.1.tmp"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    with opened(tmp_path) as cache:
        cache.flush()
        assert not old.exists()
        assert new.exists()


def test_least_recently_used_goes_over_budget_but_not_what_a_job_needs(tmp_path: Path):
    with opened(tmp_path, budget_bytes=3500) as cache:
        for key in "abc":
            cache.offer(key, slow(key * 1000), job_id=f"job {key}")
            cache.flush()
        cache.job_ended("job b")
        cache.job_ended("job c")
        assert cache.get("b") is not None
        cache.offer("d", slow("d" * 1000), job_id="job d")
        cache.flush()
        assert [k in cache for k in "abcd"] == [True, True, False, True]
        assert cache.size_bytes <= 3500
        assert len(blobs(tmp_path)) == 3
    with opened(tmp_path, budget_bytes=3500) as cache:  # the pin of an unfinished job holds
        cache.offer("e", slow("e" * 1000), job_id="job e")
        cache.flush()
        assert [k in cache for k in "ab"] == [True, False]


def test_equal_bytes_are_stored_once(tmp_path: Path):
    with opened(tmp_path) as cache:
        cache.offer("a", slow("same"), job_id="j")
        cache.offer("b", slow("same"), job_id="j")
        cache.flush()
        assert len(blobs(tmp_path)) == 1
        cache.discard("a")
        assert cache.get("b") == slow("same")
        cache.discard("b")
        assert blobs(tmp_path) == []
        assert cache.size_bytes == 0


def test_full_disk_warns_once_and_hurts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    warnings: list[str] = []
    with opened(tmp_path, warnings, budget_bytes=10**9) as cache:
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
        for key in "ab":
            cache.offer(key, slow(key), job_id="j")
        cache.flush()
        assert "a" not in cache
    assert len(warnings) == 1
    assert "disk is full" in warnings[0]


def test_folder_that_cannot_be_written_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    warnings: list[str] = []
    with opened(tmp_path, warnings) as cache:

        def refuse(_self: Path, _data: bytes) -> int:
            raise PermissionError(13, "denied")

        monkeypatch.setattr(Path, "write_bytes", refuse)
        cache.offer("a", slow("a"), job_id="j")
        cache.flush()
        assert "a" not in cache
    assert len(warnings) == 1


def test_two_processes_may_share_a_store(tmp_path: Path):
    with opened(tmp_path) as one, opened(tmp_path) as two:
        for i in range(20):
            one.offer(f"one {i}", slow(i), job_id="j")
            two.offer(f"two {i}", slow(i), job_id="j")
        one.flush()
        two.flush()
    with opened(tmp_path) as cache:
        assert len(cache) == 40


WRITER = """
import sys
from pathlib import Path
from engine.run.codec import CodecTable
from engine.run.disk_cache import DiskCache
from engine.run.memory_cache import Result
cache = DiskCache(Path(sys.argv[1]), CodecTable(), warn=print)
for i in range(100000):
    text = str(i) * 20000
    cache.offer(f"key {i}", Result(outputs=([text],), seconds=9.0), job_id="j")
    cache.flush()
    sys.stdout.write(f"{i}\\n")
    sys.stdout.flush()
"""


def test_kill_loses_nothing_committed_and_tears_nothing(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    committed = -1
    end = time.monotonic() + 0.3
    for line in process.stdout:
        committed = int(line)
        if committed > 0 and time.monotonic() > end:
            break
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    process.wait()
    assert committed > 0
    with opened(tmp_path) as cache:
        for i in range(committed + 1):
            found = cache.get(f"key {i}")
            assert found is not None
            assert found.outputs == ([str(i) * 20000],)


def test_locked_index_costs_the_store_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with opened(tmp_path) as cache:
        cache.offer("k", slow(1), job_id="j")
    real = sqlite3.connect

    def locked(path: Any, **more: Any) -> sqlite3.Connection:
        if path != ":memory:":
            raise sqlite3.OperationalError("database is locked")
        return real(path, **more)

    warnings: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", locked)
        with opened(tmp_path, warnings) as cache:
            assert cache.get("k") is None
    assert "locked" in warnings[0]
    with opened(tmp_path) as cache:
        assert cache.get("k") == slow(1)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        DiskCache(tmp_path / "file" / "store", CodecTable(), warn=pytest.fail)
