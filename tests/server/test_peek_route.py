"""`POST /weft/peek`: what reaches the worker, and what is answered without it."""

import pytest

from tests.server.conftest import Site
from tests.server.worker import chain


async def test_the_worker_gets_what_the_node_needs_as_a_job_would(site: Site):
    prompt = {**chain(), "9": {"class_type": "Gone", "inputs": {}}}
    prompt["1"]["inputs"]["value"] = "7"
    status, found = await site.post(
        "/weft/peek", {"prompt": prompt, "node": "1", "output": 0, "job": "a"}
    )
    assert status == 200
    asked, node, output, job = found["value"]["asked"]
    assert (list(asked), asked["1"]["inputs"]) == (["1"], {"value": 7})
    assert (node, output, job) == ("1", 0, "a")
    assert (found["words"], found["seconds"]) == ("kept", 0.5)


async def test_what_cannot_run_says_why(site: Site):
    prompt = chain()
    prompt["1"]["inputs"]["value"] = 5000
    _, found = await site.post("/weft/peek", {"prompt": prompt, "node": "1"})
    assert found["value"] is None
    assert found["words"].startswith("It cannot be computed: ")
    assert "5000" in found["words"]
    _, found = await site.post("/weft/peek", {"prompt": chain(), "node": "77"})
    assert found == {"words": "It is no part of what would run.", "seconds": 0, "value": None}
    circle = {
        "1": {"class_type": "Show", "inputs": {"value": ["2", 0]}},
        "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}},
    }
    status, found = await site.post("/weft/peek", {"prompt": circle, "node": "1"})
    assert (status, found["value"]) == (200, None)


@pytest.mark.parametrize(
    "body",
    [{}, {"prompt": {}}, {"node": "1"}, {"prompt": chain(), "node": "1", "output": "x"}, []],
)
async def test_a_body_that_is_none_is_refused(site: Site, body: object):
    status, found = await site.post("/weft/peek", body)
    assert status == 400
    assert found["error"]["message"]
