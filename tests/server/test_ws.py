"""Websocket clients: order, resume, previews, and one that stops reading."""

import asyncio
import json
import struct

import pytest
from aiohttp import ClientWebSocketResponse, WSCloseCode, WSMsgType

from engine.api.events import (
    JobFinished,
    JobGaveWay,
    JobStarted,
    LogLine,
    NodeFinished,
    NodeRecord,
    NodesCached,
    NodeShown,
    NodeStarted,
    NodeText,
)
from engine.server import connection, hub
from engine.server.routes import HUB
from tests.server.conftest import Open, Site, is_end, read_until
from tests.server.worker import chain


async def test_the_first_message_is_the_status_with_the_sid(site: Site):
    async with site.client.ws_connect("/ws") as socket:
        first = await socket.receive_json()
    assert first["type"] == "status"
    assert first["data"]["status"] == {"exec_info": {"queue_remaining": 0}}
    assert first["data"]["sid"]
    assert first["data"]["epoch"] == site.services.bus.epoch


async def test_features_are_exchanged(site: Site):
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        await socket.send_str("no json")
        await socket.send_str("[]")
        await socket.send_str('{"type": "feature_flags", "data": 3}')
        await socket.send_str('{"type": "feature_flags", "data": {}}')
        found = await read_until(socket, lambda m: m["type"] == "feature_flags")
    assert found[-1]["data"]["supports_preview_metadata"] is True
    assert (await site.get("/features"))[1]["max_upload_size"] == 100 * 1024 * 1024


@pytest.mark.parametrize("supports", [True, False])
async def test_previews_come_in_the_form_that_a_client_knows(site: Site, supports: bool):
    site.services.worker.previews = 1
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        flags = {"type": "feature_flags", "data": {"supports_preview_metadata": supports}}
        await socket.send_json(flags)
        await read_until(socket, lambda m: m["type"] == "feature_flags")
        job = await site.queue(chain(output="Wait"), client_id="me")
        while True:
            message = await socket.receive(timeout=5)
            if message.type is WSMsgType.BINARY:
                break
        site.services.worker.release.set()
        await read_until(socket, is_end)
    if supports:
        kind, length = struct.unpack(">II", message.data[:8])
        head = json.loads(message.data[8 : 8 + length])
        assert kind == 4
        assert head == {
            "node_id": "2",
            "display_node_id": "2",
            "parent_node_id": None,
            "real_node_id": "2",
            "prompt_id": job,
            "image_type": "image/jpeg",
        }
        assert message.data[8 + length :] == b"jpeg"
    else:
        assert message.data == struct.pack(">II", 1, 1) + b"jpeg"


async def test_a_nodes_text_is_a_binary_message(site: Site):
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        await socket.receive_json()
        event = NodeText(job_id="j", node_id="10", display_id="10", text="half ☃")
        site.services.bus.publish(event, client_id="me")
        while (message := await socket.receive(timeout=5)).type is not WSMsgType.BINARY:
            pass
    assert message.data == struct.pack(">II", 3, 2) + b"10" + "half ☃".encode()


async def test_the_log_goes_to_those_who_asked(site: Site):
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        await socket.receive_json()
        body = {"clientId": "me", "enabled": True}
        assert (await site.call("PATCH", "/internal/logs/subscribe", json=body))[0] == 200
        site.services.bus.publish(LogLine(text="hello"))
        found = await read_until(socket, lambda m: m["type"] == "logs")
    assert found[-1]["data"]["entries"][0]["m"] == "hello"
    assert (await site.get("/internal/logs/raw"))[1]["entries"][0]["m"] == "hello"
    assert "hello" in (await site.get("/internal/logs"))[1]


# Coming back --------------------------------------------------------------------------------------


def state_of(messages: list) -> list:
    """The state messages with their numbers, without those that repeat the state."""
    numbered = [m for m in messages if isinstance(m, dict) and "seq" in m]
    return [m for m in numbered if m["type"] not in ("status", "weft_snapshot")]


