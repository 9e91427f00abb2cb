"""Whatever a body holds, the answer is JSON with a code, and the server and its queue go on."""

import asyncio
import json
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.server.app import all_routes
from engine.server.bodies import MAX_DEPTH, BadRequest, parse_json
from tests.server.conftest import Open, Site
from tests.server.worker import chain

BODIES = [
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"1",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"prompt": ' + b"[" * 200 + b"]" * 200 + b"}",
    b'{"prompt": ' + b"9" * 5000 + b"}",
    b'{"x": NaN}',
    b'{"x": 1e999}',
    b'{"prompt": {"1": null}}',
    b'{"prompt": 1}',
    b'{"prompt": "\\ud800"}',
    b'{"\\ud800": 1}',
]


@pytest.mark.parametrize("body", BODIES, ids=lambda b: repr(b[:20]))
async def test_a_body_that_is_no_request_is_told_so(site: Site, body: bytes):
    for route in all_routes():
        if route.method not in ("POST", "PATCH") or route.body_type != "application/json":
            continue
        path = route.path.replace("{id}", "x").replace("{file}", "f").replace("{dest}", "d")
        status, answer = await site.call(route.method, path, data=body)
        assert status < 500, (path, answer)
        if status >= 400:
            assert answer["error"]["type"], path
            assert answer["error"]["message"], path
    status, answer = await site.call("POST", "/prompt", data=body)
    assert status == 400
    assert "Traceback" not in json.dumps(answer)
    assert (await site.get("/queue"))[0] == 200


WRONG_FIELDS = [
    {"prompt_id": 5},
    {"prompt_id": "a b"},
    {"prompt_id": "x" * 300},
    {"client_id": []},
    {"number": "1"},
    {"number": True},
    {"number": 10**30},
    {"front": "yes"},
    {"strict": 1},
    {"extra_data": []},
    {"extra_data": {"extra_pnginfo": [1]}},
    {"partial_execution_targets": "2"},
    {"partial_execution_targets": [2]},
    {"extra_data": {"x": "\ud800"}},
]


@pytest.mark.parametrize("field", WRONG_FIELDS, ids=repr)
async def test_a_field_of_the_wrong_kind_is_named(open_site: Open, field: dict):
    site = await open_site(worker=False)
    status, answer = await site.post("/prompt", {"prompt": chain(), **field})
    assert status == 400, answer
    assert answer["error"]["message"]
    assert (await site.get("/prompt"))[1] == {"exec_info": {"queue_remaining": 0}}


async def test_a_number_that_is_none_is_told_with_its_node(site: Site):
    prompt = chain()
    prompt["1"]["inputs"]["value"] = float("nan")
    status, answer = await site.post("/prompt", {"prompt": prompt})
    assert status == 400
    assert "1" in answer["node_errors"]
    extra = {"prompt": chain(), "extra_data": {"x": float("inf")}}
    status, answer = await site.post("/prompt", extra)
    assert (status, answer["error"]["type"]) == (400, "invalid_json")


WRONG_QUEUES = [
    {"delete": "x"},
    {"delete": [1]},
    {"clear": 1},
    {"move": []},
    {"move": {"before": "x"}},
    {"pause": "x"},
]


@pytest.mark.parametrize("body", WRONG_QUEUES, ids=repr)
async def test_a_wrong_change_of_the_queue_changes_nothing(open_site: Open, body: dict):
    site = await open_site(worker=False)
    await site.queue(chain())
    assert (await site.post("/queue", body))[0] == 400
    assert (await site.get("/prompt"))[1] == {"exec_info": {"queue_remaining": 1}}


def test_nesting_is_measured_without_recursion():
    good = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(good.encode()) is not None
    with pytest.raises(BadRequest, match="nested"):
        parse_json(f"[{good}]".encode())


async def test_a_hundred_megabytes_are_refused_before_they_are_read(site: Site):
    host, port = site.client.host, site.client.port
    for path in (b"/prompt", b"/upload/image", b"/userdata/x", b"/queue"):
        with socket.socket() as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, (host, port))
            head = b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 209715200\r\n" % (
                path,
                host.encode(),
            )
            kind = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            await loop.sock_sendall(client, head + kind)
            answer = await asyncio.wait_for(loop.sock_recv(client, 4096), 5)
            assert b" 413 " in answer
            assert b"body_too_large" in answer


async def test_a_long_body_without_a_length_is_cut_off(site: Site):
    async def endless():
        for _ in range(40):
            yield b" " * (1024 * 1024)

    status, answer = await site.call("POST", "/prompt", data=endless())
    assert (status, answer["error"]["type"]) == (413, "body_too_large")


async def test_what_is_not_there_is_a_404_in_json(site: Site):
    for path in ("/api/nothing", "/nothing", "/api", "/api/", "/jobs/x", "/jobs/x/cancel/y"):
        status, answer = await site.get(path)
        assert (status, answer["error"]["type"][:3]) in ((404, "not"), (404, "unk")), path
    status, answer = await site.call("DELETE", "/prompt")
    assert (status, answer["error"]["type"]) == (405, "method_not_allowed")
    assert (await site.get("/history/x")) == (200, {})
    assert (await site.post("/jobs/x/cancel"))[0] == 404


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1", "2", "Show", "Number", "value", "\ud800", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.just("value"), inner, max_size=3)
    ),
    max_leaves=8,
)
NODES = st.dictionaries(
    st.sampled_from(["1", "2", "3", "10:3", ""]),
    JSON
    | st.fixed_dictionaries(
        {"class_type": st.sampled_from(["Show", "Number", "Odd", ""]) | JSON},
        optional={
            "inputs": st.dictionaries(st.just("value") | st.text(max_size=3), JSON, max_size=2)
            | JSON,
            "_meta": JSON,
        },
    ),
    max_size=4,
)
BODY = st.fixed_dictionaries(
    {},
    optional={
        "prompt": NODES | JSON,
        "workflow": JSON,
        "client_id": JSON,
        "prompt_id": JSON,
        "extra_data": st.dictionaries(st.just("extra_pnginfo") | st.text(max_size=3), JSON) | JSON,
        "front": JSON,
        "number": JSON,
        "strict": JSON,
        "partial_execution_targets": JSON,
    },
)


async def test_no_body_stops_the_queue(open_site: Open):
    """Random bodies; the seed is hypothesis's own, printed when it fails."""
    site = await open_site()
    answers: set[int] = set()
    loop = asyncio.get_running_loop()

    @settings(max_examples=150, deadline=None, database=None)
    @given(body=BODY)
    def try_one(body: dict) -> None:
        text = json.dumps(body).encode()
        work = asyncio.run_coroutine_threadsafe(site.call("POST", "/prompt", data=text), loop)
        status, answer = work.result(timeout=10)
        assert status in (200, 400, 409), answer
        assert ("prompt_id" in answer) == (status == 200)
        if status != 200:
            assert answer["error"]["message"]
        answers.add(status)

    await asyncio.to_thread(try_one)
    assert 400 in answers
    job = await site.queue(chain(5))
    for _ in range(300):
        if job in (await site.get(f"/history/{job}"))[1]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the queue stopped")
