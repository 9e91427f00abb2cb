"""Pictures and user files: in, out, and never out of their folders."""

import io
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import FormData
from PIL import Image, PngImagePlugin

from tests.server.conftest import Open, Site

# Names that would leave a folder on some platform, in some encoding.
CORPUS = [
    "../secret.png",
    "..",
    "../",
    "a/../../secret.png",
    "/etc/passwd",
    "//server/share/x.png",
    "\\\\server\\share\\x.png",
    "..\\secret.png",
    "a\\..\\..\\secret.png",
    "C:\\secret.png",
    "C:secret.png",
    "c:/secret.png",
    "x\0.png",
    "\0",
    "%2e%2e/secret.png",
    "..%2fsecret.png",
    "%252e%252e%252fsecret.png",
    "．．/secret.png",  # full-width dots
    "..／secret.png",  # full-width slash
    "....//secret.png",
    "./../secret.png",
    "link",
    "link/secret.png",
    "link_file.png",
    "nul",
    "con.png",
    "file:///etc/passwd",
    "~/secret.png",
    "a\n/../../secret.png",
    " ../secret.png",
    "." * 300,
    "a/" * 3000 + "x.png",
]


def png(size: tuple[int, int] = (4, 3), color: Any = (255, 0, 0), **texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, value in texts.items():
        info.add_text(name, value)
    out = io.BytesIO()
    mode = "RGBA" if len(color) == 4 else "RGB"
    Image.new(mode, size, color).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def form(data: bytes, name: str = "a.png", **fields: str) -> FormData:
    body = FormData(quote_fields=False)
    safe = name if name.isprintable() else quote(name)  # no client can send the others
    body.add_field("image", data, filename=safe, content_type="image/png")
    for key, value in fields.items():
        body.add_field(key, value)
    return body


@pytest.fixture
def secret(tmp_path: Path) -> bytes:
    """A file outside every folder, and links to it and its folder inside them."""
    data = png(secret="yes")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(data)
    (tmp_path / "secret.png").write_bytes(data)
    for folder in ("input", "output", "temp", "user/default", "models/checkpoints"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "link").symlink_to(outside)
        (tmp_path / folder / "link_file.png").symlink_to(outside / "secret.png")
    return data


def snapshot(base: Path) -> dict[str, bytes]:
    """Every file that must not change."""
    folders = (base, base.parent / f"{base.name}-outside")
    return {str(p): p.read_bytes() for f in folders for p in f.glob("*") if p.is_file()}


# View ---------------------------------------------------------------------------------------------


async def test_view_gives_the_bytes_with_an_etag(site: Site):
    data = png()
    (site.base / "output" / "sub").mkdir()
    (site.base / "output" / "sub" / "a.png").write_bytes(data)
    query = {"filename": "a.png", "subfolder": "sub", "type": "output"}
    async with site.client.get("/view", params=query) as answer:
        assert await answer.read() == data
        assert answer.content_type == "image/png"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        etag = answer.headers["ETag"]
    headers = {"If-None-Match": etag}
    assert (await site.get("/view", params=query, headers=headers))[0] == 304
    assert (await site.get("/view", params={**query, "type": "input"}))[0] == 404
    assert (await site.get("/view", params={**query, "type": "models"}))[0] == 400
    assert (await site.get("/view"))[0] == 400
    marked = {"filename": "sub/a.png [output]", "type": "input"}
    assert (await site.get("/view", params=marked)) == (200, data)


async def test_view_gives_previews_and_channels(site: Site):
    (site.base / "output" / "a.png").write_bytes(png(color=(255, 0, 0, 64)))

    async def view(**query: str) -> Image.Image:
        status, body = await site.get("/view", params={"filename": "a.png", **query})
        assert status == 200, body
        return Image.open(io.BytesIO(body))

    assert (await view(preview="webp;90")).format == "WEBP"
    assert (await view(preview="jpeg")).format == "JPEG"
    rgb = await view(channel="rgb")
    assert (rgb.mode, rgb.getpixel((0, 0))) == ("RGB", (255, 0, 0))
    alpha = await view(channel="a")
    assert alpha.getpixel((0, 0)) == (0, 0, 0, 64)
    for bad in ({"preview": "exe;9"}, {"preview": "webp;x"}, {"channel": "b"}):
        assert (await site.get("/view", params={"filename": "a.png", **bad}))[0] == 400
    (site.base / "output" / "b.png").write_bytes(b"no picture")
    status, body = await site.get("/view?filename=b.png&preview=webp")
    assert (status, body["error"]["type"]) == (400, "invalid_image")


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.js", "a.xhtml", "a.unknown", "a"])
async def test_a_users_file_is_never_a_page(site: Site, name: str):
    (site.base / "output" / name).write_bytes(b"<script>alert(1)</script>")
    async with site.client.get(f"/view?filename={name}") as answer:
        assert answer.content_type == "application/octet-stream"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["Content-Security-Policy"]


# Uploads ------------------------------------------------------------------------------------------


async def test_an_upload_is_kept_and_another_of_that_name_is_numbered(site: Site):
    first, second = png(), png(color=(0, 255, 0))

    async def upload(data: bytes, **fields: str) -> dict:
        status, body = await site.post("/upload/image", data=form(data, **fields))
        assert status == 200, body
        return body

    assert await upload(first) == {"name": "a.png", "subfolder": "", "type": "input"}
    assert (await upload(first))["name"] == "a.png"
    assert (await upload(second))["name"] == "a (1).png"
    assert (await upload(second, overwrite="true"))["name"] == "a.png"
    assert (site.base / "input" / "a.png").read_bytes() == second
    kept = await upload(first, subfolder="b/c", type="temp")
    assert kept == {"name": "a.png", "subfolder": "b/c", "type": "temp"}
    assert (site.base / "temp" / "b" / "c" / "a.png").read_bytes() == first
    left = [p.name for p in (site.base / "temp").iterdir()]
    assert left == ["b"]


async def test_only_pictures_are_taken(open_site: Open):
    site = await open_site(max_upload_mb=0.001)
    for data in (b"#!/bin/sh", b"", b"<svg/>", png()[:40], b"\x89PNG\r\n\x1a\n" + b"\0" * 50):
        status, body = await site.post("/upload/image", data=form(data))
        assert status == 400, data
        assert body["error"]["type"] == "invalid_image"
    status, body = await site.post("/upload/image", data=form(os.urandom(100_000)))
    assert (status, body["error"]["type"]) == (413, "body_too_large")
    assert "--max-upload-size" in body["error"]["hint"]
    assert (await site.post("/upload/image", {"image": 1}))[0] == 400
    assert (await site.post("/upload/image", data=FormData({"type": "input"})))[0] == 400
    assert (await site.post("/upload/image", data=form(png(), type="models")))[0] == 400
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert (await site.post("/upload/image", data=b"--x\r\nbroken", headers=broken))[0] == 400
    missing = {"Content-Type": "multipart/form-data"}
    assert (await site.post("/upload/image", data=b"", headers=missing))[0] == 400
    assert list((site.base / "input").iterdir()) == []


async def test_a_mask_goes_into_the_alpha_channel(site: Site):
    (site.base / "input" / "a.png").write_bytes(png(prompt="{}"))
    reference = json.dumps({"filename": "a.png", "type": "input", "subfolder": ""})
    body = form(png(color=(0, 0, 0, 9)), name="m.png", original_ref=reference)
    status, answer = await site.post("/upload/mask", data=body)
    assert (status, answer["name"]) == (200, "m.png")
    with Image.open(site.base / "input" / "m.png") as made:
        assert made.getpixel((0, 0)) == (255, 0, 0, 9)
        assert made.info["prompt"] == "{}"
    for bad in ("null", "[]", "{", '{"filename": 1}', '{"filename": "../secret.png"}'):
        body = form(png(), name="n.png", original_ref=bad)
        assert (await site.post("/upload/mask", data=body))[0] in (400, 403, 404)
    body = form(png(size=(9, 9)), name="n.png", original_ref=reference)
    assert (await site.post("/upload/mask", data=body))[0] == 400


# Names that leave ---------------------------------------------------------------------------------


async def test_no_parameter_that_names_a_file_leaves_its_folder(site: Site, secret: bytes):
    before = snapshot(site.base)
    for name in CORPUS:
        path = quote(name, safe="")
        asked: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", "/view", {"params": {"filename": name}}),
            ("GET", "/view", {"params": {"filename": "secret.png", "subfolder": name}}),
            ("GET", "/view", {"params": {"filename": "secret.png", "type": name}}),
            ("GET", "/view", {"params": {"filename": name, "preview": "webp"}}),
            ("GET", "/view_metadata/checkpoints", {"params": {"filename": name}}),
            ("GET", f"/view_metadata/{path}", {"params": {"filename": "x.safetensors"}}),
            ("GET", f"/models/{path}", {}),
            ("GET", f"/internal/files/{path}", {}),
            ("GET", "/userdata", {"params": {"dir": name, "recurse": "true"}}),
            ("GET", "/v2/userdata", {"params": {"path": name}}),
            ("GET", f"/userdata/{path}", {}),
            ("POST", f"/userdata/{path}", {"data": b"x"}),
            ("DELETE", f"/userdata/{path}", {}),
            ("POST", f"/userdata/{path}/move/x", {}),
            ("POST", f"/userdata/kept.json/move/{path}", {}),
            ("POST", f"/settings/{path}", {"data": b"1"}),
            ("GET", f"/{path}", {}),
            ("GET", f"/web/{path}", {}),
            ("POST", "/upload/image", {"data": form(png(), subfolder=name)}),
            ("POST", "/upload/image", {"data": form(png(), type=name)}),
            ("POST", "/upload/image", {"data": form(png(), name=name)}),
        ]
        await site.call("POST", "/userdata/kept.json", data=b"{}")
        for method, route, more in asked:
            status, body = await site.call(method, route, **more)
            assert status < 500, (method, route, name, body)
            assert body != secret, (method, route, name)
            if method == "GET" and status == 200:
                assert "secret" not in str(body), (method, route, name)
        assert snapshot(site.base) == before, name