async def read_all(socket: ClientWebSocketResponse) -> list:
    """Everything up to now: a last message of our own marks the end."""
    await socket.send_str('{"type": "feature_flags", "data": {}}')
    return await read_until(socket, lambda m: m["type"] == "feature_flags")


async def test_a_client_that_was_away_gets_exactly_what_it_missed(site: Site):
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        for value in range(2):
            await site.queue(chain(value), client_id="me")
            await read_until(socket, is_end)
        await site.queue(chain(9, "Fail"), client_id="me")
        await read_until(socket, is_end)
    epoch = site.services.bus.epoch
    async with site.client.ws_connect(f"/ws?clientId=me&after={epoch}:0") as socket:
        everything = state_of(await read_all(socket))
    assert [m["type"] for m in everything].count("executing") == 9
    for index, message in enumerate(everything):
        after = f"{epoch}:{message['seq']}"
        async with site.client.ws_connect(f"/ws?clientId=me&after={after}") as socket:
            assert state_of(await read_all(socket)) == everything[index + 1 :]
    async with site.client.ws_connect(f"/ws?clientId=other&after={epoch}:0") as socket:
        assert [m["type"] for m in state_of(await read_all(socket))] == ["weft_worker"]


@pytest.mark.parametrize("after", ["other:1", "x", ":", "EPOCH:999999", "EPOCH:-1", "EPOCH:x"])
async def test_a_position_that_is_unknown_gets_a_snapshot(site: Site, after: str):
    after = after.replace("EPOCH", site.services.bus.epoch)
    async with site.client.ws_connect(f"/ws?clientId=me&after={after}") as socket:
        found = await read_all(socket)
    snapshot = next(m for m in found if m["type"] == "weft_snapshot")
    assert snapshot["data"]["epoch"] == site.services.bus.epoch
    assert snapshot["data"]["running"] == []
    assert snapshot["seq"] == site.services.bus.position[1]


async def test_what_has_expired_gets_a_snapshot(open_site: Open, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "KEPT_BYTES", 1500)
    site, last = await open_site(), 0
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        for value in range(4):
            await site.queue(chain(value), client_id="me")
            last = (await read_until(socket, is_end))[-1]["seq"]
    epoch = site.services.bus.epoch
    async with site.client.ws_connect(f"/ws?clientId=me&after={epoch}:2") as socket:
        assert "weft_snapshot" in [m["type"] for m in await read_all(socket)]
    async with site.client.ws_connect(f"/ws?clientId=me&after={epoch}:{last - 2}") as socket:
        found = await read_all(socket)
        assert "weft_snapshot" not in [m["type"] for m in found]
        assert [m["seq"] for m in state_of(found)] == [last - 1, last]


async def test_a_client_that_comes_late_hears_what_runs(site: Site):
    job = await site.queue(chain(output="Wait"), client_id="me")
    for _ in range(200):
        if (await site.get("/queue"))[1]["queue_running"]:
            break
        await asyncio.sleep(0.01)
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        found = await read_until(socket, lambda m: m["type"] == "progress_state")
        running = next(m for m in found if m["type"] == "executing")
        assert running["data"] == {"node": "2", "display_node": "2", "prompt_id": job}
        nodes = found[-1]["data"]["nodes"]
        assert nodes["1"]["state"] == "finished"
        assert (nodes["2"]["state"], nodes["2"]["value"], nodes["2"]["max"]) == ("running", 1, 2)
        site.services.worker.release.set()
        await read_until(socket, is_end)


