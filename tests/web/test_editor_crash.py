"""The page in the face of reloads, lost connections and killed servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from engine.config import ROOT
from tests.e2e.server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.e2e]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "models").symlink_to(ROOT / "models")
    with ServerProcess(tmp_path) as process:
        yield process


def start_long_run(page: Page) -> None:
    sampler = page.get_by_role("group", name="KSampler")
    sampler.get_by_role("spinbutton", name="steps").fill("5000")
    page.keyboard.press("Control+Enter")
    expect(sampler.locator(".badge")).to_contain_text("/ 5000", timeout=240_000)


def opened(browser: Browser, server: ServerProcess) -> Page:
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.goto(server.url)
    page.wait_for_selector("body[data-ready]")
    return page


def test_reload_in_mid_run(page: Page) -> None:
    start_long_run(page)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    sampler = page.get_by_role("group", name="KSampler")
    expect(sampler.locator(".badge")).to_contain_text("/ 5000", timeout=60_000)
    expect(page.get_by_role("group", name="Load Checkpoint").locator(".badge")).not_to_be_empty()
    page.keyboard.press("Control+Alt+Enter")
    expect(page.locator(".top-bar")).not_to_have_class("top-bar running", timeout=60_000)


def test_server_killed_in_mid_run(chromium: Browser, own_server: ServerProcess) -> None:
    page = opened(chromium, own_server)
    page.get_by_role("textbox", name="text").first.fill("a white square on a green background")
    start_long_run(page)
    own_server.kill_everything()
    expect(page.locator(".connection")).to_have_attribute("data-state", "offline", timeout=60_000)
    expect(page.get_by_text("The connection to the server is lost.")).to_be_visible()
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_disabled()
    own_server.start()
    expect(page.locator(".connection")).to_have_attribute("data-state", "online", timeout=60_000)
    running = page.get_by_role("group", name="KSampler").locator(".badge")
    expect(running).to_contain_text("/ 5000", timeout=240_000)
    text = page.get_by_role("textbox", name="text").first
    expect(text).to_have_value("a white square on a green background")
    page.context.close()
