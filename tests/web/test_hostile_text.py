"""Text from workflows, files and the server never becomes HTML; the page runs its own code only."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from engine.run.settings import SHIPPED_CHECKPOINTS
from tests.e2e.server_process import ServerProcess
from tests.web.editor_page import at_rest, drop_file, open_workflow, run, saved, show_panel

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

EVIL = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>"
FILE = "<img src=x onerror=window.pwned=1>"  # a file's name has no slash

WATCH = """() => {
  window.refused = [];
  addEventListener("securitypolicyviolation", (event) => refused.push(event.violatedDirective));
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    base: Path = tmp_path_factory.mktemp("hostile")
    models = base / "models" / "checkpoints"
    models.mkdir(parents=True)
    whole = SHIPPED_CHECKPOINTS / "weft-builtin.safetensors"
    (models / "weft-builtin.safetensors").symlink_to(whole)
    (models / f"{FILE}.safetensors").write_bytes(b"not a model")
    with ServerProcess(base) as process:
        yield process


def assert_harmless(page: Page) -> None:
    assert page.evaluate("window.pwned") is None
    assert page.locator("[onerror], img[src='x'], body script").count() == 0
    assert page.evaluate("window.refused") == []


@pytest.mark.timeout(300)
def test_hostile_words_stay_words_everywhere(page: Page, server: ServerProcess) -> None:
    page.evaluate(WATCH)
    workflow = saved(page)
    for one in workflow["nodes"]:
        one["title"] = EVIL
        one["properties"] = {"Node name for S&R": EVIL}
    workflow["nodes"] += [
        {"id": 90, "type": "Note", "pos": [0, 700], "title": EVIL, "widgets_values": [EVIL]},
        {"id": 91, "type": EVIL, "pos": [300, 700], "inputs": [{"name": EVIL, "type": EVIL}]},
    ]
    workflow["groups"] = [{"title": EVIL, "bounding": [0, 0, 400, 300], "color": EVIL}]
    open_workflow(page, workflow, "evil")
    expect(page.get_by_role("group", name=EVIL).first).to_be_visible()
    page.evaluate("(name) => weft.store.rename(name)", EVIL)
    expect(page.get_by_role("tab").last).to_contain_text(EVIL)
    run(page)  # refused: the unknown type is named in the errors
    show_panel(page, "Problems")
    expect(page.locator(".problem").first).to_contain_text("onerror")
    expect(page.locator(".toast").last).to_be_visible()
    assert_harmless(page)

    page.evaluate("weft.commands.run('file.default')")
    expect(page.get_by_role("tab", name="First picture").last).to_have_attribute(
        "aria-selected", "true"
    )
    at_rest(page)
    page.get_by_role("textbox", name="text").first.fill(EVIL)
    page.get_by_role("spinbutton", name="steps").fill("1")
    run(page)
    show_panel(page, "Gallery")
    expect(page.locator(".thumb img").first).to_be_visible(timeout=100_000)
    page.locator(".thumb").first.click()
    expect(page.locator(".viewer-image")).to_be_visible()
    page.keyboard.press("Escape")
    show_panel(page, "Queue")
    show_panel(page, "Models")
    expect(page.locator(".model", has_text="onerror")).to_be_visible()
    assert_harmless(page)

    server.call("POST", f"/userdata/{quote(f'workflows/{FILE}.json', safe='')}", b"{}")
    show_panel(page, "Workflows")
    expect(page.locator(".file-name", has_text="onerror")).to_be_visible()
    drop_file(page, f"{FILE}.json", "application/json", b"{ broken")
    expect(page.locator(".toast.bad").last).to_contain_text("onerror")
    drop_file(page, f"{FILE}.txt", "text/plain", EVIL.encode())
    page.keyboard.press("Control+Shift+P")
    page.keyboard.type(EVIL)
    assert_harmless(page)
    page.keyboard.press("Escape")


def test_the_policy_refuses_foreign_code(page: Page, server: ServerProcess) -> None:
    page.evaluate(WATCH)
    page.evaluate(
        """() => {
          const inline = document.createElement("script");
          inline.textContent = "window.pwned = 1";
          const foreign = document.createElement("script");
          foreign.src = "https://example.invalid/x.js";
          const styled = document.createElement("p");
          styled.setAttribute("style", "color: red");
          const button = document.createElement("button");
          button.setAttribute("onclick", "window.pwned = 1");
          document.body.append(inline, foreign, styled, button);
          button.click();
          inline.remove(), foreign.remove(), styled.remove(), button.remove();
        }"""
    )
    page.wait_for_function("() => refused.length >= 4")
    assert page.evaluate("window.pwned") is None
    page.evaluate("() => void setTimeout('window.pwned = 1', 0)")
    page.wait_for_function("() => refused.includes('script-src')")
    assert page.evaluate("window.pwned") is None
    refused = set(page.evaluate("refused"))
    assert {"script-src-elem", "script-src-attr", "style-src-attr"} <= refused, refused
