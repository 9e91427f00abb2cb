"""What a new user meets in the first five minutes, at most three clicks a step."""

import io
from collections.abc import Callable

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Page, expect

from tests.e2e.server_process import ServerProcess
from tests.web.editor_page import at_rest, drop_file, node, shown_job, wait_for_end

PARAMETERS = (
    "a lighthouse at night\nNegative prompt: blurry\n"
    "Steps: 12, Sampler: Euler a, CFG scale: 6.5, Seed: 1234, Size: 64x64, Model: gone"
)
STEPS = 200  # of the run that is cut off: seconds, also on a fast machine


def walk(page: Page, server: ServerProcess, saw: Callable[[str], None]) -> None:
    """Go through the minutes on a server that has run its first picture.

    `saw` is called with a few words at each state that a person sees.
    """
    page.goto(server.url)
    wait_for_end(page, None)
    saw("A picture, and its workflow")

    page.get_by_role("textbox", name="text").first.fill("a green circle on a blue background")
    saw("Change a word …")
    before = shown_job(page)
    page.get_by_role("button", name="Run", exact=True).click()
    wait_for_end(page, before)
    expect(node(page, "KSampler").locator(".badge")).to_contain_text("ran ")
    expect(node(page, "Load Checkpoint").locator(".badge")).to_have_text("cached")
    reason = node(page, "Prompt").locator(".badge")
    expect(reason).to_have_attribute("title", "input text changed")
    saw("… and run: only what it changes is computed")

    drop_file(page, "made elsewhere.png", "image/png", picture_with_parameters())
    expect(page.get_by_role("tab", name="made elsewhere")).to_be_visible()
    expect(page.locator(".toasts")).to_contain_text("gone")
    at_rest(page)
    assert "a lighthouse at night" in page.evaluate("JSON.stringify(weft.store.toPrompt())")
    saw("Drop a picture that another program made")

    page.get_by_role("tab").first.click()
    steps = node(page, "KSampler").get_by_role("spinbutton", name="steps")
    steps.fill(str(STEPS))
    page.keyboard.press("Control+Enter")
    running = node(page, "KSampler").locator(".badge")
    expect(running).to_contain_text(f"/ {STEPS}", timeout=120_000)
    saw("A long run …")
    server.kill_everything()
    expect(page.locator(".banner")).to_contain_text("connection", timeout=60_000)
    saw("… and the server is killed")
    server.start()
    expect(node(page, "Save Image").locator(".badge")).to_contain_text("ran", timeout=200_000)
    wait_for_end(page, before)
    saw("Started again: the job ended by itself")

    page.get_by_role("button", name="Templates").click()
    expect(page.get_by_role("button", name="Four at once")).to_be_visible()
    page.wait_for_load_state("networkidle")
    saw("Templates")
    page.get_by_role("button", name="Four at once").click()
    expect(page.get_by_role("tab", name="Four at once")).to_be_visible()
    page.get_by_role("button", name="Run", exact=True).click()
    wait_for_end(page, None)
    saw("One of them, run")


def picture_with_parameters() -> bytes:
    """A PNG with the text of A1111 in it."""
    info = PngInfo()
    info.add_text("parameters", PARAMETERS)
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "navy").save(file, "PNG", pnginfo=info)
    return file.getvalue()
