"""2,000 nodes and 3,500 links in headless Chromium: load, frames and undo, beside a bare canvas.

    python -m tests.benchmarks.bench_editor

Frame times depend on the machine and on what else it does, so each stands beside what a plain
Canvas2D with the same boxes and straight lines needs in the same run.
"""

import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.e2e.server_process import ServerProcess
from tests.web.conftest import CHROMIUM, FLAGS

SCRIPT = (Path(__file__).parent / "large_graph.js").read_text(encoding="utf-8")


def main() -> None:
    """Print the figures of one run."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder)) as server,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(server.url)
        page.wait_for_selector("body[data-ready]")
        figures = page.evaluate(SCRIPT)
        browser.close()
    bare = figures["bare"]
    print(f"{figures['nodes']} nodes, {figures['links']} links, {figures['elements']} elements")
    print(f"load {figures['load_ms']:.0f} ms, undo of one edit {figures['undo_ms']:.0f} ms")
    print(
        f"{'frames':10} {'p50 ms':>8} {'p95 ms':>8}   (bare {bare['p50']:.1f}, {bare['p95']:.1f})"
    )
    for name in ("pan", "pan_half", "pan_far", "pan_all", "zoom", "crossing"):
        print(f"{name:10} {figures[name]['p50']:8.1f} {figures[name]['p95']:8.1f}")


if __name__ == "__main__":
    main()
