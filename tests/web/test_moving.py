"""The canvas while the view moves: what is drawn for nodes, and what comes when it rests."""

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.web.editor_page import at_rest

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

MANY = """() => {
  const nodes = Array.from({ length: 400 }, (_, at) => ({
    id: at + 1, type: "KSampler", pos: [Math.floor(at / 20) * 420, (at % 20) * 380],
  }));
  weft.store.load({ nodes, links: [], version: 0.4 }, { name: "many" });
  weft.scene.setView({ x: 0, y: -60, scale: 1 });
}"""
SHOWN = "[...document.querySelectorAll('.nodes > .node')].map((one) => one.dataset.id).sort()"
MOVE = """async (x) => {
  weft.scene.setView({ x, y: -60, scale: 1 });
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
}"""
SKETCHES = """async () => {
  const { sketchOf } = await import("./canvas/sketch.js");
  const context = document.createElement("canvas").getContext("2d");
  const { document: shown, specs } = weft.store.get();
  const { scale } = weft.scene.view;
  return [...shown.nodes.values()].map((node) => {
    const { element } = weft.scene.viewOf(node.id);
    const { left, top } = element.getBoundingClientRect();
    const placeOf = (one) => {
      const box = one.getBoundingClientRect();
      return [box.left - left, box.top - top, box.width, box.height].map((px) => px / scale);
    };
    const all = (selector) => [...element.querySelectorAll(selector)];
    const dots = all(".dot").filter((one) => getComputedStyle(one).opacity === "1").map(placeOf);
    const words = ({ value, selectedOptions, textContent }) =>
      selectedOptions?.[0].textContent ?? value ?? textContent;
    return {
      sketch: sketchOf(context, shown, node, specs.get(node.type)),
      dots: dots.map(([x, y, width, height]) => [x + width / 2, y + height / 2]),
      fields: all(".widget-input, .control, .pictures").map(placeOf),
      words: all(".socket-name, .widget-name, .widget-input").map(words).filter(Boolean),
    };
  });
}"""


def test_no_element_comes_or_goes_until_the_view_rests(page: Page) -> None:
    page.evaluate(MANY)
    at_rest(page)
    before = page.evaluate(SHOWN)
    page.evaluate(MOVE, 5000)
    assert page.evaluate(SHOWN) == before
    at_rest(page)
    after = page.evaluate(SHOWN)
    assert len(after) > 4
    assert not set(before) & set(after)


def near(one: list[float], other: list[float]) -> bool:
    return all(abs(a - b) <= 1 for a, b in zip(one, other, strict=True))


def test_a_node_without_element_shows_what_its_element_will_show(page: Page) -> None:
    at_rest(page)
    for node in page.evaluate(SKETCHES):
        sketch: dict[str, Any] = node["sketch"]
        drawn = [[dot["x"], dot["y"]] for dot in sketch["dots"]]
        assert len(drawn) == len(node["dots"])
        assert all(any(near(dot, one) for one in drawn) for dot in node["dots"])
        fields = [[one[key] for key in ("x", "y", "width", "height")] for one in sketch["fields"]]
        assert len(fields) == len(node["fields"])
        lost = [field for field in node["fields"] if not any(near(field, one) for one in fields)]
        assert not lost, fields
        texts = [one["text"].removesuffix("…") for one in sketch["words"]]
        for words in node["words"]:
            assert any(words.startswith(text) for text in texts), (words, texts)