async def test_state_of_weft_is_out_of_reach(site: Site):
    assert (site.base / "user" / "weft" / "jobs.sqlite").exists()
    for path in ("..%2Fweft%2Fjobs.sqlite", "%2E%2E%2Fweft%2Fjobs.sqlite"):
        assert (await site.get(f"/userdata/{path}"))[0] == 403
    assert (await site.get("/userdata", params={"dir": "../weft"}))[0] == 403


# User files ---------------------------------------------------------------------------------------


async def test_workflows_of_the_user_are_kept(site: Site):
    path = "/userdata/workflows%2Fmine.json"
    assert await site.post(path, data=b'{"a": 1}') == (200, "workflows/mine.json")
    assert await site.get(path) == (200, {"a": 1})
    status, info = await site.post(path, data=b"{}", params={"full_info": "true"})
    assert (status, info["path"], info["size"]) == (200, "workflows/mine.json", 2)
    status, body = await site.post(path, data=b"x", params={"overwrite": "false"})
    assert (status, body["error"]["type"]) == (409, "file_exists")
    assert await site.get("/userdata?dir=workflows") == (200, ["mine.json"])
    assert (await site.get("/userdata?dir=nothing"))[0] == 404
    _, listed = await site.get("/api/v2/userdata?path=workflows")
    assert listed[0]["path"] == "workflows/mine.json"
    assert listed[0]["type"] == "file"
    moved = "/userdata/workflows%2Fmine.json/move/workflows%2Fdeep%2Fb.json"
    assert await site.post(moved) == (200, "workflows/deep/b.json")
    assert (await site.get(path))[0] == 404
    assert (await site.get("/userdata?dir=workflows"))[1] == []
    found = await site.get("/userdata?dir=workflows&recurse=true&split=true")
    assert found == (200, [["deep/b.json", "deep", "b.json"]])
    assert (await site.call("DELETE", "/userdata/workflows%2Fdeep%2Fb.json"))[0] == 204
    assert (await site.call("DELETE", "/userdata/workflows%2Fdeep%2Fb.json"))[0] == 404


