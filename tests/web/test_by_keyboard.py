"""A workflow built and run without a mouse, and what every user of a keyboard needs to see."""

import pytest
from playwright.sync_api import Page, expect

from tests.web.editor_page import choose, node, run

pytestmark = [pytest.mark.browser, pytest.mark.e2e]


def test_a_workflow_is_built_and_run(page: Page) -> None:
    keys = page.keyboard
    keys.press("Alt+n")
    expect(page.get_by_role("tab", name="New workflow")).to_have_attribute("aria-selected", "true")
    keys.press("n")
    expect(page.get_by_role("combobox", name="Add a node")).to_be_focused()
    keys.type("empty image")
    keys.press("Enter")
    expect(node(page, "EmptyImage")).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_role("spinbutton", name="width")).to_be_focused()
    keys.type("64")
    keys.press("Tab")
    keys.press("Escape")
    expect(node(page, "EmptyImage")).to_be_focused()
    keys.press("l")
    keys.type("output image")
    keys.press("Enter")
    choose(page, "Add a node after it")
    expect(page.get_by_role("combobox", name="Nodes for IMAGE")).to_be_focused()
    keys.type("save image")
    keys.press("Enter")
    expect(node(page, "Save Image")).to_be_focused()
    run(page)
    expect(node(page, "Save Image").locator(".picture img")).to_be_visible(timeout=30_000)
    expect(page.locator("[role=status].unseen")).to_contain_text("Done")
    prompt = page.evaluate("JSON.parse(JSON.stringify(weft.store.toPrompt()))")
    assert prompt["1"]["inputs"]["width"] == 64 and prompt["2"]["inputs"]["images"] == ["1", 0]
