"""The editor in headless Chromium: first paint, 2,000 nodes, and memory over 500 runs.

    python -m tests.benchmarks.bench_editor [first] [large] [memory]

Frame times depend on the machine and on what else it does, so each stands beside what a plain
Canvas2D with the same boxes and straight lines needs in the same run.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from engine.config import ROOT
from tests.e2e.server_process import ServerProcess
from tests.web.conftest import CHROMIUM, FLAGS

SCRIPT = (Path(__file__).parent / "large_graph.js").read_text(encoding="utf-8")
RUNS = (100, 500)
TURNS = 5

# From the start of the navigation to the picture of the node elements.
FIRST_PAINT = """() => new Promise((tell) => {
  const look = () => {
    const isThere = window.weft && document.querySelectorAll(".node").length >= 7;
    if (isThere && !weft.scene.isBusy) return requestAnimationFrame(() => tell(performance.now()));
    setTimeout(look, 5);
  };
  look();
})"""

# A small workflow whose result is known after the first time.
CACHED = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0},
    },
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}

RUN_ONE = """async () => {
  const { run } = weft;
  const [id] = await run.queue();
  const isOver = () => ["done", "failed"].includes(run.job(id)?.status);
  while (!isOver()) await new Promise((wait) => setTimeout(wait, 5));
}"""


def main(names: list[str]) -> None:
    """Print the figures of one run."""
    parts: dict[str, Callable[[Browser, ServerProcess], None]] = {
        "first": first_paint,
        "large": large_graph,
        "memory": memory,
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as play,
    ):
        (Path(folder) / "models").symlink_to(ROOT / "models")
        with ServerProcess(Path(folder)) as server:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            for name in names or parts:
                parts[name](browser, server)
            browser.close()


def opened(browser: Browser, server: ServerProcess) -> Page:
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.goto(server.url)
    page.wait_for_selector("body[data-ready]")
    return page


def first_paint(browser: Browser, server: ServerProcess) -> None:
    """The default workflow in a fresh browser profile, beside an empty page of the same server."""
    times: list[float] = []
    empty: list[float] = []
    for _ in range(TURNS):
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        page.goto(f"{server.url}/favicon.svg")
        empty.append(
            page.evaluate("new Promise((r) => requestAnimationFrame(() => r(performance.now())))")
        )
        page.goto(server.url)
        times.append(page.evaluate(FIRST_PAINT))
        page.context.close()
    middle = TURNS // 2
    print(
        f"first paint with the default workflow {sorted(times)[middle]:.0f} ms"
        f" (one file and a frame {sorted(empty)[middle]:.0f} ms)"
    )


def large_graph(browser: Browser, server: ServerProcess) -> None:
    """2,000 nodes and 3,500 links."""
    page = opened(browser, server)
    figures = page.evaluate(SCRIPT)
    page.context.close()
    bare = figures["bare"]
    print(f"{figures['nodes']} nodes, {figures['links']} links, {figures['elements']} elements")
    print(f"load {figures['load_ms']:.0f} ms, undo of one edit {figures['undo_ms']:.0f} ms")
    print(
        f"{'frames':10} {'p50 ms':>8} {'p95 ms':>8}   (bare {bare['p50']:.1f}, {bare['p95']:.1f})"
    )
    for name in ("pan", "pan_half", "pan_far", "pan_all", "zoom", "crossing"):
        print(f"{name:10} {figures[name]['p50']:8.1f} {figures[name]['p95']:8.1f}")


def memory(browser: Browser, server: ServerProcess) -> None:
    """Heap and page after 100 and after 500 cached runs."""
    page = opened(browser, server)
    session = page.context.new_cdp_session(page)
    page.evaluate("(prompt) => void weft.store.load(prompt, { name: 'cached' })", CACHED)
    done = 0
    print(f"{'runs':>6} {'heap MB':>8} {'DOM nodes':>10} {'listeners':>10} {'documents':>10}")
    for runs in RUNS:
        while done < runs:
            page.evaluate(RUN_ONE)
            done += 1
        told = usage(session)
        print(
            f"{runs:6} {told['usedSize'] / 1e6:8.2f} {told['nodes']:10}"
            f" {told['jsEventListeners']:10} {told['documents']:10}"
        )
    page.context.close()


def usage(session: CDPSession) -> dict[str, Any]:
    """What the page holds once everything that can go is gone."""
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
    return {**session.send("Runtime.getHeapUsage"), **session.send("Memory.getDOMCounters")}


if __name__ == "__main__":
    main(sys.argv[1:])
