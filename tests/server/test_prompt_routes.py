"""Submit, follow, fetch, cancel: what API scripts of this ecosystem do."""

import asyncio
import json

import pytest

from engine.api.spec import InputSpec, NodeSpec
from engine.graph.catalogue import Catalogue
from tests.server.conftest import Open, Site, is_end, read_until
from tests.server.worker import chain


async def ended(site: Site, job: str) -> dict:
    for _ in range(200):
        _, entry = await site.get(f"/history/{job}")
        if entry:
            return entry[job]
        await asyncio.sleep(0.01)
    raise AssertionError("the job did not end")


async def test_a_prompt_is_queued_and_its_history_tells_all(site: Site):
    status, answer = await site.post("/prompt", {"prompt": chain(7), "client_id": "me"})
    assert status == 200
    assert answer["node_errors"] == {}
    assert answer["number"] == 1
    entry = await ended(site, answer["prompt_id"])
    number, job, prompt, extra, outputs = entry["prompt"]
    assert (number, job, outputs) == (1, answer["prompt_id"], ["2"])
    assert prompt["1"]["inputs"] == {"value": 7}
    assert extra["client_id"] == "me"
    assert entry["outputs"] == {"2": {"shown": [["1", 0]]}}
    assert entry["status"]["status_str"] == "success"
    assert entry["status"]["completed"] is True
    assert [kind for kind, _ in entry["status"]["messages"]] == [
        "execution_start",
        "execution_cached",
        "execution_success",
    ]
    assert entry["weft"]["nodes"]["1"]["state"] == "ran"
    assert entry["weft"]["partial"] is False


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_the_body_is_json_whatever_its_content_type_says(site: Site, content_type: str):
    body = json.dumps({"prompt": chain()}).encode()
    status, answer = await site.call(
        "POST", "/api/prompt", data=body, headers={"Content-Type": content_type}
    )
    assert status == 200, answer


async def test_messages_come_in_the_customary_order(site: Site):
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        job = await site.queue(chain(), client_id="me")
        found = await read_until(socket, is_end)
    assert found[0]["type"] == "status"
    assert found[0]["data"]["sid"] == "me"
    mine = [m for m in found if m["data"].get("prompt_id") == job]
    assert [(m["type"], m["data"].get("node")) for m in mine] == [
        ("execution_start", None),
        ("execution_cached", None),
        ("executing", "1"),
        ("executing", "2"),
        ("executed", "2"),
        ("progress_state", None),
        ("execution_success", None),
        ("executing", None),
    ]
    _, entry = await site.get(f"/history/{job}")
    assert job in entry


async def test_messages_of_a_job_go_to_its_client_only(site: Site):
    async with (
        site.client.ws_connect("/ws?clientId=other") as other,
        site.client.ws_connect("/ws?clientId=me") as mine,
    ):
        await site.queue(chain(), client_id="me")
        await read_until(mine, is_end)
        await site.queue(chain(), client_id="other")
        found = await read_until(other, is_end)
    starts = [m for m in found if m["type"] == "execution_start"]
    assert len(starts) == 1


async def test_a_failure_names_its_node(site: Site):
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        job = await site.queue(chain(output="Fail"), client_id="me")
        found = await read_until(socket, is_end)
    error = next(m["data"] for m in found if m["type"] == "execution_error")
    assert error["node_id"] == "2"
    assert error["node_type"] == "Fail"
    assert error["exception_message"] == "It fails. Do not."
    assert error["exception_type"] == "Bad"
    assert error["current_inputs"] == {"value": ["1"]}
    entry = (await site.get(f"/history/{job}"))[1][job]
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1][0] == "execution_error"
    assert entry["status"]["messages"][-1][1]["node_id"] == "2"