async def test_settings_are_kept_one_by_one(site: Site):
    assert await site.get("/settings") == (200, {})
    assert (await site.post("/settings", {"a": 1, "b": [2]}))[0] == 200
    assert (await site.post("/settings/Comfy.Locale", "en"))[0] == 200
    assert await site.get("/settings") == (200, {"a": 1, "b": [2], "Comfy.Locale": "en"})
    assert await site.get("/settings/a") == (200, 1)
    assert await site.get("/settings/none") == (200, None)
    assert (await site.post("/settings", [1]))[0] == 400
    assert await site.get("/users") == (200, {"storage": "server", "migrated": True})


async def test_models_and_their_metadata(site: Site):
    folder = site.base / "models" / "checkpoints"
    header = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    (folder / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (folder / "b.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    (folder / "c.safetensors").write_bytes((4).to_bytes(8, "little") + b"{{{{")
    assert "checkpoints" in (await site.get("/models"))[1]
    found = await site.get("/models/checkpoints")
    assert found == (200, ["a.safetensors", "b.safetensors", "c.safetensors"])
    assert (await site.get("/models/nothing"))[0] == 404
    view = "/view_metadata/checkpoints?filename="
    assert await site.get(view + "a.safetensors") == (200, {"format": "pt"})
    assert (await site.get(view + "b.safetensors"))[0] == 400
    assert (await site.get(view + "c.safetensors"))[0] == 400
    assert (await site.get(view + "d.safetensors"))[0] == 404
    assert await site.get("/embeddings") == (200, [])
