"""`models get` against a real local server: whole, cut, changed, wrong and missing files."""

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.api.errors import EngineError, StorageError
from engine.commands import models
from engine.commands.download import Download, DownloadError, Patience, fetch
from engine.run.digests import Digests
from engine.run.known_models import known_models
from tests.commands.file_server import FileServer, serving
from tests.run.model_trees import put

QUICK = Patience(pause_s=0.0, connect_s=2.0, read_s=5.0)


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return put(tmp_path / "source.safetensors").read_bytes() + bytes(300_000)


@pytest.fixture
def server(content: bytes) -> Iterator[FileServer]:
    with serving(FileServer(content=content)) as server:
        yield server


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wish(server: FileServer, tmp_path: Path, **more: Any) -> Download:
    return Download(url=server.url, part=tmp_path / "part.safetensors", patience=QUICK, **more)


def test_a_whole_file_with_progress(server: FileServer, content: bytes, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    loaded = fetch(wish(server, tmp_path, sha256=sha(content)), lambda *n: told.append(n))
    assert loaded.path.read_bytes() == content and loaded.vouched_by == "given"
    assert told[0] == (0, len(content)) and told[-1] == (len(content), len(content))


def test_cut_connections_go_on_where_they_stopped(
    server: FileServer, content: bytes, tmp_path: Path
) -> None:
    server.cuts = [100_000, 50_000]
    loaded = fetch(wish(server, tmp_path, sha256=sha(content)), lambda *_: None)
    assert loaded.path.read_bytes() == content
    starts = [int(h["Range"][6:-1]) for h in server.asked if "Range" in h]
    assert len(server.asked) == 3 and starts == sorted(starts) and 0 < starts[0] <= 100_000
    assert server.asked[1]["If-Range"] == server.etag


def test_a_later_call_goes_on(server: FileServer, content: bytes, tmp_path: Path) -> None:
    server.cuts = [100_000]
    one = Patience(attempts=1, pause_s=0.0)
    with pytest.raises(DownloadError, match="was cut") as failed:
        fetch(Download(url=server.url, part=tmp_path / "p.safetensors", patience=one), print)
    assert "goes on from there" in failed.value.hint
    again = Download(url=server.url, part=tmp_path / "p.safetensors", patience=QUICK)
    assert fetch(again, lambda *_: None).path.read_bytes() == content
    assert "Range" in server.asked[1]


@pytest.mark.parametrize("changed", ["etag", "no ranges", "address"])
def test_another_version_begins_anew(
    server: FileServer, content: bytes, tmp_path: Path, changed: str
) -> None:
    server.cuts = [100_000]
    with pytest.raises(DownloadError):
        fetch(
            Download(
                url=server.url, part=tmp_path / "part.safetensors", patience=Patience(attempts=1)
            ),
            lambda *_: None,
        )
    if changed == "etag":
        server.etag, server.content = '"two"', content[::-1]
    elif changed == "no ranges":
        server.knows_ranges = False
    else:
        server.url += "?other"
    loaded = fetch(wish(server, tmp_path), lambda *_: None)
    assert loaded.path.read_bytes() == server.content


def test_a_whole_part_is_not_loaded_again(
    server: FileServer, content: bytes, tmp_path: Path
) -> None:
    part = tmp_path / "part.safetensors"
    part.write_bytes(content)
    part.with_name(part.name + ".json").write_text(json.dumps({"url": server.url, "etag": ""}))
    loaded = fetch(wish(server, tmp_path, sha256=sha(content)), lambda *_: None)
    assert loaded.sha256 == sha(content)
    assert len(server.asked) == 1


def test_a_wrong_hash_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="not the right one"):
        fetch(wish(server, tmp_path, sha256="0" * 64), lambda *_: None)
    assert not (tmp_path / "part.safetensors").exists()


def test_the_hash_that_the_server_tells_is_checked(
    server: FileServer, content: bytes, tmp_path: Path
) -> None:
    server.redirect = server.url  # the hub tells it where it sends on
    server.linked_etag = f'"{sha(content)}"'
    sent_on = server.url.replace("/model", "/to/model")
    told = Download(url=sent_on, part=tmp_path / "part.safetensors", patience=QUICK)
    assert fetch(told, lambda *_: None).vouched_by == "server"
    server.linked_etag = '"' + "0" * 64 + '"'
    with pytest.raises(DownloadError, match="the server said"):
        fetch(told, lambda *_: None)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("file:///etc/passwd", "no address of http"),
        ("ftp://example.org/a", "no address of http"),
        ("/to/again.safetensors", "circle"),
    ],
)
def test_redirects_stay_on_http(
    server: FileServer, tmp_path: Path, target: str, words: str
) -> None:
    server.redirect = target
    url = server.url.replace("/model", "/to/model")
    with pytest.raises(DownloadError, match=words):
        fetch(Download(url=url, part=tmp_path / "p.safetensors", patience=QUICK), print)


