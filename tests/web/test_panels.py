"""The panels and overlays in a real browser, over a real server and the built-in model."""

import re
import struct
import zlib

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.server_process import ServerProcess

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

PARAMETERS = (
    "a red circle on a blue background\nNegative prompt: green\n"
    "Steps: 4, Sampler: Euler a, CFG scale: 4, Seed: 12, Size: 64x64, "
    "Model: not_here, Version: v1.9"
)


def show_panel(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Panels").get_by_role("button", name=name).click()
    expect(page.get_by_role("complementary", name=name)).to_be_visible()


def run_workflow(page: Page) -> None:
    page.keyboard.press("Control+Enter")


def set_values(page: Page, **values: object) -> None:
    """Change inputs of the sampler and the latent of the shown workflow."""
    for label, value in values.items():
        field = page.get_by_label(re.compile(f"^{label}")).first
        field.fill(str(value))
        field.press("Enter")


def png_with(text: str) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"tEXt", b"parameters\0" + text.encode())
        + chunk(b"IDAT", zlib.compress(b"\0\0"))
        + chunk(b"IEND", b"")
    )


def pause_with_jobs(page: Page, count: int) -> None:
    show_panel(page, "Queue")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused: nothing new is started.")).to_be_visible()
    page.get_by_label("How many times").fill(str(count))
    page.get_by_label("How many times").press("Tab")
    run_workflow(page)
    expect(page.locator(".job")).to_have_count(count)


def test_queue_order_cancel_and_pause_by_keyboard(page: Page, server: ServerProcess) -> None:
    pause_with_jobs(page, 3)
    before = [job[1] for job in server.get("/queue")["queue_pending"]]
    rows = page.locator(".job")
    rows.nth(2).focus()
    page.keyboard.press("Alt+ArrowUp")
    expect(rows.nth(1)).to_have_attribute("data-key", before[2])
    after = [job[1] for job in server.get("/queue")["queue_pending"]]
    assert after == [before[0], before[2], before[1]]
    rows.nth(0).focus()
    page.keyboard.press("Delete")
    expect(rows).to_have_count(2)
    page.reload()
    expect(page.locator(".job")).to_have_count(2)  # the panel stays open, the queue is the server's
    page.get_by_role("button", name="Cancel all that wait").click()
    expect(page.get_by_text("Nothing runs or waits.")).to_be_visible()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_gallery_big_view_compare_load_and_run_again(page: Page, server: ServerProcess) -> None:
    for seed in (1, 2):
        set_values(page, steps=2, seed=seed)
        run_workflow(page)
        page.wait_for_timeout(200)
    show_panel(page, "Gallery")
    thumbs = page.locator(".thumb img")
    expect(thumbs.nth(1)).to_be_visible(timeout=30_000)
    page.locator(".thumb").nth(0).click()
    big = page.locator(".viewer-image")
    expect(big).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Compare").click()
    page.locator(".thumb").nth(0).click()
    page.locator(".thumb").nth(1).click()
    slider = page.get_by_role("slider", name="How much of the first picture is seen")
    slider.fill("20")
    top = page.locator(".compare-top")
    assert "80%" in top.evaluate("(e) => getComputedStyle(e).clipPath")
    page.keyboard.press("Escape")
    tabs = page.get_by_role("tab")
    before = tabs.count()
    page.locator(".thumb").nth(0).focus()
    page.keyboard.press("l")
    expect(tabs).to_have_count(before + 1)
    page.locator(".thumb").nth(0).focus()
    page.keyboard.press("r")
    expect(page.get_by_text("Queued again.")).to_be_visible()


def test_problems_are_listed_and_jump_to_their_input(page: Page) -> None:
    show_panel(page, "Problems")
    expect(page.get_by_text("No problems.")).to_be_visible()
    drop_picture(page)
    run_workflow(page)
    problem = page.locator(".problem").first
    expect(problem).to_contain_text("not_here.safetensors")
    expect(problem).to_contain_text("Put the file into models/checkpoints")
    problem.click()
    expect(page.locator("select:focus")).to_have_attribute("aria-label", "ckpt name")
    expect(page.locator("select:focus")).to_have_attribute("aria-invalid", "true")


def drop_picture(page: Page) -> None:
    """Drop a picture that another program made on the canvas."""
    data = page.evaluate_handle(
        """(bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "foreign.png", { type: "image/png" }));
          return data;
        }""",
        list(png_with(PARAMETERS)),
    )
    page.dispatch_event(
        "main.stage", "drop", {"dataTransfer": data, "clientX": 700, "clientY": 400}
    )
    expect(page.get_by_role("tab", name="foreign")).to_be_visible()


