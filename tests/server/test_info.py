"""What the server says of itself: node types, machine, health, page, description."""

import json
import subprocess
import sys
from pathlib import Path

from engine.config import ROOT
from engine.server.app import all_routes
from engine.server.openapi import describe
from tests.server.conftest import Open, Site
from tests.server.worker import chain


async def test_node_types(site: Site):
    _, every = await site.get("/object_info")
    assert every["Number"]["input"]["required"]["value"] == ["INT", {"default": 0, "max": 1000}]
    assert every["Show"]["output_node"] is True
    assert await site.get("/api/object_info/Show") == (200, {"Show": every["Show"]})
    assert await site.get("/object_info/Nothing") == (200, {})


async def test_the_machine(site: Site):
    _, stats = await site.get("/system_stats")
    assert {"os", "ram_total", "ram_free", "python_version", "pytorch_version", "argv"} <= set(
        stats["system"]
    )
    assert f'version = "{stats["system"]["weft_version"]}"' in (ROOT / "pyproject.toml").read_text()
    device = stats["devices"][0]
    assert {"name", "type", "index", "vram_total", "vram_free"} <= set(device)


async def test_health_tells_apart_alive_and_ready(open_site: Open):
    site = await open_site(worker=False)
    assert await site.get("/health") == (200, {"status": "ok"})
    assert (await site.get("/ready"))[0] == 503
    site.services.worker.start()
    assert await site.get("/ready") == (200, {"ready": True, "worker": "ready"})


async def test_figures(open_site: Open):
    site = await open_site(worker=False)
    await site.queue(chain())
    status, text = await site.get("/metrics")
    assert status == 200
    assert b'weft_jobs{state="pending"} 1' in text
    assert b"weft_websocket_clients 0" in text
    assert await site.get("/packs") == (200, {"packs": []})


async def test_what_clients_ask_at_boot_is_json(site: Site):
    expected = {
        "/i18n": {},
        "/workflow_templates": {},
        "/global_subgraphs": {},
        "/node_replacements": {},
        "/experiment/models": [],
        "/extensions": [],
        "/templates/index.json": [],
    }
    for path, answer in expected.items():
        assert await site.get(path) == (200, answer)
        assert await site.get(f"/api{path}") == (200, answer)


async def test_the_page_and_its_workflow(site: Site):
    status, page = await site.get("/")
    assert (status, b"<title>Weft</title>" in page) == (200, True)
    for path in ("/app.js", "/api/http.js", "/api/socket.js", "/style.css", "/favicon.svg"):
        async with site.client.get(path) as answer:
            assert answer.status == 200, path
            assert answer.headers["Cache-Control"] == "no-cache"
    assert "3" in (await site.get("/weft/default_workflow"))[1]
    async with site.client.head("/queue") as answer:
        assert (answer.status, await answer.read()) == (200, b"")


async def test_another_front_end_can_be_served(open_site: Open, tmp_path: Path):
    root = tmp_path / "front"
    root.mkdir()
    (root / "index.html").write_text("<h1>other</h1>")
    site = await open_site(front_end_root=root)
    assert await site.get("/") == (200, b"<h1>other</h1>")
    assert (await site.get("/app.js"))[0] == 404


async def test_a_file_of_the_page_is_sent_again_only_when_it_has_changed(
    open_site: Open, tmp_path: Path
):
    file = tmp_path / "front" / "index.html"
    file.parent.mkdir()
    file.write_text("one")
    site = await open_site(front_end_root=file.parent)
    async with site.client.get("/") as answer:
        known = {"If-None-Match": answer.headers["ETag"]}
    assert await site.get("/", headers=known) == (304, b"")
    file.write_text("another")
    assert await site.get("/", headers=known) == (200, b"another")


async def test_every_route_is_described(site: Site):
    _, document = await site.get("/openapi.json")
    described = {(m.upper(), p) for p, entry in document["paths"].items() for m in entry}
    served = {(r.method, r.path) for r in all_routes() if r.path != "/{path:.+}"}
    assert described == served
    assert json.dumps(document, sort_keys=True)
    names = [o["operationId"] for entry in document["paths"].values() for o in entry.values()]
    assert len(names) == len(set(names))
    for route in all_routes():
        assert route.summary
        assert describe([route])["paths"][route.path]


def test_the_server_imports_no_torch():
    code = (
        "import sys, engine.server.app; "
        "bad = {'torch', 'diffusers', 'transformers'} & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_files_that_packs_have_for_editors(site: Site, tmp_path: Path):
    folder = tmp_path / "custom_nodes" / "my pack" / "js"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a b.js").write_text("export {}")
    (folder / "style.css").write_text("a {}")
    (tmp_path / "secret.js").write_text("secret")
    (folder / "link.js").symlink_to(tmp_path / "secret.js")
    pack = {"name": "my pack", "state": "loaded", "web_folder": str(folder)}
    site.services.packs = [pack, {**pack, "name": "other", "state": "changed"}]
    address = "/extensions/my%20pack/deep/a%20b.js"
    assert await site.get("/extensions") == (200, [address])
    async with site.client.get(f"/api{address}") as answer:
        assert (answer.status, await answer.text()) == (200, "export {}")
        assert answer.content_type == "text/javascript"
    assert (await site.get("/extensions/my%20pack/style.css"))[0] == 200
    for wrong in ("link.js", "..%2f..%2f..%2fsecret.js", "nothing.js", "deep", "%00"):
        status, answer = await site.get(f"/extensions/my%20pack/{wrong}")
        assert (status, answer["error"]["type"]) == (404, "not_found"), wrong
    assert (await site.get("/extensions/other/style.css"))[0] == 404