async def test_what_a_running_node_shows_so_far_reaches_late_clients_too(site: Site):
    bus, job = site.services.bus, "job"
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        await socket.receive_json()
        bus.publish(JobStarted(job_id=job, timestamp_ms=1), client_id="me")
        bus.publish(NodeStarted(job_id=job, node_id="3", display_id="3"), client_id="me")
        for step in (1, 2):
            shown = NodeShown(job_id=job, node_id="3", display_id="3", ui={"training": [step]})
            bus.publish(shown, client_id="me")
        found = await read_until(socket, lambda m: m["type"] == "weft_shown")
        expected = {"node": "3", "display_node": "3", "output": {"training": [2]}, "prompt_id": job}
        assert found[-1]["data"] == expected
        async with site.client.ws_connect("/ws?clientId=me") as late:
            found = await read_until(late, lambda m: m["type"] == "weft_shown")
            assert found[-1]["data"] == expected
        bus.publish(JobGaveWay(job_id=job), client_id="me")
        found = await read_until(socket, lambda m: m["type"] == "weft_gave_way")
        assert found[-1]["data"] == {"prompt_id": job}
        async with site.client.ws_connect("/ws?clientId=me") as late:
            assert not [m for m in await read_all(late) if m["type"] == "weft_shown"]


async def test_an_expansion_shows_as_the_users_node(site: Site):
    bus, job = site.services.bus, "job"
    record = NodeRecord(state="ran")
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        await socket.receive_json()
        for event in (
            JobStarted(job_id=job, timestamp_ms=1),
            NodesCached(job_id=job, records={"5": NodeRecord(state="memory")}),
            NodeStarted(job_id=job, node_id="10:3", display_id="10"),
            NodeFinished(job_id=job, node_id="10:3", display_id="10", record=record, ui={"a": [1]}),
            JobFinished(job_id=job, status="success", timestamp_ms=2),
        ):
            bus.publish(event, client_id="me")
        found = await read_until(socket, is_end)
    by_type = {m["type"]: m["data"] for m in reversed(found)}
    assert by_type["execution_cached"]["nodes"] == ["5"]
    assert by_type["executed"] == {
        "node": "10:3",
        "display_node": "10",
        "output": {"a": [1]},
        "prompt_id": job,
    }
    node = by_type["progress_state"]["nodes"]["10:3"]
    assert node["display_node_id"] == node["parent_node_id"] == "10"
    assert node["real_node_id"] == "10:3"


async def test_a_stop_lets_clients_go_at_once(open_site: Open):
    site = await open_site()
    socket = await site.client.ws_connect("/ws?clientId=me")
    await socket.receive_json()
    assert site.client.server.runner is not None
    stopping = asyncio.create_task(site.client.server.runner.cleanup())
    message = await asyncio.wait_for(socket.receive(), 2)
    assert (message.type, message.data) == (WSMsgType.CLOSE, WSCloseCode.GOING_AWAY)
    await asyncio.wait_for(stopping, 2)


# Size and speed -----------------------------------------------------------------------------------


async def run_wide(site: Site, count: int) -> None:
    bus, job = site.services.bus, "wide"
    bus.publish(JobStarted(job_id=job, timestamp_ms=1), client_id="me")
    record = NodeRecord(state="ran")
    for index in range(count):
        node = str(index)
        bus.publish(NodeStarted(job_id=job, node_id=node, display_id=node), client_id="me")
        bus.publish(
            NodeFinished(job_id=job, node_id=node, display_id=node, record=record, ui={"v": [1]}),
            client_id="me",
        )
        if index % 100 == 0:
            await asyncio.sleep(0.002)
    bus.publish(JobFinished(job_id=job, status="success", timestamp_ms=2), client_id="me")


async def test_the_traffic_of_a_wide_graph_is_linear_and_small(site: Site):
    async with site.client.ws_connect("/ws?clientId=me", max_msg_size=0) as socket:
        await socket.receive()
        await run_wide(site, 1000)
        size = 0
        while True:
            message = await socket.receive(timeout=5)
            size += len(message.data)
            if is_end(json.loads(message.data)):
                break
    assert size < 600_000, size


