"""The editor in real Chromium: edits by mouse and keyboard, runs, files, crashes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.server_process import ServerProcess
from tests.web.editor_page import (
    at_rest,
    badge,
    choose,
    dot,
    drag,
    drop_file,
    empty_ground,
    head,
    node,
    place,
    run,
    saved,
    saved_node,
)

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

CORPUS = Path(__file__).parent.parent / "fixtures" / "workflows"


# Running ------------------------------------------------------------------------------------------


def test_run_then_change_a_word(page: Page) -> None:
    page.get_by_role("button", name="Run", exact=True).click()
    expect(node(page, "Save Image").locator(".picture img")).to_be_visible(timeout=60_000)
    expect(badge(page, "Save Image")).to_contain_text("ran")
    page.get_by_role("textbox", name="text").first.fill("a green star on a black background")
    run(page)
    expect(badge(page, "Load Checkpoint")).to_have_text("cached", timeout=20_000)
    expect(badge(page, "Prompt")).to_have_attribute("title", "input text changed", timeout=20_000)
    expect(badge(page, "KSampler")).to_contain_text("ran", timeout=20_000)


def test_run_up_to_the_selected_node(page: Page) -> None:
    page.mouse.click(*head(page, "Negative prompt"))
    page.keyboard.press("Control+Alt+r")
    expect(badge(page, "Negative prompt")).not_to_be_empty(timeout=20_000)
    expect(badge(page, "Save Image")).to_be_hidden()


def test_problems_stand_on_their_nodes_and_inputs(page: Page) -> None:
    page.evaluate(
        """() => weft.store.edit("x", (d) => {
          const links = new Map([...d.links].filter(([, l]) => !(l.to === "8" && l.toSlot === 1)));
          const nodes = new Map(d.nodes);
          nodes.set("4", { ...nodes.get("4"), values: { ckpt_name: "gone.safetensors" } });
          return { ...d, links, nodes };
        })"""
    )
    run(page)
    expect(node(page, "VAE Decode").locator(".node-problem")).to_contain_text("missing")
    expect(node(page, "Load Checkpoint").locator(".node-problem")).to_contain_text("gone")
    choice = node(page, "Load Checkpoint").get_by_role("combobox")
    expect(choice).to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Problems").click()
    expect(page.locator(".side-body")).to_contain_text("gone.safetensors")


# Editing ------------------------------------------------------------------------------------------


def test_move_undo_redo(page: Page) -> None:
    start = place(page, "KSampler")
    x, y = head(page, "KSampler")
    drag(page, (x, y), (x + 60, y + 240))
    moved = place(page, "KSampler")
    assert moved[1] - start[1] > 200
    page.keyboard.press("Control+z")
    assert place(page, "KSampler") == start
    page.keyboard.press("Control+Shift+z")
    assert place(page, "KSampler") == moved


def test_typing_is_one_step(page: Page) -> None:
    text = page.get_by_role("textbox", name="text").first
    before = text.input_value()
    text.press("End")
    text.press_sequentially(" at night")
    node(page, "Prompt").focus()
    page.keyboard.press("Control+z")
    expect(text).to_have_value(before)


def test_link_dropped_on_the_ground_offers_what_fits(page: Page) -> None:
    x, y = dot(page, "VAE Decode", "Output IMAGE")
    drag(page, (x, y), (x - 40, y + 300))
    page.keyboard.type("invert")
    page.keyboard.press("Enter")
    expect(node(page, "Invert")).to_be_visible()
    links = saved(page)["links"]
    assert any(link[1] == 8 and link[3] == 10 for link in links), links


def test_links_can_be_pulled_off_and_put_on(page: Page) -> None:
    x, y = dot(page, "KSampler", "Input negative")
    drag(page, (x, y), (x - 20, y + 400))
    assert not any(link[3:5] == [3, 2] for link in saved(page)["links"])
    drag(page, dot(page, "Prompt", "Output CONDITIONING"), dot(page, "KSampler", "Input negative"))
    assert any(link[1] == 6 and link[3] == 3 and link[4] == 2 for link in saved(page)["links"])
    drag(page, dot(page, "VAE Decode", "Output IMAGE"), dot(page, "KSampler", "Input model"))
    assert not any(link[1] == 8 and link[3] == 3 for link in saved(page)["links"])


def test_search_by_double_click_and_delete(page: Page) -> None:
    page.mouse.dblclick(500, 820)
    expect(page.get_by_role("combobox", name="Add a node")).to_be_focused()
    page.keyboard.type("empty lat")
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="Empty Latent Image")).to_have_count(2)
    page.keyboard.press("Delete")
    expect(page.get_by_role("group", name="Empty Latent Image")).to_have_count(1)


def test_modes_group_colour_title(page: Page) -> None:
    page.mouse.click(*head(page, "KSampler"))
    page.keyboard.press("Control+m")
    assert saved_node(page, 3)["mode"] == 2
    page.keyboard.press("Control+b")
    assert saved_node(page, 3)["mode"] == 4
    page.keyboard.press("Control+b")
    page.keyboard.press("Alt+c")
    expect(node(page, "KSampler")).to_have_class(re.compile("collapsed"))
    page.keyboard.press("Alt+c")
    page.keyboard.press("p")
    page.keyboard.press("F2")
    page.keyboard.type("Sampler")
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_have_count(0)
    page.mouse.click(*head(page, "Sampler"))
    page.keyboard.press("Control+g")
    expect(page.get_by_role("dialog", name="New group")).to_be_visible()
    page.keyboard.type("Draw")
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_have_count(0)
    page.mouse.click(*head(page, "Sampler"), button="right")
    page.get_by_role("menuitem", name="Colour").click()
    page.get_by_role("menuitem", name="Green").click()
    file = saved(page)
    three = next(n for n in file["nodes"] if n["id"] == 3)
    assert (three["mode"], three["title"], three["flags"]) == (0, "Sampler", {"pinned": True})
    assert three["color"] and [g["title"] for g in file["groups"]] == ["Draw"]


def test_copies_keep_their_links_when_asked(page: Page) -> None:
    count = len(saved(page)["links"])
    page.mouse.click(*head(page, "KSampler"))
    page.keyboard.press("Control+c")
    page.mouse.move(700, 780)
    page.keyboard.press("Control+v")
    page.wait_for_function("() => weft.store.get().document.nodes.size === 8")
    assert (len(saved(page)["nodes"]), len(saved(page)["links"])) == (8, count)
    page.keyboard.press("Control+Shift+v")
    page.wait_for_function("() => weft.store.get().document.nodes.size === 9")
    assert (len(saved(page)["nodes"]), len(saved(page)["links"])) == (9, count + 4)


def test_box_selection_and_select_all(page: Page) -> None:
    page.keyboard.down("Control")
    drag(page, (90, 200), (400, 820))
    page.keyboard.up("Control")
    assert page.evaluate("weft.store.get().selection.size") >= 3
    empty_ground(page)
    page.keyboard.press("Control+a")
    assert page.evaluate("weft.store.get().selection.size") == 7


def test_seeds_of_64_bits(page: Page) -> None:
    seed = node(page, "KSampler").get_by_role("spinbutton", name="seed")
    seed.fill("18446744073709551615")
    seed.press("Tab")
    assert page.evaluate("String(weft.store.toPrompt()['3'].inputs.seed)") == "18446744073709551615"
    node(page, "KSampler").get_by_role("button", name="seed after each run").click()
    assert saved_control(page) == "increment"


def saved_control(page: Page) -> str:
    script = "weft.store.toFile().nodes.find((n) => n.id === 3).widgets_values[1]"
    return page.evaluate(script)


# By keyboard alone --------------------------------------------------------------------------------


def test_keyboard_only(page: Page) -> None:
    page.get_by_role("application").focus()
    page.keyboard.press("Enter")
    expect(node(page, "Load Checkpoint")).to_be_focused()
    page.keyboard.press("Tab")
    expect(node(page, "Prompt")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.keyboard.type("a blue square")
    page.keyboard.press("Escape")
    expect(node(page, "Prompt")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(node(page, "KSampler")).to_be_focused()
    page.keyboard.press("n")
    page.keyboard.type("preview image")
    page.keyboard.press("Enter")
    expect(node(page, "Preview Image")).to_be_focused()
    page.keyboard.press("l")
    page.keyboard.type("images")
    page.keyboard.press("Enter")
    choose(page, "Link to")
    page.keyboard.type("vae decode")
    page.keyboard.press("Enter")
    assert any(link[1] == 8 and link[3] == 10 for link in saved(page)["links"])
    assert page.evaluate("weft.store.toPrompt()['6'].inputs.text") == "a blue square"


# Files and crashes --------------------------------------------------------------------------------


def test_a_dropped_file_opens_in_a_tab_and_keeps_missing_nodes(page: Page) -> None:
    content = (CORPUS / "unknown_type.json").read_bytes()
    drop_file(page, "mine.json", "application/json", content)
    expect(page.get_by_role("tab", name="mine")).to_have_attribute("aria-selected", "true")
    expect(node(page, "Sharpen")).to_contain_text("")
    assert node(page, "Sharpen").get_attribute("data-note")
    before = next(n for n in json.loads(content)["nodes"] if n["id"] == 2)
    after = next(n for n in saved(page)["nodes"] if n["id"] == 2)
    assert after["widgets_values"] == before["widgets_values"]
    page.get_by_role("tab", name="First picture").click()
    expect(node(page, "KSampler")).to_be_visible()


def test_a_tab_switch_puts_the_other_tabs_fields_away_and_keeps_both_views(page: Page) -> None:
    at_rest(page)
    told = page.evaluate(
        """() => {
          const { store, scene } = weft;
          const first = store.get().tabId;
          const fields = [...document.querySelectorAll(".node .widget-input")];
          scene.setView({ x: 300, y: 200, scale: 0.8 });
          store.openNew();
          const left = fields.filter((field) => field.isConnected).length;
          scene.setView({ x: 7, y: 8, scale: 0.5 });
          const second = store.get().tabId;
          store.showTab(first);
          const back = scene.view;
          store.showTab(second);
          const other = scene.view;
          store.showTab(first);
          return { fields: fields.length, left, back, other };
        }"""
    )
    assert told["fields"] > 0 and told["left"] == 0
    assert told["back"] == {"x": 300, "y": 200, "scale": 0.8}
    assert told["other"] == {"x": 7, "y": 8, "scale": 0.5}


def test_what_is_typed_stays_with_its_workflow_when_another_is_dropped(page: Page) -> None:
    steps = node(page, "KSampler").get_by_role("spinbutton", name="steps")
    steps.fill("37")  # without Enter
    same = json.dumps(saved(page)).encode()
    drop_file(page, "other.json", "application/json", same)
    expect(page.get_by_role("tab", name="other")).to_have_attribute("aria-selected", "true")
    expect(steps).to_have_value("20")
    assert page.evaluate("weft.store.toPrompt()['3'].inputs.steps") == 20
    page.get_by_role("tab", name="First picture").click()
    expect(steps).to_have_value("37")


def test_a_sub_graph_opens_and_is_saved_unharmed(page: Page) -> None:
    content = json.loads((CORPUS / "subgraph.json").read_text())
    drop_file(page, "sub.json", "application/json", json.dumps(content).encode())
    expect(page.get_by_role("tab", name="sub")).to_be_visible()
    expect(page.get_by_role("tab", name="sub")).to_have_attribute("aria-selected", "true")
    assert saved(page)["definitions"] == content["definitions"]


def test_a_result_dropped_again_is_its_workflow(page: Page, server: ServerProcess) -> None:
    run(page)
    expect(badge(page, "Save Image")).not_to_be_empty(timeout=60_000)
    expect(node(page, "Save Image").locator(".picture img")).to_be_visible(timeout=20_000)
    outputs = (server.base / "output").glob("*.png")
    file = max(outputs, key=lambda path: path.stat().st_mtime_ns)
    drop_file(page, file.name, "image/png", file.read_bytes())
    expect(page.get_by_role("tab", name=file.stem)).to_be_visible()
    assert len(saved(page)["nodes"]) == 7


def test_unsaved_work_survives_a_reload(page: Page) -> None:
    page.get_by_role("textbox", name="text").first.fill("kept through a reload")
    page.wait_for_timeout(900)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    expect(page.get_by_role("textbox", name="text").first).to_have_value("kept through a reload")


def test_pictures_are_there_again_after_a_reload(page: Page) -> None:
    run(page)
    picture = node(page, "Save Image").locator(".picture img")
    expect(picture).to_be_visible(timeout=60_000)
    page.wait_for_timeout(700)
    page.reload()
    expect(picture).to_be_visible(timeout=10_000)


def test_what_a_closed_tab_left_unsaved_comes_back(page: Page, server: ServerProcess) -> None:
    page.get_by_role("textbox", name="text").first.fill("left behind")
    page.wait_for_timeout(900)
    other = page.context.new_page()
    page.close()
    other.goto(server.url)
    other.wait_for_selector("body[data-ready]")
    expect(other.get_by_role("textbox", name="text").first).to_have_value("left behind")


def test_nothing_becomes_html(page: Page) -> None:
    page.mouse.click(*head(page, "KSampler"))
    page.keyboard.press("F2")
    page.keyboard.type("<img src=x onerror=alert(1)>")
    page.keyboard.press("Enter")
    expect(node(page, "<img src=x")).to_be_visible()
    assert page.locator(".node-title img").count() == 0


def test_undo_in_a_field_undoes_the_step(page: Page) -> None:
    steps = node(page, "KSampler").get_by_role("spinbutton", name="steps")
    steps.fill("33")
    steps.press("Enter")
    steps.press("Control+z")
    expect(steps).to_have_value("20")


def test_a_fresh_tab_shows_what_ran_last(page: Page, server: ServerProcess, chromium: Any) -> None:
    page.get_by_role("textbox", name="text").first.fill("an orange circle on a white background")
    run(page)
    expect(node(page, "Save Image").locator(".picture img")).to_be_visible(timeout=60_000)
    fresh = chromium.new_context().new_page()
    fresh.goto(server.url)
    fresh.wait_for_selector("body[data-ready]")
    expect(fresh.get_by_role("textbox", name="text").first).to_have_value(
        "an orange circle on a white background"
    )
    expect(node(fresh, "Save Image").locator(".picture img")).to_be_visible(timeout=10_000)
    fresh.context.close()


def test_the_first_picture_stands_on_its_node(server: ServerProcess, chromium: Any) -> None:
    prompt = server.get("/weft/default_workflow")
    prompt["3"]["inputs"]["seed"] = 12
    server.run(prompt)
    fresh = chromium.new_context().new_page()
    fresh.goto(server.url)
    expect(node(fresh, "Save Image").locator(".picture img")).to_be_visible(timeout=10_000)
    fresh.context.close()
