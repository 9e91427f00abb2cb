"""Every kind of error, where the editor shows it and with what it says to do."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from engine.config import ROOT
from tests.e2e.server_process import ServerProcess
from tests.web.editor_page import badge, node, open_workflow, problem, run, show_panel

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

PACKS = Path(__file__).parent / "packs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose packs are one that fails in its nodes and one that cannot be loaded."""
    base: Path = tmp_path_factory.mktemp("errors")
    (base / "models").symlink_to(ROOT / "models")
    shutil.copytree(PACKS, base / "custom_nodes")
    with ServerProcess(base, "--allow-packs", "all") as process:
        yield process


def one_node(type: str) -> dict[str, object]:
    return {"nodes": [{"id": 1, "type": type, "pos": [100, 100]}], "links": [], "version": 0.4}


def test_a_refused_pack_is_told_with_its_reason(page: Page) -> None:
    told = page.get_by_role("alert").filter(has_text="The node pack 'broken' was not loaded.")
    expect(told).to_contain_text("this pack needs <b>another</b> one", timeout=10_000)
    told.get_by_role("button", name="Settings").click()
    settings = page.get_by_role("dialog", name="Settings")
    expect(settings.get_by_text("this pack needs")).to_be_visible()
    expect(settings.locator("b")).to_have_count(0)


def test_all_problems_come_at_once_and_jump_to_their_inputs(page: Page) -> None:
    page.evaluate(
        """() => weft.store.edit("x", (d) => {
          const nodes = new Map(d.nodes);
          const change = (id, values) => nodes.set(id, { ...nodes.get(id), values });
          change("4", { ckpt_name: "gone.safetensors" });
          change("5", { width: 64, height: 64, batch_size: 99999 });
          const links = new Map([...d.links].filter(([, l]) => !(l.to === "8" && l.toSlot === 1)));
          return { ...d, links, nodes };
        })"""
    )
    run(page)
    expect(problem(page, "Load Checkpoint")).to_contain_text("gone.safetensors")
    expect(problem(page, "VAE Decode")).to_contain_text("vae")
    expect(problem(page, "Empty Latent Image")).to_contain_text("batch_size")
    size = node(page, "Empty Latent Image").get_by_role("spinbutton", name="batch size")
    expect(size).to_have_attribute("aria-invalid", "true")
    width = node(page, "Empty Latent Image").get_by_role("spinbutton", name="width")
    expect(width).to_have_attribute("aria-invalid", "false")
    toast = page.get_by_role("alert").filter(has_text="3 problems keep this from running.")
    expect(toast).to_be_visible()
    show_panel(page, "Problems")
    expect(page.locator(".problem")).to_have_count(3)
    page.locator(".problem").filter(has_text="batch_size").click()
    expect(size).to_be_focused()


def test_a_node_that_failed_says_what_and_where(page: Page) -> None:
    open_workflow(page, one_node("Fails"), "failing")
    run(page)
    expect(badge(page, "Fails")).to_have_text("error", timeout=120_000)
    expect(problem(page, "Fails")).to_contain_text("The number 1 is <b>unlucky</b>.")
    expect(node(page, "Fails").locator("b")).to_have_count(0)
    toast = page.get_by_role("alert").filter(has_text="unlucky")
    toast.get_by_role("button", name="Show the node").click()
    expect(node(page, "Fails")).to_be_focused()


def test_out_of_memory_has_its_own_words(page: Page) -> None:
    open_workflow(page, one_node("FillsMemory"), "large")
    run(page)
    toast = page.get_by_role("alert").filter(has_text="Not enough memory.")
    expect(toast).to_be_visible(timeout=120_000)
    expect(badge(page, "FillsMemory")).to_have_text("error")
    expect(problem(page, "FillsMemory")).to_contain_text("smaller")


def test_a_missing_node_type_is_told_kept_and_refused_on_its_node(page: Page) -> None:
    workflow = one_node("KSamplr")
    open_workflow(page, workflow, "missing")
    expect(page.get_by_role("alert").last).to_contain_text("Missing node: KSamplr")
    expect(node(page, "KSamplr")).to_have_attribute("data-note", re.compile("not installed"))
    run(page)
    expect(page.locator(".toast.bad").last).to_be_visible()
    show_panel(page, "Problems")
    expect(page.locator(".problem").first).to_contain_text("KSamplr")
