"""Editor documents become the prompts that the editor itself would send."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.api.errors import GraphInvalid
from engine.graph.catalogue import Catalogue, from_wire
from engine.graph.prompt import parse_prompt
from engine.graph.workflow import is_workflow, to_prompt
from tests.graph.samples import FUZZ

CORPUS = Path(__file__).parent.parent / "fixtures" / "workflows"
NAMES = sorted(p.name.removesuffix(".prompt.json") for p in CORPUS.glob("*.prompt.json"))


def read(name: str):
    return json.loads((CORPUS / f"{name}.json").read_text())


CATALOGUE = Catalogue({name: from_wire(name, w) for name, w in read("object_info").items()})


@pytest.mark.parametrize("name", NAMES)
def test_corpus(name: str) -> None:
    document = read(name)
    assert is_workflow(document)
    assert to_prompt(document, CATALOGUE) == read(f"{name}.prompt")


@pytest.mark.parametrize("body", [None, [], {}, {"1": {"class_type": "A", "inputs": {}}}])
def test_what_is_no_workflow(body: Any) -> None:
    assert not is_workflow(body)
    with pytest.raises(GraphInvalid):
        to_prompt(body, CATALOGUE)


def document(nodes: Any, links: Any = (), **more: Any):
    return {"nodes": nodes, "links": list(links), **more}


def part(id: Any, type: Any = "ImageInvert", **more: Any):
    return {"id": id, "type": type, **more}


BROKEN = {
    "node is null": document([None]),
    "node without id": document([{"type": "A"}]),
    "id is a truth": document([part(True)]),
    "id is an object": document([part({})]),
    "id is huge": document([part(10**5000)]),
    "id twice": document([part(1), part("1")]),
    "type is a number": document([part(1, 5)]),
    "type cannot be written": document([part(1, "\ud800")]),
    "inputs is a number": document([part(1, inputs=3)]),
    "input is null": document([part(1, inputs=[None])]),
    "input without name": document([part(1, inputs=[{"type": "IMAGE"}])]),
    "link id is a list": document([part(1, inputs=[{"name": "a", "link": []}])]),
    "too many inputs": document([part(1, inputs=[{"name": "a"}] * 5000)]),
    "outputs is a text": document([part(1, outputs="x")]),
    "values is a number": document([part(1, widgets_values=3)]),
    "short link": document([], [[1, 2]]),
    "link is a text": document([], ["x"]),
    "slot is a text": document([], [[1, 1, "a", 2, 0, "IMAGE"]]),
    "slot is huge": document([], [[1, 1, 1 << 80, 2, 0, "IMAGE"]]),
    "slot is negative": document([], [[1, 1, -1, 2, 0, "IMAGE"]]),
    "links is a text": document([], more=1) | {"links": "x"},
    "definitions is a list": document([], definitions=[1]),
    "subgraphs is a text": document([], definitions={"subgraphs": "x"}),
    "subgraph is null": document([], definitions={"subgraphs": [None]}),
    "subgraph without id": document([], definitions={"subgraphs": [{"nodes": []}]}),
    "subgraph in itself": document(
        [part(1, "S")],
        definitions={"subgraphs": [{"id": "S", "nodes": [part(1, "S"), part(2, "S")]}]},
    ),
    "subgraphs without end": document(
        [part(1, "S0")],
        definitions={
            "subgraphs": [
                {"id": f"S{i}", "nodes": [part(n, f"S{i + 1}") for n in range(4)]}
                for i in range(31)
            ]
        },
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_document(name: str) -> None:
    with pytest.raises(GraphInvalid) as caught:
        to_prompt(BROKEN[name], CATALOGUE)
    (problem,) = caught.value.problems
    assert problem.code == "invalid_prompt"
    assert problem.message.endswith(".")
    assert len(str(caught.value)) < 400


def reroutes(count: int, first_link: list[Any] | None = None):
    nodes = [
        part(i, "Reroute", inputs=[{"name": "", "type": "*", "link": i}], mode=0)
        for i in range(1, count + 1)
    ]
    links = [[i, i - 1, 0, i, 0, "*"] for i in range(1, count + 1)]
    nodes.append(part(count + 1, inputs=[{"name": "image", "type": "IMAGE", "link": count + 1}]))
    links.append([count + 1, count, 0, count + 1, 0, "*"])
    links[0] = first_link or links[0]
    return document(nodes, links)


def test_a_chain_of_ten_thousand_reroutes() -> None:
    body = reroutes(10_000)
    body["nodes"].append(part(0, "LoadImage", outputs=[{"name": "IMAGE", "type": "IMAGE"}]))
    assert to_prompt(body, CATALOGUE)["10001"]["inputs"] == {"image": ["0", 0]}


def test_a_widget_promoted_through_two_levels() -> None:
    width = {"name": "width", "type": "INT", "link": 1, "widget": {"name": "width"}}
    rail = {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0}
    inner = {
        "id": "I",
        "inputs": [{"name": "width"}],
        "nodes": [part(1, "EmptyLatentImage", inputs=[width], widgets_values=[8, 16, 1])],
        "links": [rail],
    }
    promoted = {**width, "link": None}
    outer = {"id": "O", "nodes": [part(2, "I", inputs=[promoted], widgets_values=[24])]}
    properties = {"proxyWidgets": [["2", "width"]]}
    nodes = [
        part(3, "O", widgets_values=[40], properties=properties),
        part(4, "O", widgets_values=[], properties=properties),
    ]
    body = document(nodes, definitions={"subgraphs": [inner, outer]})
    prompt = to_prompt(body, CATALOGUE)
    assert prompt["3:2:1"]["inputs"] == {"width": 40, "height": 16, "batch_size": 1}
    assert prompt["4:2:1"]["inputs"] == {"width": 24, "height": 16, "batch_size": 1}


def test_reroutes_in_a_circle() -> None:
    with pytest.raises(GraphInvalid) as caught:
        to_prompt(reroutes(5, first_link=[1, 4, 0, 1, 0, "*"]), CATALOGUE)
    assert caught.value.code == "dependency_cycle"


def test_links_that_the_file_has_lost_are_no_links() -> None:
    body = document([part(1, inputs=[{"name": "image", "type": "IMAGE", "link": 7}])], [None])
    assert to_prompt(body, CATALOGUE)["1"]["inputs"] == {}
    body["links"] = [[7, 99, 0, 1, 0, "IMAGE"]]
    assert to_prompt(body, CATALOGUE)["1"]["inputs"] == {}


def test_links_may_be_kept_by_id() -> None:
    body = document([part(1, inputs=[{"name": "image", "link": 7}]), part(2)])
    body["links"] = {"7": {"id": 7, "origin_id": 2, "origin_slot": 0, "target_id": 1}}
    body["links"]["7"]["target_slot"] = 0
    assert to_prompt(body, CATALOGUE)["1"]["inputs"] == {"image": ["2", 0]}


WEIRD = ["null", "true", "-1", "1e30", "NaN", '""', '"x"', "[]", "{}", "[[]]", '{"id": 1}']


@FUZZ
@given(st.sampled_from(NAMES), st.data())
def test_any_damage_is_read_or_refused(name: str, data: st.DataObject) -> None:
    body = read(name)
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = None
        key: Any = None
        step: Any = body
        while (
            isinstance(step, dict | list) and step and (place is None or data.draw(st.booleans()))
        ):
            keys = list(step) if isinstance(step, dict) else range(len(step))
            place, key = step, data.draw(st.sampled_from(keys))
            step = step[key]
        if place is not None:
            place[key] = json.loads(data.draw(st.sampled_from(WEIRD)))
    try:
        parse_prompt(to_prompt(body, CATALOGUE))
    except GraphInvalid as refusal:
        assert refusal.problems
