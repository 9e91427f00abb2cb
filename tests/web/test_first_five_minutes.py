"""The first five minutes, walked in Chromium with times."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from engine.config import ROOT
from tests.e2e.server_process import ServerProcess
from tests.web.first_five_minutes import walk

pytestmark = [pytest.mark.browser, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "models").symlink_to(ROOT / "models")
    with ServerProcess(tmp_path) as process:
        yield process


def test_walk(chromium: Browser, own_server: ServerProcess) -> None:
    first = own_server.queue_prompt(own_server.get("/weft/default_workflow"))  # as `main.py` does
    own_server.wait_for(first, timeout_s=120)
    page = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    times: dict[str, float] = {}
    start = time.monotonic()
    walk(page, own_server, lambda words: times.update({words: time.monotonic() - start}))
    print({words: round(seconds, 2) for words, seconds in times.items()})
    page.context.close()
    assert len(times) == 9
    assert faults == []
