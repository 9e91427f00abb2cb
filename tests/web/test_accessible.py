"""What everyone can see and reach: contrast in both themes, names, focus, no needless motion."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.web.editor_page import at_rest, badge, head, node, problem, run, show_panel

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
MOTION_ENDED = "Promise.allSettled(document.getAnimations().map((one) => one.finished))"
NAMES = (Path(__file__).parent / "names.js").read_text(encoding="utf-8")
PANELS = ("Workflows", "Templates", "Nodes", "Models", "Queue", "Gallery", "Problems")


def states(page: Page) -> Iterator[str]:
    """Bring the page from one main state to the next; gives what it shows."""
    page.get_by_role("spinbutton", name="steps").fill("2")
    run(page)
    expect(badge(page, "Save Image")).not_to_be_empty(timeout=100_000)
    at_rest(page)
    yield "a run that ended"
    for panel in PANELS:
        show_panel(page, panel)
        page.wait_for_load_state("networkidle")
        yield panel
    page.evaluate(
        """() => weft.store.edit("x", (d) => {
          const nodes = new Map(d.nodes);
          nodes.set("4", { ...nodes.get("4"), values: { ckpt_name: "gone.safetensors" } });
          nodes.set("5", { ...nodes.get("5"), color: "#2d6142", bgcolor: "#21402e" });
          nodes.set("6", { ...nodes.get("6"), mode: 2 });
          nodes.set("7", { ...nodes.get("7"), mode: 4 });
          return { ...d, nodes };
        })"""
    )
    run(page)
    expect(problem(page, "Load Checkpoint")).to_be_visible()
    yield "problems, colours, muted and bypassed nodes"
    page.mouse.click(*head(page, "KSampler"), button="right")
    expect(page.get_by_role("menu")).to_be_visible()
    yield "a menu"
    page.keyboard.press("Escape")
    for keys in ("Control+Shift+P", "Control+Shift+K", "Control+,", "Control+Shift+B"):
        page.keyboard.press(keys)
        expect(page.locator("dialog[open]")).to_have_count(1)
        yield f"the dialog of {keys}"
        page.keyboard.press("Escape")
        expect(page.locator("dialog[open]")).to_have_count(0)
    page.mouse.dblclick(*free_ground(page))
    expect(page.locator("dialog[open]")).to_have_count(1)
    yield "the search"
    page.keyboard.press("Escape")


def free_ground(page: Page) -> tuple[float, float]:
    box = page.get_by_role("application").bounding_box()
    assert box
    return box["x"] + 40, box["y"] + box["height"] - 30


@pytest.mark.timeout(300)
def test_texts_stand_out_and_all_is_named_in_both_themes(page: Page) -> None:
    found: list[str] = []
    for state in states(page):
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            page.evaluate(MOTION_ENDED)
            told: dict[str, Any] = page.evaluate(CONTRAST)
            assert told["count"] > 20
            found += [f"{theme}, {state}: {one}" for one in told["weak"]]
        named: dict[str, Any] = page.evaluate(NAMES)
        assert named["count"] > 20
        found += [f"{state}: no name: {one}" for one in named["nameless"]]
    assert not found, "\n".join(sorted(set(found)))


def test_sockets_and_widgets_say_what_they_are(page: Page) -> None:
    sampler = node(page, "KSampler")
    expect(sampler.get_by_role("button", name="Input model, MODEL, from")).to_have_count(1)
    expect(sampler.get_by_role("button", name="Output LATENT, LATENT")).to_have_count(1)
    for name in ("seed", "steps", "cfg", "denoise"):
        expect(sampler.get_by_role("spinbutton", name=name)).to_have_count(1)
    expect(sampler.get_by_role("combobox", name="sampler name")).to_have_count(1)


FOCUS = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  const style = getComputedStyle(at);
  const box = at.getBoundingClientRect();
  const hasRing = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
  return {
    name: at.getAttribute("aria-label") || at.textContent.trim().slice(0, 40) || at.tagName,
    hasRing,
    isSeen: box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight,
  };
}"""


def test_the_focus_is_seen_wherever_tab_goes(page: Page) -> None:
    at_rest(page)
    names: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        told = page.evaluate(FOCUS)
        if told is None:
            break
        assert told["hasRing"], f"no ring on {told['name']}"
        assert told["isSeen"], f"out of sight: {told['name']}"
        names.append(told["name"])
    assert {"Run", "Queue", "Settings (Ctrl+,)"} <= set(names), names
    assert page.evaluate("[document.querySelector('.stage').scrollTop, scrollY]") == [0, 0]


MOVING = """() => [...document.querySelectorAll("*")].filter((one) => {
  const style = getComputedStyle(one);
  const longest = (times) => Math.max(...times.split(",").map((time) => parseFloat(time)));
  const moves = style.animationName !== "none" && longest(style.animationDuration) > 0;
  return moves || longest(style.transitionDuration) > 0;
}).map((one) => one.outerHTML.slice(0, 80))"""


def test_nothing_moves_for_who_wants_it_still(page: Page) -> None:
    show_panel(page, "Templates")
    page.evaluate("weft.context.notices.toast('Told.')")
    page.evaluate("weft.context.notices.connection(false)")
    expect(page.locator(".banner")).to_be_visible()
    assert page.evaluate(MOVING)
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(MOVING) == []


def test_progress_is_told_aloud(page: Page) -> None:
    live = page.locator(".unseen[aria-live=polite]")
    steps = node(page, "KSampler").get_by_role("spinbutton", name="steps")
    steps.fill("60")
    node(page, "KSampler").get_by_role("spinbutton", name="seed").fill("4711")
    page.evaluate(
        """() => {
          window.told = [];
          const live = document.querySelector(".unseen[aria-live=polite]");
          new MutationObserver(() => told.push(live.textContent)).observe(live, {
            childList: true, characterData: true, subtree: true });
        }"""
    )
    run(page)
    expect(live).to_contain_text("Done", timeout=60_000)
    told = page.evaluate("told")
    assert told[0] == "Queued." and any(words.startswith("Step ") for words in told), told


def test_a_selected_node_is_seen_to_be_selected(page: Page) -> None:
    page.mouse.click(*head(page, "KSampler"))
    page.mouse.move(5, 500)
    shadow = "(one) => getComputedStyle(one).boxShadow.split(' 0px 0px 0px ')"
    accent = page.evaluate("weft.scene.theme.accent")
    assert node(page, "KSampler").evaluate(shadow)[0] == accent
    assert node(page, "VAE Decode").evaluate(shadow)[0] == page.evaluate("weft.scene.theme.line")


def test_nodes_too_small_to_have_elements_are_not_in_the_tab_order(page: Page) -> None:
    node(page, "KSampler").get_by_role("spinbutton", name="steps").focus()
    inside = "document.querySelector('.nodes').contains(document.activeElement)"
    page.evaluate("weft.scene.setView({ x: -2000, y: -2000, scale: 0.2 })")
    at_rest(page)
    stage = page.get_by_role("application")
    expect(stage).to_be_focused()
    page.keyboard.press("Tab")
    assert not page.evaluate(inside)
    page.keyboard.press("Shift+Tab")
    expect(stage).to_be_focused()
    page.keyboard.press("ArrowRight")  # goes to a node, which is near then
    at_rest(page)
    assert page.evaluate(inside)
    assert page.evaluate("weft.scene.view.scale") >= 0.4
