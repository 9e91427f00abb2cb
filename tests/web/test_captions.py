"""Pictures to train on: selected, captioned by keyboard, saved; and two windows at once."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from engine.diffusion.training.dataset import denoiser_scenes
from engine.diffusion.training.shapes_world.drawing import render
from tests.e2e.server_process import ServerProcess

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/png" }));
  const node = [...document.querySelectorAll(".node")].at(-1).querySelector(".node-head");
  node.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""


def picture(number: int) -> FilePayload:
    file = io.BytesIO()
    Image.fromarray(render(denoiser_scenes(number + 1, seed=5)[number], 128)).save(file, "PNG")
    return {"name": f"shape-{number}.png", "mimeType": "image/png", "buffer": file.getvalue()}


def add_loader(page: Page) -> None:
    """Add a Load Dataset node by keyboard."""
    page.locator("[role=application]").focus()
    page.keyboard.press("n")
    page.keyboard.type("Load Dataset")
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="Load Dataset, node").first).to_be_visible()


def open_captions(page: Page) -> Locator:
    page.get_by_role("button", name="Select pictures and write captions").last.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Pictures to train on")).to_be_visible()
    return page.locator(".dialog[open] output")


def name_dataset(page: Page, name: str) -> None:
    page.get_by_label("Name of the dataset").fill(name)
    page.keyboard.press("Enter")


def captions(folder: Path) -> dict[str, str]:
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["file_name"]: row["text"] for row in map(json.loads, lines)}


def test_pictures_are_selected_captioned_and_saved_by_keyboard(
    page: Page, server: ServerProcess
) -> None:
    folder = server.base / "input" / "datasets" / "my shapes"
    add_loader(page)
    told = open_captions(page)
    name_dataset(page, "my shapes")
    page.locator(".dialog input[type=file]").set_input_files([picture(n) for n in range(4)])
    expect(page.locator(".caption-row")).to_have_count(4)
    expect(page.get_by_label("Caption of shape-0.png")).to_be_focused()
    page.keyboard.type("a red <b>circle</b>")
    page.keyboard.press("Tab")
    page.keyboard.type("two squares")
    expect(told).to_have_text("2 changed, not saved · 2 without a caption")
    page.keyboard.press("Control+s")
    expect(told).to_have_text("Saved.")
    assert captions(folder) == {"shape-0.png": "a red <b>circle</b>", "shape-1.png": "two squares"}
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    chosen = page.get_by_role("group", name="Load Dataset").get_by_label("folder")
    expect(chosen.locator("option:checked")).to_have_text("my shapes")
    page.evaluate(DROP, ["dropped.png", base64.b64encode(picture(5)["buffer"]).decode()])
    expect(page.get_by_label("Caption of dropped.png")).to_be_visible()
    assert (folder / "dropped.png").is_file()
    assert captions(folder)["shape-1.png"] == "two squares"


def test_two_windows_do_not_overwrite_each_other(
    page: Page, chromium: Browser, server: ServerProcess
) -> None:
    folder = server.base / "input" / "datasets" / "pair"
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"{number}.png").write_bytes(picture(number)["buffer"])
    other = chromium.new_context().new_page()
    other.goto(server.url)
    other.wait_for_selector("body[data-ready]")
    tellings: list[Locator] = []
    for window in (page, other):
        add_loader(window)
        tellings.append(open_captions(window))
        name_dataset(window, "pair")
        expect(window.locator(".caption-row")).to_have_count(2)
    other.get_by_label("Caption of 0.png").fill("theirs")
    other.keyboard.press("Control+Enter")
    expect(tellings[1]).to_have_text("Saved.")
    other.context.close()
    page.get_by_label("Caption of 0.png").fill("mine")
    page.get_by_label("Caption of 1.png").fill("second")
    page.keyboard.press("Control+Enter")
    expect(tellings[0]).to_contain_text("Not saved: one was changed elsewhere")
    expect(page.locator(".caption-elsewhere").first).to_have_text("Saved elsewhere: theirs")
    assert captions(folder) == {"0.png": "theirs"}
    expect(page.get_by_label("Caption of 0.png")).to_have_value("mine")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    told = open_captions(page)
    name_dataset(page, "pair")
    expect(page.get_by_label("Caption of 1.png")).to_have_value("second")
    page.keyboard.press("Control+s")
    expect(told).to_have_text("Saved.")
    assert captions(folder) == {"0.png": "mine", "1.png": "second"}
