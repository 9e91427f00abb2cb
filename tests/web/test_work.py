"""Everyday work in real Chromium: queue, notes, overview, alignment, two tabs, large graphs."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.server_process import ServerProcess
from tests.web.editor_page import (
    at_rest,
    command,
    drag,
    empty_ground,
    head,
    node,
    place,
    run,
    saved,
    saved_node,
    show_panel,
)

pytestmark = [pytest.mark.browser, pytest.mark.e2e]


def waiting(server: ServerProcess) -> list[Any]:
    return server.get("/queue")["queue_pending"]


def test_a_batch_counts_its_seeds_and_is_sorted_by_dragging(
    page: Page, server: ServerProcess
) -> None:
    node(page, "KSampler").get_by_role("button", name="seed after each run").click()
    show_panel(page, "Queue")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused: nothing new is started.")).to_be_visible()
    page.get_by_label("How many times").fill("3")
    page.get_by_label("How many times").press("Tab")
    run(page)
    rows = page.locator(".job")
    expect(rows).to_have_count(3)
    seeds = [job[2]["3"]["inputs"]["seed"] for job in waiting(server)]
    assert seeds == [seeds[0], seeds[0] + 1, seeds[0] + 2]
    first, second, third = (job[1] for job in waiting(server))
    rows.nth(2).drag_to(rows.nth(0))
    expect(rows.nth(0)).to_have_attribute("data-key", third)
    assert [job[1] for job in waiting(server)] == [third, first, second]
    page.get_by_role("button", name="Cancel all that wait").click()
    expect(page.get_by_text("Nothing runs or waits.")).to_be_visible()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_a_note_is_kept_and_not_run(page: Page) -> None:
    before = page.evaluate("JSON.stringify(weft.store.toPrompt())")
    page.mouse.click(500, 820, button="right")
    page.get_by_role("menuitem", name="Add a note").click()
    note = node(page, "Note")
    expect(note).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("Warm light\nfrom the left")
    page.keyboard.press("Escape")
    kept = next(one for one in saved(page)["nodes"] if one["type"] == "Note")
    assert kept["widgets_values"] == ["Warm light\nfrom the left"]
    assert page.evaluate("JSON.stringify(weft.store.toPrompt())") == before


def test_the_overview_goes_where_it_is_clicked(page: Page) -> None:
    overview = page.get_by_role("img", name="Overview of the workflow")
    expect(overview).to_be_visible()
    page.evaluate("weft.scene.setView({ x: 0, y: 0, scale: 1 })")
    page.wait_for_timeout(200)  # the overview is drawn at most every 80 ms
    overview.click(position={"x": 190, "y": 65})
    right = page.evaluate("weft.scene.view.x")
    overview.click(position={"x": 10, "y": 65})
    left = page.evaluate("weft.scene.view.x")
    assert right - left > 500
    page.keyboard.press("Alt+m")
    expect(overview).to_be_hidden()
    page.keyboard.press("Alt+m")
    expect(overview).to_be_visible()


def test_nodes_snap_to_their_neighbours_and_not_with_control(page: Page) -> None:
    x, y = head(page, "Empty Latent Image")
    left = place(page, "Load Checkpoint")[0] - place(page, "Empty Latent Image")[0]
    down = 300
    drag(page, (x, y), (x + left + 4, y + down))
    nodes = {one["type"]: one for one in saved(page)["nodes"]}
    snapped = nodes["EmptyLatentImage"]["pos"]
    assert snapped[0] == nodes["CheckpointLoaderSimple"]["pos"][0]
    page.keyboard.press("Control+z")
    x, y = head(page, "Empty Latent Image")
    page.mouse.move(x, y)
    page.mouse.down()
    page.keyboard.down("Control")
    page.mouse.move(x + left + 4, y + down, steps=6)
    page.mouse.up()
    page.keyboard.up("Control")
    free = next(one for one in saved(page)["nodes"] if one["type"] == "EmptyLatentImage")["pos"]
    assert free[0] != snapped[0] and abs(free[0] - snapped[0]) < 8


def test_align_and_stack(page: Page) -> None:
    page.mouse.click(*head(page, "VAE Decode"))
    page.keyboard.down("Shift")
    page.mouse.click(*head(page, "KSampler"))
    page.keyboard.up("Shift")
    command(page, "align left")
    assert saved_node(page, 8)["pos"][0] == saved_node(page, 3)["pos"][0]
    command(page, "stack in a column")
    sampler, decode = saved_node(page, 3), saved_node(page, 8)
    upper, lower = sorted((sampler, decode), key=lambda one: one["pos"][1])
    assert lower["pos"][1] >= upper["pos"][1] + 30
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert saved_node(page, 8)["pos"] != decode["pos"]


def test_a_group_moves_with_what_is_in_it(page: Page) -> None:
    page.mouse.click(*head(page, "Empty Latent Image"))
    page.keyboard.press("Control+g")
    expect(page.get_by_role("dialog", name="New group")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_have_count(0)
    before = saved(page)
    at_rest(page)
    x, y = page.evaluate(
        "() => { const [x, y] = weft.store.get().document.groups[0].bounding;"
        " return weft.scene.onScreen(x + 60, y + 14); }"
    )
    drag(page, (x, y), (x + 90, y + 60))
    after = saved(page)
    moved = [a - b for a, b in zip(after["groups"][0]["bounding"], before["groups"][0]["bounding"])]
    old, new = (next(n for n in f["nodes"] if n["id"] == 5)["pos"] for f in (before, after))
    assert moved[0] > 60 and [new[0] - old[0], new[1] - old[1]] == moved[:2]
    page.keyboard.press("Control+z")
    assert saved(page)["groups"] == before["groups"]


def test_two_tabs_do_not_overwrite_each_other(
    page: Page, server: ServerProcess, chromium: Browser
) -> None:
    def steps(where: Page, value: str) -> None:
        field = node(where, "KSampler").get_by_role("spinbutton", name="steps")
        field.fill(value)
        field.press("Enter")

    def file_steps() -> int:
        file = server.get("/userdata/workflows%2Fboth.json")
        return next(n for n in file["nodes"] if n["id"] == 3)["widgets_values"][2]

    page.keyboard.press("Control+Shift+s")
    page.get_by_role("dialog", name="Save workflow").get_by_label("Name").fill("both")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Saved both.")).to_be_visible()
    other = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
    other.goto(server.url)
    other.wait_for_selector("body[data-ready]")
    show_panel(other, "Workflows")
    other.get_by_role("button", name="both", exact=False).first.click()
    expect(other.get_by_role("tab", name="both")).to_have_attribute("aria-selected", "true")
    steps(other, "31")
    other.keyboard.press("Control+s")
    expect(other.get_by_text("Saved both.")).to_be_visible()
    assert file_steps() == 31
    steps(page, "32")
    page.keyboard.press("Control+s")
    question = page.get_by_role("dialog", name="Changed elsewhere")
    expect(question).to_be_visible()
    question.get_by_role("button", name="Cancel").click()
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert file_steps() == 31
    page.keyboard.press("Control+s")
    question.get_by_role("button", name="Replace").click()
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.get_by_role("tab", name="both")).not_to_contain_text("•")
    assert file_steps() == 32
    other.context.close()


LARGE = """() => {
  const { store } = weft;
  const types = ["KSampler", "CLIPTextEncode", "VAEDecode", "CheckpointLoaderSimple"];
  const nodes = Array.from({ length: 2000 }, (_, at) => ({
    id: at + 1, type: types[at % 4], pos: [Math.floor(at / 40) * 420, (at % 40) * 380],
  }));
  store.load({ nodes, links: [], version: 0.4 }, { name: "large", isSaved: false });
  weft.scene.setView({ x: 0, y: -60, scale: 1 });
}"""


def test_2000_nodes_are_edited_undone_and_there_after_a_reload(page: Page) -> None:
    page.evaluate(LARGE)
    at_rest(page)
    assert 4 < page.evaluate("weft.scene.counts().views") < 60
    text = page.get_by_role("textbox", name="text").first
    text.fill("one of many")
    node(page, "CLIP Text Encode").focus()
    page.keyboard.press("Control+z")
    expect(text).to_have_value("")
    page.keyboard.press("Control+y")
    empty_ground(page)
    page.keyboard.press(".")
    at_rest(page)
    assert page.evaluate("weft.scene.view.scale") < 0.1
    page.wait_for_timeout(900)  # the journal writes half a second after a change
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert len(saved(page)["nodes"]) == 2000
    assert saved_node(page, 2)["widgets_values"] == ["one of many"]