async def test_a_client_that_stops_reading_delays_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "MAX_BACKLOG_BYTES", 200_000)
    host, port = site.client.host, site.client.port
    reader, writer = await asyncio.open_connection(host, port, limit=1)
    writer.write(
        b"GET /ws?clientId=me HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await writer.drain()
    big = {"v": ["x" * 500_000]}
    record = NodeRecord(state="ran")
    async with site.client.ws_connect("/ws?clientId=quick") as quick:
        await quick.receive_json()
        for index in range(40):  # 20 MB that nobody reads
            node = str(index)
            site.services.bus.publish(
                NodeFinished(job_id="j", node_id=node, display_id=node, record=record, ui=big),
                client_id="me",
            )
            await asyncio.sleep(0)
        for value in range(5):
            await asyncio.wait_for(site.queue(chain(value), client_id="quick"), 5)
            await read_until(quick, is_end)
    slow = next(c for c in site_connections(site) if c.client_id == "me")
    assert slow.waiting_bytes <= 200_000
    data = b""
    async with asyncio.timeout(10):
        while b"weft_snapshot" not in data:
            data = data[-100:] + await reader.read(1 << 20)
    writer.close()


def site_connections(site: Site) -> list[connection.Connection]:
    assert site.client.app is not None
    return list(site.client.app[HUB].connections)


# Following the jobs of others ---------------------------------------------------------------------


def jobs_in(messages: list) -> set[str]:
    found = [m["data"] for m in messages if isinstance(m, dict)]
    named = {d["prompt_id"] for d in found if "prompt_id" in d}
    return named.union(*(d.get("jobs", {}) for d in found))


async def test_one_that_follows_all_sees_the_jobs_of_others_and_of_no_client(site: Site):
    async with (
        site.client.ws_connect("/ws?clientId=page&follow=all") as page,
        site.client.ws_connect("/ws?clientId=script") as script,
        site.client.ws_connect("/ws?clientId=other") as other,
    ):
        job = await site.queue(chain(), client_id="script")
        assert jobs_in(await read_until(page, is_end)) == {job}
        assert jobs_in(await read_until(script, is_end)) == {job}
        nameless = await site.queue(chain(2))
        assert jobs_in(await read_until(page, is_end)) == {nameless}
        assert jobs_in(await read_all(script)) == set()
        assert jobs_in(await read_all(other)) == set()


async def test_one_that_follows_all_gets_what_it_missed_of_others(site: Site):
    async with site.client.ws_connect("/ws?clientId=page&follow=all") as page:
        first = await page.receive_json()
    after = f"{first['data']['epoch']}:{first['seq']}"
    jobs = {await site.queue(chain(1), client_id="script"), await site.queue(chain(2))}
    async with site.client.ws_connect("/ws?clientId=script") as script:
        job = await site.queue(chain(3), client_id="script")
        await read_until(script, is_end)
    for query, seen in (("page&follow=all", {*jobs, job}), ("page", set[str]())):
        async with site.client.ws_connect(f"/ws?clientId={query}&after={after}") as page:
            assert jobs_in(await read_all(page)) == seen


async def test_a_page_that_comes_in_mid_run_is_told_which_node_of_anothers_job_runs(site: Site):
    site.services.worker.previews = 1
    async with site.client.ws_connect("/ws?clientId=script") as script:
        job = await site.queue(chain(output="Wait"), client_id="script")
        await read_until(script, lambda m: m["type"] == "progress")
        async with site.client.ws_connect("/ws?clientId=page&follow=all") as page:
            found = await read_until(page, lambda m: m["type"] == "progress_state")
            assert [m["type"] for m in found] == [
                "status", "execution_cached", "executing", "progress_state",
            ]  # fmt: skip
            assert found[-1]["data"]["nodes"]["2"]["state"] == "running"
            assert jobs_in(found) == {job}
            site.services.worker.release.set()
            await read_until(page, is_end)
        async with site.client.ws_connect("/ws?clientId=page&follow=all&after=x:1") as page:
            found = await read_all(page)
        assert jobs_in(found) == set()
