"""The catalogue: names, aliases and the wire form that clients read."""

import json
from pathlib import Path

import pytest

from engine.api.spec import InputSpec, NodeSpec, OutputSpec
from engine.graph.catalogue import Catalogue, from_wire, to_wire
from tests.graph.samples import CATALOGUE, SPECS, files_of

INFO = Path(__file__).parent.parent / "fixtures" / "workflows" / "object_info.json"


def test_names_and_aliases() -> None:
    assert CATALOGUE.get("LoadCheckpoint") is CATALOGUE.get("CheckpointLoaderSimple")
    assert CATALOGUE.get("Nope") is None
    assert "LoadCheckpoint" in CATALOGUE
    assert len(CATALOGUE) == len(SPECS)
    assert [s.name for s in CATALOGUE] == [s.name for s in SPECS]
    assert CATALOGUE.suggest("LoadChekpoint")[0] == "LoadCheckpoint"


def test_a_name_wins_over_an_alias() -> None:
    one = NodeSpec(name="A", title="A", category="", aliases=("B", "C"))
    two = NodeSpec(name="B", title="B", category="", aliases=("C",))
    catalogue = Catalogue({"A": one, "B": two})
    assert catalogue.get("B") is two
    assert catalogue.get("C") is one


def test_the_wire_form_of_a_node_type() -> None:
    spec = NodeSpec(
        name="Sharpen",
        title="Sharpen",
        category="image",
        description="Sharper.",
        inputs=(
            InputSpec(name="image", type="IMAGE"),
            InputSpec(name="amount", type="FLOAT", options={"default": 1.0, "min": 0.0}),
            InputSpec(name="mode", type="COMBO", choices=("a", "b"), options={"default": "b"}),
            InputSpec(name="file", type="COMBO", kind="optional", folder="input"),
            InputSpec(name="me", type="UNIQUE_ID", kind="hidden"),
        ),
        outputs=(OutputSpec(name="out", type="IMAGE", is_list=True, tooltip="The picture."),),
        aliases=("Sharp",),
        search=("crisp",),
        pack="sharpen",
        is_output=True,
        takes_lists=True,
        is_deprecated=True,
    )
    assert to_wire(spec, files_of) == {
        "input": {
            "required": {
                "image": ["IMAGE"],
                "amount": ["FLOAT", {"default": 1.0, "min": 0.0}],
                "mode": [["a", "b"], {"default": "b"}],
            },
            "optional": {"file": [["example.png", "sub/photo.png"]]},
            "hidden": {"me": "UNIQUE_ID"},
        },
        "input_order": {
            "required": ["image", "amount", "mode"],
            "optional": ["file"],
            "hidden": ["me"],
        },
        "output": ["IMAGE"],
        "output_is_list": [True],
        "output_name": ["out"],
        "output_tooltips": ["The picture."],
        "name": "Sharpen",
        "display_name": "Sharpen",
        "description": "Sharper.",
        "python_module": "custom_nodes.sharpen",
        "category": "image",
        "output_node": True,
        "deprecated": True,
        "experimental": False,
        "is_input_list": True,
        "search_aliases": ["crisp", "Sharp"],
    }


def test_aliases_are_listed_but_marked() -> None:
    info = CATALOGUE.to_object_info(files_of)
    assert set(info) == {s.name for s in SPECS} | {"LoadCheckpoint"}
    alias = info["LoadCheckpoint"]
    assert (alias["name"], alias["weft_alias_of"]) == ("LoadCheckpoint", "CheckpointLoaderSimple")
    assert alias["deprecated"]
    assert alias["input"] == info["CheckpointLoaderSimple"]["input"]
    assert not info["CheckpointLoaderSimple"]["deprecated"]
    assert json.loads(json.dumps(info)) == info


def test_one_node_type_is_answered_by_any_of_its_names() -> None:
    for name in ("LoadCheckpoint", "CheckpointLoaderSimple"):
        answer = CATALOGUE.object_info_of(name, files_of)
        assert answer == {name: CATALOGUE.to_object_info(files_of)[name]}
    assert CATALOGUE.object_info_of("Nope", files_of) == {}


def test_each_folder_is_listed_once() -> None:
    asked = []
    specs = {
        n: NodeSpec(
            name=n,
            title=n,
            category="",
            inputs=(InputSpec(name="f", type="COMBO", folder="input"),),
        )
        for n in "abc"
    }
    Catalogue(specs).to_object_info(lambda folder: asked.append(folder) or [])
    assert asked == ["input"]


@pytest.mark.parametrize("name", sorted(json.loads(INFO.read_text())))
def test_wire_forms_survive_reading(name: str) -> None:
    wire = json.loads(INFO.read_text())[name]
    spec = from_wire(name, wire)
    assert to_wire(spec, files_of) == wire
    assert from_wire(name, to_wire(spec, files_of)) == spec


def test_reads_the_other_wire_form_of_choices() -> None:
    wire = {"input": {"required": {"a": ["COMBO", {"options": ["x"], "default": "x"}]}}}
    (item,) = from_wire("N", wire).inputs
    assert (item.type, item.choices, item.options) == ("COMBO", ("x",), {"default": "x"})
    assert from_wire("N", {}) == NodeSpec(name="N", title="N", category="")