@pytest.mark.parametrize(
    ("status", "words"), [(404, "no such file"), (403, "sign in"), (500, "answered 500")]
)
def test_refusals_are_told(server: FileServer, tmp_path: Path, status: int, words: str) -> None:
    server.status = status
    with pytest.raises(DownloadError, match=words):
        fetch(wish(server, tmp_path), lambda *_: None)


def test_the_free_disk_is_looked_at_first(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not enough room"):
        fetch(wish(server, tmp_path, free_bytes=lambda _: 1 << 20), lambda *_: None)
    assert not (tmp_path / "part.safetensors").exists()


def test_a_disk_that_fills_up_is_told(server: FileServer, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    part = tmp_path / "part.safetensors"
    part.symlink_to("/dev/full")
    part.with_name(part.name + ".json").write_text(json.dumps({"url": server.url, "etag": ""}))
    with pytest.raises(StorageError, match="disk is full"):
        fetch(wish(server, tmp_path, sha256="0" * 64), lambda *_: None)


def test_no_server_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/a.safetensors"
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch(Download(url=url, part=tmp_path / "a"), lambda *_: None)


# The command --------------------------------------------------------------------------------------


def get(base: Path, *words: str) -> int:
    return models.main(["get", *words, "--base-directory", str(base)])


def test_an_address_ends_in_the_folder_of_its_kind(
    server: FileServer, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get(tmp_path, server.url, "--yes", "--sha256", sha(content)) == 0
    target = tmp_path / "models/checkpoints/model.safetensors"
    assert target.read_bytes() == content
    shown = capsys.readouterr()
    assert shown.out.strip() == str(target)
    assert "Licence" in shown.err and "as it has to be" in shown.err
    assert Digests(tmp_path / "user/weft/digests.sqlite").known(target) == sha(content)
    assert not [p for p in (tmp_path / "models/.downloads").iterdir() if p.is_file()]


def test_the_catalogue_is_offered_and_what_is_here_is_not_loaded_again(
    server: FileServer, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "name": "mine", "title": "Mine", "file": "m.safetensors", "kind": "loras",
        "family": "sd1", "bytes": len(content), "sha256": sha(content), "url": server.url,
        "page": "http://localhost/page", "licence": "A licence", "licence_url": "http://localhost/l",
    }  # fmt: skip
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text(json.dumps({"models": [row]}))
    words = ("mine", "--yes", "--catalogue", str(catalogue))
    assert get(tmp_path, *words) == 0
    assert (tmp_path / "models/loras/m.safetensors").read_bytes() == content
    assert "A licence" in capsys.readouterr().err
    (tmp_path / "models/loras/m.safetensors").rename(tmp_path / "models/loras/renamed.safetensors")
    Digests(tmp_path / "user/weft/digests.sqlite").digest(
        tmp_path / "models/loras/renamed.safetensors"
    )
    assert get(tmp_path, *words) == 0
    assert "here already" in capsys.readouterr().err
    assert len(server.asked) == 1


def test_nothing_is_loaded_without_consent(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="without your consent"):
        get(tmp_path, server.url)
    assert not server.asked


def test_another_file_of_that_name_is_left_alone(
    server: FileServer, content: bytes, tmp_path: Path
) -> None:
    mine = put(tmp_path / "models/checkpoints/model.safetensors")
    before = mine.read_bytes()
    for more in (("--sha256", sha(content)), ()):
        with pytest.raises(EngineError, match="is there already"):
            get(tmp_path, server.url, "--yes", "--kind", "checkpoints", *more)
    assert mine.read_bytes() == before and not server.asked


def test_a_page_in_the_files_place_is_refused(server: FileServer, tmp_path: Path) -> None:
    server.content = b"<!doctype html>" * 100
    with pytest.raises(DownloadError, match="no safetensors file"):
        get(tmp_path, server.url, "--yes")
    assert not list((tmp_path / "models").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nope",), "No model is called 'nope'"),
        (("file:///etc/passwd",), "no address of http"),
        (("http://h/a.html",), "no name of a model file"),
        (("http://h/.safetensors",), "no name of a model file"),
        (("http://h/a.safetensors", "--name", "../a.safetensors"), "no plain file name"),
        (("http://h/..%5C..%5Ca.safetensors",), "no plain file name"),
        (("http://h/a.safetensors", "--kind", "nope"), "no kind of models 'nope'"),
        (("http://h/a.safetensors", "--sha256", "12"), "no SHA-256"),
        (("sd15", "--sha256", "0" * 64), "not the one that was given"),
    ],
)
def test_bad_input_is_told_before_anything_is_asked(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    with pytest.raises(EngineError, match=told):
        get(tmp_path, *words, "--yes")


def test_a_wrong_word_names_the_right_ones() -> None:
    with pytest.raises(EngineError, match="no 'models gett'"):
        models.main(["gett"])


def test_the_catalogue_holds_whole_entries() -> None:
    known = known_models()
    assert len({m.name for m in known}) == len({m.sha256 for m in known}) == len(known) > 0
    for model in known:
        assert model.url.startswith("https://") and model.url.endswith(model.file)
        assert len(model.sha256) == 64 and model.licence and model.licence_url and model.page
