"""Promise 6: no web page and no other machine can make Weft do anything. Every route is tried."""

import base64
from pathlib import Path

import pytest

from engine.api.errors import EngineError
from engine.server.app import all_routes
from engine.server.auth import OPEN_PATHS, access_of, host_name
from tests.server.conftest import Open
from tests.server.worker import config_for

TOKEN = "secret-token"
ROUTES = [
    (route.method, prefix + route.path)
    for route in all_routes()
    for prefix in (("", "/api") if route.has_api_twin else ("",))
]
# Routes that need no token, each with its reason; anything else that answers fails the test.
FREE = {"/health", "/ready", "/api/health", "/api/ready"}  # probes: say only whether it runs


def concrete(path: str) -> str:
    for name, value in {"{path:.+}": "app.js", "{folder}": "vae", "{type}": "output"}.items():
        path = path.replace(name, value)
    return path.replace("{", "").replace("}", "")


async def test_every_registered_route_is_in_the_table(open_site: Open):
    site = await open_site()
    assert site.client.app is not None
    registered = {
        (route.method, route.resource.canonical)
        for route in site.client.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert registered == {(m, p.replace("{path:.+}", "{path}")) for m, p in ROUTES}


async def test_no_route_answers_a_foreign_page(open_site: Open):
    site = await open_site()
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost.evil.example"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": ""},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ):
        for method, path in ROUTES:
            status, body = await site.call(method, concrete(path), headers=headers)
            assert status in (400, 403), (method, path, headers, status, body)
    assert (await site.get("/queue"))[1]["queue_pending"] == []


async def test_every_route_but_the_probes_wants_the_token(open_site: Open):
    site = await open_site(require_token=True, token=TOKEN)
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {base64.b64encode(b'me:wrong').decode()}"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer \udcff"},
        {"Cookie": f"weft-session-8188={TOKEN}"},
    ):
        for method, path in ROUTES:
            status, body = await site.call(method, concrete(path), headers=headers)
            if path not in FREE:
                assert status == 401, (method, path, headers, status)
                assert body["error"]["type"] == "token_required"
    assert FREE == OPEN_PATHS


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"Basic {base64.b64encode(f'me:{TOKEN}'.encode()).decode()}"},
    ],
)
async def test_the_token_opens_http_and_websocket(open_site: Open, headers: dict[str, str]):
    site = await open_site(require_token=True, token=TOKEN)
    assert (await site.get("/queue", headers=headers))[0] == 200
    async with site.client.ws_connect("/ws", headers=headers) as socket:
        assert (await socket.receive_json())["type"] == "status"


async def test_a_token_in_the_address_becomes_a_cookie(open_site: Open):
    site = await open_site(require_token=True, token=TOKEN)
    async with site.client.get(f"/?token={TOKEN}", allow_redirects=False) as answer:
        assert answer.status == 303
        assert TOKEN not in answer.headers["Location"]
        cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    session = cookie.split(";")[0]
    site.client.session.cookie_jar.clear()
    assert (await site.get("/queue", headers={"Cookie": session}))[0] == 200
    assert (await site.get("/queue", headers={"Cookie": session[:-1] + "x"}))[0] == 401
    assert (await site.get("/queue?token=wrong"))[0] == 401


async def test_same_origin_proxies_and_an_allowed_origin_pass(open_site: Open):
    site = await open_site(allow_hosts=("weft.example",), cors_origin="http://app.example")
    port = site.client.port
    for headers in (
        {},
        {"Origin": f"http://127.0.0.1:{port}"},
        {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"},
        {"Host": "weft.example", "Origin": "https://weft.example"},
        {"Host": "127.0.0.1", "Origin": "https://weft.example"},
        {"Origin": "http://app.example"},
    ):
        assert (await site.get("/queue", headers=headers))[0] == 200, headers
    async with site.client.options("/prompt", headers={"Origin": "http://app.example"}) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "http://app.example"
    assert (await site.get("/queue", headers={"Origin": "http://else.example"}))[0] == 403
    assert (await site.get("/queue", headers={"Host": "else.example"}))[0] == 403


async def test_links_from_other_sites_may_open_the_page(open_site: Open):
    site = await open_site()
    headers = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert (await site.get("/", headers=headers))[0] == 200
    assert (await site.call("POST", "/interrupt", headers=headers))[0] == 403


async def test_a_foreign_websocket_is_refused(open_site: Open):
    site = await open_site()
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        status, _ = await site.get(
            "/ws",
            headers={
                **headers,
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            },
        )
        assert status == 403


async def test_the_page_runs_its_own_scripts_only(open_site: Open):
    site = await open_site()
    async with site.client.get("/") as answer:
        policy = answer.headers["Content-Security-Policy"]
        page = await answer.text()
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    assert " style=" not in page
    assert " onclick=" not in page
    assert "<script>" not in page


def test_off_loopback_a_token_is_needed(tmp_path: Path):
    with pytest.raises(EngineError, match="token"):
        access_of(config_for(tmp_path, listen="0.0.0.0"))
    access = access_of(config_for(tmp_path, listen="0.0.0.0", token="t"))
    assert access.token == "t"
    assert access.allows_addresses
    assert access_of(config_for(tmp_path)).token is None


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("Localhost:80", "localhost"),
        ("[::1]:8188", "::1"),
        ("a.b.", "a.b"),
        ("a:x", None),
        ("u@a", None),
        ("a/b", None),
        ("", None),
        ("[::1", None),
    ],
)
def test_host_names_are_read_strictly(host: str, name: str | None):
    assert host_name(host) == name
