"""Digests: right, remembered, and read again only when a file changed."""

import hashlib
import os
from pathlib import Path

import pytest

from engine.api.errors import MissingModel
from engine.run.digests import Digests


def test_digest_is_remembered_over_restarts(tmp_path: Path):
    file = tmp_path / "model.bin"
    file.write_bytes(b"weights" * 1000)
    read: list[tuple[int, int]] = []
    first = Digests(tmp_path / "state" / "d.sqlite")
    expected = hashlib.sha256(b"weights" * 1000).hexdigest()
    assert first.known(file) is None
    assert first.digest(file, lambda _p, done, size: read.append((done, size))) == expected
    assert read == [(7000, 7000)]
    again = Digests(tmp_path / "state" / "d.sqlite")
    assert again.known(file) == expected
    assert again.digest(file, lambda *_: pytest.fail("read again")) == expected


def test_changed_file_is_read_again(tmp_path: Path):
    file = tmp_path / "model.bin"
    file.write_bytes(b"old")
    digests = Digests(tmp_path / "d.sqlite")
    before = digests.digest(file)
    status = file.stat()
    file.write_bytes(b"new")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size, same time
    assert digests.known(file) is None
    assert digests.digest(file) != before


def test_replaced_file_is_read_again(tmp_path: Path):
    file = tmp_path / "model.bin"
    file.write_bytes(b"old")
    digests = Digests(tmp_path / "d.sqlite")
    digests.digest(file)
    (tmp_path / "b").write_bytes(b"new")
    (tmp_path / "b").replace(file)
    assert digests.digest(file) == hashlib.sha256(b"new").hexdigest()


@pytest.mark.parametrize("content", [b"", b"no database" * 500])
def test_damaged_memory_is_made_anew(tmp_path: Path, content: bytes):
    database = tmp_path / "d.sqlite"
    database.write_bytes(content)
    (tmp_path / "f").write_bytes(b"x")
    assert Digests(database).digest(tmp_path / "f") == hashlib.sha256(b"x").hexdigest()
    assert Digests(database).known(tmp_path / "f") is not None


def test_two_processes_share_what_they_know(tmp_path: Path):
    one, two = Digests(tmp_path / "d.sqlite"), Digests(tmp_path / "d.sqlite")
    for i, digests in enumerate([one, two] * 5):
        file = tmp_path / str(i)
        file.write_bytes(b"x" * i)
        digests.digest(file)
    third = Digests(tmp_path / "d.sqlite")
    assert all(third.known(tmp_path / str(i)) for i in range(10))


def test_background_reads_and_stops(tmp_path: Path):
    files = [tmp_path / f"{i}.bin" for i in range(5)]
    for file in files:
        file.write_bytes(b"x")
    digests = Digests(tmp_path / "d.sqlite")
    digests.start_background([*files, tmp_path / "gone"])
    assert digests._thread is not None  # pyright: ignore[reportPrivateUsage]
    digests._thread.join(5)  # pyright: ignore[reportPrivateUsage]
    assert all(digests.known(file) for file in files)
    digests.close()


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(MissingModel, match="gone"):
        Digests(tmp_path / "d.sqlite").digest(tmp_path / "gone")


def test_a_folder_digest_is_of_names_and_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"a")
    (folder / "sub" / "b.txt").write_bytes(b"b")
    digests = Digests(tmp_path / "d.sqlite")
    first = digests.folder_digest(folder)
    (folder / ".hidden").write_bytes(b"x")
    os.utime(folder / "a.png", (1, 1))
    assert digests.folder_digest(folder) == first
    (folder / "sub" / "b.txt").write_bytes(b"c")
    second = digests.folder_digest(folder)
    (folder / "a.png").rename(folder / "z.png")
    third = digests.folder_digest(folder)
    assert len({first, second, third}) == 3
    monkeypatch.setattr("engine.run.digests._READ_WHOLE", 1)
    stamped = digests.folder_digest(folder)
    assert digests.folder_digest(folder) == stamped
    os.utime(folder / "z.png", (2, 2))
    assert digests.folder_digest(folder) != stamped
    assert digests.digest(folder) == digests.folder_digest(folder)