def test_a_foreign_picture_opens_with_what_is_missing(page: Page) -> None:
    drop_picture(page)
    expect(page.locator(".node", has_text="What A1111 wrote")).to_be_visible()
    expect(page.locator(".toast")).to_contain_text("not_here")


def test_templates_open_and_run(page: Page) -> None:
    show_panel(page, "Templates")
    page.get_by_role("button", name="Inpaint Paints only").click()
    expect(page.get_by_role("tab", name="Inpaint")).to_be_visible()
    run_workflow(page)
    show_panel(page, "Gallery")
    expect(page.locator(".thumb img").first).to_be_visible(timeout=30_000)


def test_palette_shortcut_sheet_and_settings(page: Page) -> None:
    page.keyboard.press("Control+Shift+P")
    page.keyboard.type("theme dark")
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("dialog[open]")).to_have_count(0)
    page.keyboard.press("Control+Shift+K")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(sheet.get_by_text("Show all commands")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+,")
    dialog = page.get_by_role("dialog", name="Settings")
    expect(dialog.get_by_text("PyTorch")).to_be_visible()
    dialog.get_by_label("As the system").check()
    page.keyboard.press("Escape")


def test_node_library_adds_by_keyboard(page: Page) -> None:
    show_panel(page, "Nodes")
    before = page.locator(".node").count()
    page.get_by_label("Search nodes").fill("blur")
    page.keyboard.press("Enter")
    expect(page.locator(".node")).to_have_count(before + 1)


def test_models_are_told_and_put_to_use(page: Page) -> None:
    show_panel(page, "Models")
    row = page.locator(".model").first
    expect(row).to_contain_text("weft-builtin.safetensors")
    expect(row).to_contain_text("sd1")
    row.get_by_role("button", name="Use").click()
    expect(page.get_by_text("is in use already")).to_be_visible()
    page.get_by_text("not here yet").click()
    page.get_by_role("button", name="Copy the command that gets Stable Diffusion XL").click()
    expect(page.get_by_text("Copied: python3 main.py models get sdxl")).to_be_visible()


def test_workflows_are_saved_renamed_opened_deleted(page: Page) -> None:
    page.keyboard.press("Control+Shift+S")
    dialog = page.get_by_role("dialog", name="Save workflow")
    dialog.get_by_label("Name").fill("mine")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Saved mine.")).to_be_visible()
    show_panel(page, "Workflows")
    page.get_by_role("button", name="mine", exact=False).first.focus()
    page.keyboard.press("F2")
    page.get_by_role("dialog", name="Rename workflow").get_by_label("Name").fill("yours")
    page.keyboard.press("Enter")
    expect(page.locator(".file-name", has_text="yours")).to_be_visible()
    page.locator(".file-name").focus()
    page.keyboard.press("Delete")
    page.get_by_role("dialog", name="Delete workflow?").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No saved workflows.")).to_be_visible()


def test_a_file_that_was_changed_elsewhere_is_not_replaced_silently(
    page: Page, server: ServerProcess
) -> None:
    page.keyboard.press("Control+Shift+S")
    page.get_by_role("dialog", name="Save workflow").get_by_label("Name").fill("shared")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Saved shared.")).to_be_visible()
    page.wait_for_timeout(800)  # the journal writes half a second after a change
    page.reload()
    page.wait_for_selector("body[data-ready=true]")
    other = b'{"nodes": [], "links": [], "version": 0.4}'
    assert server.call("POST", "/userdata/workflows%2Fshared.json", other)[0] == 200
    page.keyboard.press("Control+S")
    question = page.get_by_role("dialog", name="Changed elsewhere")
    expect(question).to_be_visible()
    question.get_by_role("button", name="Cancel").click()
    assert server.get("/userdata/workflows%2Fshared.json")["nodes"] == []


def test_prompt_weights_by_keyboard(page: Page) -> None:
    field = page.locator("textarea").first
    field.fill("a red circle")
    field.evaluate("(e) => e.setSelectionRange(3, 3)")
    page.keyboard.press("Control+ArrowUp")
    expect(field).to_have_value("a (red:1.05) circle")
    page.keyboard.press("Control+ArrowDown")
    expect(field).to_have_value("a red circle")
