"""Looking into a finished run in real Chromium: sockets, steps."""

import pytest
from playwright.sync_api import Page, expect

from tests.web.test_editor import badge, node

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

SET_STEPS = """async (steps) => {
  const { setValue } = await import("./graph/document.js");
  const { store } = weft;
  const spec = store.get().specs.get("KSampler");
  store.edit("Steps", (now) => setValue(now, "3", spec, "steps", steps));
}"""


def run(page: Page, steps: int = 3) -> None:
    page.evaluate(SET_STEPS, steps)
    page.keyboard.press("Control+Enter")
    expect(badge(page, "Save Image")).to_contain_text("ran", timeout=60_000)


def test_a_socket_tells_what_it_holds_by_keyboard_and_by_pointer(page: Page) -> None:
    card = page.locator(".peek")
    socket = node(page, "VAE Decode").get_by_role("button", name="Output IMAGE")
    socket.hover()
    page.keyboard.press("i")
    expect(card).to_contain_text("not computed yet")
    run(page)
    expect(card).to_be_visible()  # it follows the run
    expect(card.get_by_role("img")).to_have_count(1, timeout=10_000)
    expect(card).to_contain_text("64 × 64")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()

    page.mouse.move(700, 850)
    page.evaluate("weft.store.emit('focusNode', { id: '3' })")
    page.keyboard.press("i")
    expect(card).to_have_accessible_name("Output KSampler · LATENT")
    expect(card.get_by_role("img")).to_have_count(4, timeout=10_000)
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
