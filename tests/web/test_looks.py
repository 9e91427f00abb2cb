"""Looking into a finished run in real Chromium: sockets, steps."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.web.editor_page import badge, node

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

ENDED = re.compile("ran|cached")
SET = """async ([name, value]) => {
  const { setValue } = await import("./graph/document.js");
  const { store } = weft;
  const spec = store.get().specs.get("KSampler");
  store.edit(name, (now) => setValue(now, "3", spec, name, value));
}"""


def run(page: Page, steps: int = 3) -> None:
    page.evaluate(SET, ["steps", steps])
    page.keyboard.press("Control+Enter")
    expect(badge(page, "Save Image")).to_have_text(ENDED, timeout=90_000)


def test_a_socket_tells_what_it_holds_by_keyboard_and_by_pointer(page: Page) -> None:
    page.evaluate(SET, ["seed", 202])  # nobody else's
    card = page.locator(".peek")
    socket = node(page, "VAE Decode").get_by_role("button", name="Output IMAGE")
    socket.hover()
    page.keyboard.press("i")
    expect(card).to_contain_text("not computed yet")
    run(page)
    expect(card).to_be_visible()  # it follows the run
    expect(card.get_by_role("img")).to_have_count(1, timeout=60_000)
    expect(card).to_contain_text("64 × 64")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()

    page.mouse.move(700, 850)
    page.evaluate("weft.store.emit('focusNode', { id: '3' })")
    page.keyboard.press("i")
    expect(card).to_have_accessible_name("Output KSampler · LATENT")
    expect(card.get_by_role("img")).to_have_count(4, timeout=60_000)
    page.keyboard.press("ArrowRight")
    expect(card).to_have_accessible_name("Input KSampler · model")
    expect(card).to_contain_text("weft-builtin.safetensors")
    page.keyboard.press("Escape")
    expect(node(page, "KSampler")).to_be_focused()

    socket.hover()
    page.keyboard.down("Alt")
    expect(card).to_be_visible()
    page.keyboard.up("Alt")
    expect(card).to_be_hidden()


def test_each_step_of_a_sampler_can_be_seen_after_the_run_and_after_a_reload(page: Page) -> None:
    run(page, 6)
    steps = node(page, "KSampler").get_by_role("button", name="The picture at each step")
    for is_again in (False, True):
        steps.click()
        slider = node(page, "KSampler").get_by_role("slider", name="Step")
        expect(slider).to_be_focused()
        expect(slider).to_have_attribute("aria-valuetext", "step 6 of 6")
        picture = node(page, "KSampler").locator(".film-picture")
        last = picture.get_attribute("src")
        page.keyboard.press("ArrowLeft")
        expect(picture).to_have_attribute("alt", "Preview at step 5")
        assert picture.get_attribute("src") != last
        page.wait_for_function("() => document.querySelector('.film-picture').naturalWidth > 0")
        if not is_again:
            page.reload()
            page.wait_for_selector("body[data-ready]")


def test_a_page_of_another_browser_follows_a_run_that_it_did_not_queue(
    page: Page, chromium: Browser
) -> None:
    other = chromium.new_context().new_page()
    run(page)
    other.goto(page.url)  # shows what ran last, as a fresh browser
    expect(badge(other, "Save Image")).to_have_text(ENDED, timeout=60_000)
    expect(node(other, "Save Image").locator(".pictures img")).to_be_visible()
    page.evaluate(SET, ["steps", 5000])
    page.keyboard.press("Control+Enter")
    expect(badge(other, "KSampler")).to_contain_text("/ 5000", timeout=60_000)
    fresh = chromium.new_context().new_page()  # a third one, in mid-run
    fresh.goto(page.url)
    expect(badge(fresh, "KSampler")).to_contain_text("/ 5000", timeout=60_000)
    fresh.keyboard.press("Control+Alt+Enter")
    for seen in (page, other, fresh):
        expect(badge(seen, "KSampler")).not_to_contain_text("/ 5000", timeout=60_000)
    other.context.close()
    fresh.context.close()


def test_keys_reach_the_canvas_after_a_dialog_and_after_a_node_was_folded(page: Page) -> None:
    node(page, "KSampler").locator(".node-head").click(position={"x": 90, "y": 12})
    page.keyboard.press("Alt+c")
    expect(node(page, "KSampler")).to_have_class(re.compile("collapsed"))
    expect(node(page, "KSampler")).to_be_focused()
    page.evaluate("document.activeElement.blur()")  # nothing has the focus
    page.keyboard.press("F2")
    expect(page.get_by_role("dialog", name="Rename the node")).to_be_visible()
    page.keyboard.type("Sampler")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+g")
    expect(page.get_by_role("dialog", name="New group")).to_be_visible()
    page.keyboard.press("Escape")


def test_a_prompt_tells_how_many_tokens_it_has(page: Page) -> None:
    field = node(page, "Negative prompt").get_by_role("textbox")
    field.fill("a (red circle:1.3)")
    expect(node(page, "Negative prompt").locator(".token-count")).to_have_text("3 / 75")
    field.fill("blurry, low quality, " * 18)
    expect(node(page, "Negative prompt").locator(".token-count")).to_have_text("75 + 15")
    field.fill("")
    expect(node(page, "Negative prompt").locator(".token-count")).to_be_hidden()