async def test_a_running_job_can_be_interrupted(site: Site):
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        job = await site.queue(chain(output="Wait"), client_id="me")
        await read_until(socket, lambda m: m["type"] == "progress")
        assert (await site.get("/queue"))[1]["queue_running"][0][1] == job
        assert (await site.post("/interrupt", {"prompt_id": "another"}))[0] == 200
        assert (await site.call("POST", "/interrupt"))[0] == 200
        found = await read_until(socket, is_end)
    assert "execution_interrupted" in [m["type"] for m in found]
    entry = (await site.get(f"/history/{job}"))[1][job]
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"


async def test_waiting_jobs_can_be_moved_cancelled_and_paused(open_site: Open):
    site = await open_site(worker=False)
    a, b, c = [await site.queue(chain(n)) for n in range(3)]
    front = await site.queue(chain(9), front=True)

    async def order() -> list[str]:
        return [item[1] for item in (await site.get("/queue"))[1]["queue_pending"]]

    assert await order() == [front, a, b, c]
    assert (await site.post("/queue", {"move": {"id": c, "before": a}}))[0] == 200
    assert await order() == [front, c, a, b]
    assert (await site.post("/queue", {"delete": [a, "unknown"]}))[0] == 200
    assert await order() == [front, c, b]
    assert (await site.get("/prompt"))[1] == {"exec_info": {"queue_remaining": 3}}
    assert (await site.post("/queue", {"pause": True}))[0] == 200
    assert (await site.get("/queue"))[1]["weft"] == {"paused": True}
    assert (await site.post("/queue", {"resume": True, "clear": True}))[0] == 200
    assert await order() == []
    status, answer = await site.post("/queue", {"move": {"id": a}})
    assert (status, answer["error"]["type"]) == (404, "unknown_job")


async def test_the_same_submission_is_one_job(open_site: Open):
    site = await open_site(worker=False)
    first = await site.post("/prompt", {"prompt": chain(), "prompt_id": "mine"})
    again = await site.post("/prompt", {"prompt": chain(), "prompt_id": "mine"})
    assert first[1]["prompt_id"] == again[1]["prompt_id"] == "mine"
    assert first[1]["number"] == again[1]["number"]
    status, answer = await site.post("/prompt", {"prompt": chain(2), "prompt_id": "mine"})
    assert (status, answer["error"]["type"]) == (409, "conflict")
    key = {"Idempotency-Key": "k"}
    ids = {
        (await site.post("/prompt", {"prompt": chain()}, headers=key))[1]["prompt_id"]
        for _ in range(2)
    }
    assert len(ids) == 1
    assert len((await site.get("/queue"))[1]["queue_pending"]) == 2


async def test_good_outputs_run_and_bad_ones_are_told(site: Site):
    prompt = {**chain(), "3": {"class_type": "Show", "inputs": {}}}
    status, answer = await site.post("/prompt", {"prompt": prompt})
    assert status == 200
    assert answer["node_errors"]["3"]["errors"][0]["type"] == "required_input_missing"
    entry = await ended(site, answer["prompt_id"])
    assert entry["status"]["status_str"] == "success"
    assert entry["weft"]["partial"] is True
    assert list(entry["outputs"]) == ["2"]
    status, answer = await site.post("/prompt", {"prompt": prompt, "strict": True})
    assert status == 400
    assert answer["error"]["type"] == "prompt_outputs_failed_validation"


async def test_history_is_sliced_from_the_oldest(site: Site):
    jobs = [await site.queue(chain(n)) for n in range(4)]
    for job in jobs:
        await ended(site, job)
    assert list((await site.get("/history"))[1]) == jobs
    assert list((await site.get("/history?max_items=2&offset=1"))[1]) == jobs[1:3]
    assert (await site.get("/history?max_items=2&offset=9"))[1] == {}
    assert (await site.get("/history/unknown"))[1] == {}
    assert (await site.post("/history", {"delete": [jobs[0]]}))[0] == 200
    assert list((await site.get("/history"))[1]) == jobs[1:]
    assert (await site.post("/history", {"clear": True}))[0] == 200
    assert (await site.get("/history"))[1] == {}


