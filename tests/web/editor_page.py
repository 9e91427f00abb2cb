"""What tests do on the editor's page: find nodes and sockets, drag, drop files, read the file."""

import json
from typing import Any

from playwright.sync_api import Locator, Page, expect


def node(page: Page, title: str) -> Locator:
    return page.get_by_role("group", name=title).first


def badge(page: Page, title: str) -> Locator:
    return node(page, title).locator(".badge")


def problem(page: Page, title: str) -> Locator:
    return node(page, title).locator(".node-problem")


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=6)
    page.mouse.up()


def at_rest(page: Page) -> None:
    """Wait until every node in sight has its element in its place."""
    page.wait_for_function("() => !weft.scene.isBusy")


def box_of(page: Page, title: str) -> dict[str, float]:
    at_rest(page)
    box = node(page, title).bounding_box()
    assert box
    return {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"]}


def head(page: Page, title: str) -> tuple[float, float]:
    """A point of a node's title bar."""
    box = box_of(page, title)
    return box["x"] + 90, box["y"] + 12


def place(page: Page, title: str) -> tuple[float, float]:
    box = box_of(page, title)
    return round(box["x"]), round(box["y"])


def dot(page: Page, title: str, socket: str) -> tuple[float, float]:
    """The middle of a socket's dot; `socket` such as "Output IMAGE"."""
    at_rest(page)
    box = node(page, title).get_by_role("button", name=socket).locator(".dot").bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def saved(page: Page) -> dict[str, Any]:
    """The shown workflow as its file."""
    return page.evaluate("JSON.parse(JSON.stringify(weft.store.toFile()))")


def saved_node(page: Page, id: int) -> dict[str, Any]:
    return next(one for one in saved(page)["nodes"] if one["id"] == id)


def empty_ground(page: Page) -> None:
    page.mouse.click(500, 820)


def drop_file(page: Page, name: str, kind: str, content: bytes) -> None:
    """Drop a file on the canvas."""
    page.evaluate(
        """([name, type, bytes]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], name, { type }));
          const place = { clientX: 700, clientY: 400, cancelable: true };
          const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true, ...place });
          document.querySelector(".stage").dispatchEvent(drop);
        }""",
        [name, kind, list(content)],
    )


def open_workflow(page: Page, workflow: dict[str, Any], name: str) -> None:
    drop_file(page, f"{name}.json", "application/json", json.dumps(workflow).encode())
    tab = page.get_by_role("tab", name=name).last
    expect(tab).to_have_attribute("aria-selected", "true")
    at_rest(page)


def run(page: Page) -> None:
    page.keyboard.press("Control+Enter")


def shown_job(page: Page) -> str | None:
    """The id of the job whose states the nodes show."""
    return page.evaluate("weft.run.shownJob()?.id ?? null")


def wait_for_end(page: Page, before: str | None, *, timeout_s: float = 240) -> None:
    """Wait until a job after `before` is done and its pictures are there."""
    page.wait_for_function(
        """(before) => {
          const job = weft.run.shownJob();
          const pictures = [...document.querySelectorAll(".node .picture img")];
          const areThere = pictures.length > 0 && pictures.every((one) => one.naturalWidth > 0);
          return job && job.id !== before && job.status === "done" && areThere;
        }""",
        arg=before,
        timeout=timeout_s * 1000,
    )
    at_rest(page)


def show_panel(page: Page, name: str) -> None:
    button = page.get_by_role("navigation", name="Panels").get_by_role("button", name=name)
    if button.get_attribute("aria-expanded") != "true":
        button.click()
    expect(page.get_by_role("complementary", name=name)).to_be_visible()


def command(page: Page, words: str) -> None:
    """Run a command from the palette."""
    page.keyboard.press("Control+Shift+P")
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_have_count(0)


def choose(page: Page, words: str) -> None:
    """Go down the open menu to an item and press Enter."""
    item = page.get_by_role("menuitem", name=words)
    expect(item).to_be_visible()
    while not item.evaluate("(one) => one === document.activeElement"):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
