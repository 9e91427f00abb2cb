"""The routes of the caption editor over real folders."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.server.conftest import Site

CAPTIONS = "/weft/datasets/captions"


def cats(site: Site) -> Path:
    folder = site.base / "input" / "datasets" / "cats"
    folder.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (600, 300), "red").save(folder / name)
    row = {"file_name": "a.png", "text": "old", "score": 3}
    (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    return folder


async def test_captions_are_read_and_written(site: Site) -> None:
    folder = cats(site)
    status, found = await site.get(f"{CAPTIONS}?folder=cats")
    assert status == 200 and found["kind"] == "metadata" and found["count"] == 2
    assert found["pictures"] == [{"file": "a.png", "text": "old"}, {"file": "b.png", "text": ""}]
    body = {"folder": "cats", "revision": found["revision"], "texts": {"a.png": "<b>new</b>"}}
    status, written = await site.post(CAPTIONS, body)
    assert status == 200 and written["pictures"][0]["text"] == "<b>new</b>"
    stored = json.loads((folder / "metadata.jsonl").read_text())
    assert stored == {"file_name": "a.png", "text": "<b>new</b>", "score": 3}


async def test_a_second_window_is_told_and_changes_nothing(site: Site) -> None:
    folder = cats(site)
    _, found = await site.get(f"{CAPTIONS}?folder=cats")
    body = {"folder": "cats", "revision": found["revision"], "texts": {"a.png": "mine"}}
    assert (await site.post(CAPTIONS, body))[0] == 200
    status, refusal = await site.post(CAPTIONS, {**body, "texts": {"a.png": "yours"}})
    assert status == 409 and refusal["error"]["type"] == "conflict"
    assert json.loads((folder / "metadata.jsonl").read_text())["text"] == "mine"


async def test_other_folders_and_files_are_refused(site: Site) -> None:
    cats(site)
    (site.base / "secret.png").write_bytes(b"x")
    for name, wanted in (("../..", 403), ("/etc", 403), ("dogs", 404), ("", 400)):
        assert (await site.get(CAPTIONS, params={"folder": name}))[0] == wanted
    picture = "/weft/datasets/picture"
    for name, wanted in (("../../../secret.png", 403), ("metadata.jsonl", 404), ("x.png", 404)):
        params = {"folder": "cats", "file": name}
        assert (await site.get(picture, params=params))[0] == wanted
    body = {"folder": "cats", "revision": "", "texts": {"a.png": 3}}
    assert (await site.post(CAPTIONS, body))[0] == 400
    (site.base / "input" / "datasets" / "cats" / "metadata.jsonl").write_text("nonsense")
    status, refusal = await site.get(f"{CAPTIONS}?folder=cats")
    assert status == 400 and "line 1" in refusal["error"]["message"]


async def test_thumbnails_are_small_and_show_deep_grey(site: Site) -> None:
    folder = cats(site)
    values = np.linspace(1000, 1200, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(folder / "xray.png")
    for name, size in (("a.png", (256, 128)), ("xray.png", (64, 64))):
        params = {"folder": "cats", "file": name}
        status, body = await site.get("/weft/datasets/picture", params=params)
        assert status == 200
        with Image.open(io.BytesIO(body)) as shown:
            assert shown.size == size and shown.format == "WEBP"
            if name == "xray.png":
                low, high = shown.convert("L").getextrema()
                assert isinstance(low, int) and isinstance(high, int)
                assert low < 10 and high > 245
