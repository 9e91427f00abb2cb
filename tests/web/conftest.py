"""A server with the built-in model and a real Chromium, for the tests of the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright import sync_api as playwright

from engine.config import ROOT
from tests.e2e.server_process import ServerProcess

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# What is waited for comes at once on a quiet machine; a busy one fails no test by it.
playwright.expect.set_options(timeout=20_000)

# Without what earlier tests ran last.
FRESH = """async () => {
  const { store, commands } = weft;
  const before = store.get().tabs.map((tab) => tab.id);
  await commands.run("file.default");
  for (const id of before) store.closeTab(id);
}"""


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A running server for all files; its folder holds the built-in model."""
    base: Path = tmp_path_factory.mktemp("page")
    (base / "models").symlink_to(ROOT / "models")
    with ServerProcess(base) as process:
        yield process


@pytest.fixture(scope="package")
def chromium() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: playwright.Browser, server: ServerProcess) -> Iterator[playwright.Page]:
    """The editor with the default workflow; the test fails when the page throws."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.wait_for_selector("body[data-ready]")
    page.evaluate(FRESH)
    yield page
    context.close()
    assert not errors, errors
