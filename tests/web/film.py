"""The film of the first five minutes and the pictures of the main states, for the docs.

    python -m tests.web.film

Needs Chromium. Writes `docs/images/first-five-minutes.webp` and `docs/images/editor-*.webp`.
"""

import io
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Page, expect, sync_playwright

from engine.config import ROOT
from tests.e2e.server_process import ServerProcess
from tests.web.conftest import CHROMIUM, FLAGS, FRESH
from tests.web.editor_page import (
    at_rest,
    open_workflow,
    problem,
    run,
    show_panel,
    shown_job,
    wait_for_end,
)
from tests.web.first_five_minutes import walk

IMAGES = ROOT / "docs" / "images"
SIZE = (1440, 900)
FILM_SIZE = (960, 600)
FRAME_MS = 2400
BAR_PX = 36


def main() -> None:
    """Make all of them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as play,
    ):
        base = Path(folder)
        (base / "models").symlink_to(ROOT / "models")
        browser = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        with ServerProcess(base) as server:
            first = server.queue_prompt(server.get("/weft/default_workflow"))
            server.wait_for(first, timeout_s=300)
            make_film(browser, server)
            make_pictures(browser, server)
        browser.close()
    for path in sorted(IMAGES.glob("*.webp")):
        print(f"{path.relative_to(ROOT)} {path.stat().st_size / 1000:.0f} kB")


def new_page(browser: Browser, scheme: str = "dark") -> Page:
    size = {"width": SIZE[0], "height": SIZE[1]}
    context = browser.new_context(viewport=size, color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    return context.new_page()


def shot(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def make_film(browser: Browser, server: ServerProcess) -> None:
    """Walk the minutes; each state becomes a frame with its time."""
    page = new_page(browser)
    frames: list[Image.Image] = []
    start = time.monotonic()

    def saw(words: str) -> None:
        seconds = round(time.monotonic() - start)
        frames.append(captioned(shot(page), f"{seconds // 60}:{seconds % 60:02}   {words}"))

    walk(page, server, saw)
    page.context.close()
    path = IMAGES / "first-five-minutes.webp"
    first, *rest = frames
    first.save(
        path,
        save_all=True,
        append_images=rest,
        duration=[FRAME_MS] * len(frames),
        loop=0,
        quality=72,
        method=6,
    )


def captioned(picture: Image.Image, words: str) -> Image.Image:
    """A frame of the film with a line of text under it."""
    width, height = FILM_SIZE
    frame = Image.new("RGB", (width, height + BAR_PX), "#0d0d10")
    frame.paste(picture.resize(FILM_SIZE, Image.Resampling.LANCZOS), (0, 0))
    draw = ImageDraw.Draw(frame)
    font = ImageFont.load_default(size=18)
    draw.text((16, height + BAR_PX // 2), words, fill="#ececf1", font=font, anchor="lm")
    return frame


def make_pictures(browser: Browser, server: ServerProcess) -> None:
    """The main states of the editor."""
    for scheme in ("dark", "light"):
        page = opened(browser, server, scheme)
        run_to_end(page)
        keep(page, f"editor-{scheme}")
        page.context.close()
    page = opened(browser, server, "light")
    for words in ("a yellow star on a purple background", "a white square on a red background"):
        page.get_by_role("textbox", name="text").first.fill(words)
        run_to_end(page)
    for panel in ("Templates", "Gallery"):
        show_panel(page, panel)
        page.wait_for_load_state("networkidle")
        keep(page, f"editor-{panel.lower()}")
    page.get_by_role("button", name="Compare").click()
    page.locator(".thumb").nth(0).click()
    page.locator(".thumb").nth(1).click()
    expect(page.locator(".compare")).to_be_visible()
    page.wait_for_load_state("networkidle")
    keep(page, "editor-compare")
    page.context.close()
    make_pictures_of_problems(browser, server)


def make_pictures_of_problems(browser: Browser, server: ServerProcess) -> None:
    page = opened(browser, server, "dark")
    page.evaluate(
        """() => weft.store.edit("x", (d) => {
          const nodes = new Map(d.nodes);
          nodes.set("4", { ...nodes.get("4"), values: { ckpt_name: "dreams.safetensors" } });
          const size = { width: 64, height: 64, batch_size: 99999 };
          nodes.set("5", { ...nodes.get("5"), values: size });
          return { ...d, nodes };
        })"""
    )
    run(page)
    expect(problem(page, "Load Checkpoint")).to_be_visible()
    show_panel(page, "Problems")
    keep(page, "editor-problem")
    page.context.close()
    page = opened(browser, server, "light")
    workflow = page.evaluate("JSON.parse(JSON.stringify(weft.store.toFile()))")
    for one in workflow["nodes"]:
        if one["type"] == "KSampler":
            one["type"] = "KSampler (Advanced Pack)"
    open_workflow(page, workflow, "from elsewhere")
    keep(page, "editor-missing")
    page.keyboard.press("Control+Shift+P")
    page.keyboard.type("run")
    keep(page, "editor-palette")
    page.context.close()


def opened(browser: Browser, server: ServerProcess, scheme: str) -> Page:
    page = new_page(browser, scheme)
    page.goto(server.url)
    page.wait_for_selector("body[data-ready]")
    page.evaluate(FRESH)
    at_rest(page)
    return page


def run_to_end(page: Page) -> None:
    before = shown_job(page)
    run(page)
    wait_for_end(page, before)


def keep(page: Page, name: str) -> None:
    page.wait_for_timeout(400)  # fades and the overview's own pace
    at_rest(page)
    shot(page).save(IMAGES / f"{name}.webp", quality=80, method=6)


if __name__ == "__main__":
    main()
