"""What a new user meets in the first five minutes, at most three clicks a step, with times."""

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser, Locator, Page, expect

from engine.config import ROOT
from tests.e2e.server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

PARAMETERS = (
    "a lighthouse at night\nNegative prompt: blurry\n"
    "Steps: 12, Sampler: Euler a, CFG scale: 6.5, Seed: 1234, Size: 64x64, Model: gone"
)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "models").symlink_to(ROOT / "models")
    with ServerProcess(tmp_path) as process:
        yield process


def node(page: Page, title: str) -> Locator:
    return page.get_by_role("group", name=title).first


def picture_with_parameters() -> bytes:
    info = PngInfo()
    info.add_text("parameters", PARAMETERS)
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "navy").save(file, "PNG", pnginfo=info)
    return file.getvalue()


def test_walk(chromium: Browser, own_server: ServerProcess) -> None:
    times: dict[str, float] = {}
    own_server.run(own_server.get("/weft/default_workflow"))  # as `main.py` does by itself
    page = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))

    start = time.monotonic()
    page.goto(own_server.url)
    expect(node(page, "Save Image").locator(".picture img")).to_be_visible()
    times["picture and workflow on the screen"] = time.monotonic() - start

    start = time.monotonic()
    page.get_by_role("textbox", name="text").first.fill("a green circle on a blue background")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(node(page, "KSampler").locator(".badge")).to_contain_text("ran ", timeout=30_000)
    expect(node(page, "Load Checkpoint").locator(".badge")).to_have_text("cached")
    reason = node(page, "Prompt").locator(".badge")
    expect(reason).to_have_attribute("title", "input text changed")
    times["a word changed and run again"] = time.monotonic() - start

    start = time.monotonic()
    drop(page, "made elsewhere.png", picture_with_parameters())
    expect(page.get_by_role("tab", name="made elsewhere")).to_be_visible()
    assert "a lighthouse at night" in page.evaluate("JSON.stringify(weft.store.toPrompt())")
    expect(page.locator(".toasts")).to_contain_text("gone")
    times["a picture made elsewhere opened"] = time.monotonic() - start

    page.get_by_role("tab").first.click()
    steps = node(page, "KSampler").get_by_role("spinbutton", name="steps")
    steps.fill("200")
    page.keyboard.press("Control+Enter")
    expect(node(page, "KSampler").locator(".badge")).to_contain_text("/ 200", timeout=60_000)
    own_server.kill_everything()
    start = time.monotonic()
    own_server.start()
    expect(node(page, "Save Image").locator(".badge")).to_contain_text("ran", timeout=120_000)
    times["killed, started, ended by itself"] = time.monotonic() - start

    start = time.monotonic()
    page.get_by_role("button", name="Templates").click()
    page.get_by_role("button", name="Four at once").click()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator(".node .picture img").first).to_be_visible(timeout=60_000)
    times["a template opened and run"] = time.monotonic() - start

    print({step: round(seconds, 2) for step, seconds in times.items()})
    page.context.close()
    assert faults == []


def drop(page: Page, name: str, content: bytes) -> None:
    page.evaluate(
        """([name, bytes]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
          const place = { clientX: 700, clientY: 400, cancelable: true };
          window.dispatchEvent(new DragEvent("drop", { dataTransfer: data, ...place }));
        }""",
        [name, list(content)],
    )