async def test_the_jobs_form(site: Site):
    done = await site.queue(chain())
    await ended(site, done)
    failed = await site.queue(chain(output="Fail"))
    await ended(site, failed)
    waiting = await site.queue(chain(output="Wait"))
    _, page = await site.get("/api/jobs?limit=2&sort_order=asc")
    assert [job["id"] for job in page["jobs"]] == [done, failed]
    assert page["pagination"] == {"offset": 0, "limit": 2, "total": 3, "has_more": True}
    assert [job["status"] for job in page["jobs"]] == ["completed", "failed"]
    _, page = await site.get("/api/jobs?status=failed,completed")
    assert {job["id"] for job in page["jobs"]} == {done, failed}
    _, job = await site.get(f"/api/jobs/{done}")
    assert job["outputs"] == {"2": {"shown": [["1", 0]]}}
    assert job["workflow"]["prompt"] == chain()
    assert (await site.get("/api/jobs/unknown"))[0] == 404
    assert (await site.get("/api/jobs?status=odd"))[0] == 400
    assert (await site.get("/api/jobs?limit=x"))[0] == 400
    async with site.client.ws_connect("/ws"):
        status, answer = await site.post(f"/api/jobs/{waiting}/cancel")
        assert (status, answer) == (200, {"cancelled": True})
    entry = await ended(site, waiting)
    assert entry["weft"]["state"] == "interrupted"
    assert (await site.post("/api/jobs/cancel", {"job_ids": [done]}))[1] == {"cancelled": []}


async def test_memory_can_be_given_back(site: Site):
    assert (await site.post("/free", {"unload_models": True, "free_memory": False}))[0] == 200
    assert site.services.worker.freed == [(True, False)]


async def test_a_workflow_in_editor_form_is_converted(open_site: Open):
    site = await open_site(worker=False)
    workflow = {
        "id": "w",
        "version": 0.4,
        "nodes": [
            {
                "id": 1,
                "type": "Number",
                "widgets_values": [7],
                "inputs": [],
                "outputs": [{"name": "INT", "type": "INT", "links": [1]}],
            },
            {"id": 2, "type": "Show", "inputs": [{"name": "value", "type": "INT", "link": 1}]},
        ],
        "links": [[1, 1, 0, 2, 0, "INT"]],
    }
    status, answer = await site.post("/prompt", {"workflow": workflow})
    assert status == 200, answer
    item = (await site.get("/queue"))[1]["queue_pending"][0]
    assert item[2]["1"]["inputs"] == {"value": 7}
    assert item[2]["2"]["inputs"] == {"value": ["1", 0]}
    assert item[3]["extra_pnginfo"]["workflow"] == workflow
    assert (await site.get(f"/jobs/{item[1]}"))[1]["workflow_id"] == "w"
    for odd in (1, [], {}, {"nodes": 1}, {"nodes": [{"id": 1}], "links": "x"}):
        status, answer = await site.post("/prompt", {"workflow": odd})
        assert status == 400, odd
        assert answer["error"]["message"]


async def test_a_choice_that_came_since_is_taken(open_site: Open):
    def catalogue(*choices: str) -> Catalogue:
        kind = InputSpec(name="kind", type="COMBO", choices=choices)
        spec = NodeSpec(name="Pick", title="Pick", category="t", inputs=(kind,), is_output=True)
        return Catalogue({"Pick": spec})

    site = await open_site(worker=False)
    worker = site.services.worker
    worker.catalogue = catalogue("a")
    prompt = {"1": {"class_type": "Pick", "inputs": {"kind": "b"}}}
    assert (await site.post("/prompt", {"prompt": prompt}))[0] == 400
    worker.refreshed = catalogue("a", "b")
    assert (await site.post("/prompt", {"prompt": prompt}))[0] == 200
    worker.refreshed = catalogue("c")
    _, info = await site.get("/object_info")
    assert info["Pick"]["input"]["required"]["kind"] == [["c"]]
