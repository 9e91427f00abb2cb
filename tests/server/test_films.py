"""The previews of each step: kept within bounds, told with the job, served one by one."""

import itertools

from engine.api.events import NodePreview
from engine.server.films import MAX_FRAMES, Films
from engine.server.routes import HUB
from tests.server.conftest import Site, is_end, read_until
from tests.server.worker import chain


def preview(step: int, job: str = "j", node: str = "3", data: bytes = b"jpeg") -> NodePreview:
    return NodePreview(
        job_id=job, node_id=node, display_id=node, mime="image/jpeg", data=data, step=step
    )


def test_frames_keep_their_order_and_step():
    films = Films()
    for step in (1, 2, 3):
        films.add(preview(step, data=bytes([step])))
    films.add(preview(1, node="5"))
    assert films.steps("j") == {"3": [1, 2, 3], "5": [1]}
    frame = films.frame("j", "3", 1)
    assert frame is not None and (frame.step, frame.data) == (2, b"\x02")
    assert films.frame("j", "3", 3) is None
    assert films.frame("other", "3", 0) is None
    assert films.steps("other") == {}


def test_a_very_long_run_keeps_evenly_spaced_steps():
    films = Films()
    for step in range(1, 1001):
        films.add(preview(step))
    steps = films.steps("j")["3"]
    assert len(steps) <= MAX_FRAMES
    gaps = {b - a for a, b in itertools.pairwise(steps)}
    assert gaps == {16}
    assert steps[0] == 1
    assert films.size_bytes == 4 * len(steps)


def test_the_oldest_jobs_films_go_first():
    films = Films(max_bytes=1000)
    for job in ("a", "b", "c"):
        for step in range(10):
            films.add(preview(step, job=job, data=bytes(45)))
    assert films.steps("a") == {}
    assert films.size_bytes == 900
    films.drop("b")
    films.drop("b")
    assert films.size_bytes == 450
    films.add(preview(1, job="big", data=bytes(2 << 20)))
    assert films.steps("big") == {}


async def test_steps_are_told_with_the_job_and_served_one_by_one(site: Site):
    site.services.worker.previews = 3
    site.services.worker.release.set()
    async with site.client.ws_connect("/ws?clientId=me") as socket:
        job = await site.queue(chain(output="Wait"), client_id="me")
        await read_until(socket, is_end)
    _, detail = await site.get(f"/jobs/{job}")
    assert detail["weft"]["steps"] == {"2": [1, 2, 3]}
    async with site.client.get(f"/weft/steps/{job}/2/1") as found:
        assert (found.status, found.content_type) == (200, "image/jpeg")
        assert await found.read() == b"jpeg"
    for path in ("2/3", "9/0", "2/x", "2/-1", "2/99999999999"):
        status, told = await site.get(f"/weft/steps/{job}/{path}")
        assert (status, told["error"]["message"]) == (404, "This step's picture is not kept.")
    await site.post("/history", {"delete": [job]})
    await site.get("/queue")
    assert (await site.get(f"/weft/steps/{job}/2/0"))[0] == 404
    assert site.client.app is not None
    assert site.client.app[HUB].films.size_bytes == 0
