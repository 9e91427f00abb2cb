"""Keys: equal for equal work, different for everything that decides a result."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.api.errors import MissingModel
from engine.api.spec import InputSpec, NodeSpec, OutputSpec
from engine.graph.catalogue import Catalogue
from engine.graph.fingerprint import Fingerprinter, explain, fingerprint
from engine.graph.prompt import parse_prompt
from engine.graph.walk import walk
from tests.graph.samples import CATALOGUE, SPECS, chain, node

FILES = {("checkpoints", "tiny.safetensors"): "d1", ("input", "example.png"): "d2"}


def digest(folder: str, name: str):
    try:
        return FILES[folder, name]
    except KeyError:
        raise MissingModel(f"{name} is missing.") from None


def keys(
    prompt: dict[str, Any],
    *,
    said: Any = None,
    environment: str = "here",
    job: str = "job",
    files: Callable[[str, str], str] = digest,
    catalogue: Catalogue = CATALOGUE,
):
    graph = parse_prompt(prompt)
    return fingerprint(
        graph,
        catalogue,
        walk(graph, graph.nodes).order,
        file_digest=files,
        is_changed=lambda n: said,
        environment=environment,
        job_id=job,
    )


def key(prompt: dict[str, Any], at: str = "1", **more: Any):
    return keys(prompt, **more)[at].key


BASE = {"1": node("Add", a=["2", 0], b=3), "2": node("Number", value=1)}


def test_same_work_same_key_whatever_the_ids_and_the_order() -> None:
    other = {
        "x": node("Number", "Title", value=1),
        "y": node("Add", "Sum", b=3, a=["x", 0]),
    }
    assert key(BASE) == key(other, "y")


@pytest.mark.parametrize(
    "changed",
    [
        {**BASE, "1": node("Add", a=["2", 0], b=4)},
        {**BASE, "1": node("Add", a=["2", 0])},
        {**BASE, "1": node("Add", a=["2", 0], b=True)},
        {**BASE, "1": node("Add", a=["2", 0], b="3")},
        {**BASE, "1": node("Add", a=["2", 0], b=3.0)},
        {**BASE, "1": node("Add", a=["2", 0], b=3, undeclared=1)},
        {**BASE, "1": node("Add", a=["2", 1], b=3)},
        {**BASE, "1": node("Add", a="2", b=3)},
        {**BASE, "1": node("Kwargs", a=["2", 0], b=3)},
        {**BASE, "2": node("Number", value=2)},
    ],
)
def test_what_changes_a_key(changed: dict[str, Any]) -> None:
    assert key(changed) != key(BASE)


def test_environment_and_version_change_keys() -> None:
    assert key(BASE, environment="there") != key(BASE)
    newer = {s.name: replace(s, version="2") for s in SPECS}
    assert key(BASE, catalogue=Catalogue(newer)) != key(BASE)


def test_an_alias_has_the_key_of_its_node_type() -> None:
    prompt = {"1": node("LoadCheckpoint", ckpt_name="tiny.safetensors")}
    other = {"1": node("CheckpointLoaderSimple", ckpt_name="tiny.safetensors")}
    assert key(prompt) == key(other)


def test_whole_numbers_and_floats_are_one_for_a_float_input_only() -> None:
    assert key({"1": node("Real", value=20)}) == key({"1": node("Real", value=20.0)})
    assert key({"1": node("Anything", value=20)}) != key({"1": node("Anything", value=20.0)})
    assert key({"1": node("Real", value=10**400)})


def test_objects_are_compared_whatever_their_order() -> None:
    one = key({"1": node("Anything", value={"a": 1, "b": [2]})})
    assert one == key({"1": node("Anything", value={"b": [2], "a": 1})})
    assert one != key({"1": node("Anything", value={"b": [2], "a": 2})})


@pytest.mark.parametrize("text", ["a", "a\nC 'b' 3", "'", "\ud800", "\x00", "x" * 10_000])
def test_texts_cannot_imitate_other_inputs(text: str) -> None:
    found = {key({"1": node("Anything", value=t)}) for t in (text, f"{text} ", f" {text}")}
    assert len(found) == 3
    assert len(keys({"1": node("Anything", value=text)})["1"].parts) < 1000


def test_files_count_by_content() -> None:
    prompt = {"1": node("LoadImage", image="example.png")}
    moved = {"1": node("LoadImage", image="example.png [input]")}
    assert key(prompt) == key(moved)
    assert key(prompt, files=lambda f, n: "other") != key(prompt)
    assert key({"1": node("LoadImage", image="new.png")}, files=lambda f, n: "d2") == key(prompt)


def test_a_missing_file_makes_a_node_volatile() -> None:
    found = keys({"1": node("LoadImage", image="gone.png")})["1"]
    assert found.is_volatile


def test_volatile_nodes_belong_to_their_job() -> None:
    prompt = {"1": node("Add", a=["2", 0]), "2": node("Clock")}
    assert key(prompt) == key(prompt)
    assert key(prompt, job="other") != key(prompt)
    assert key(prompt, "2", job="other") != key(prompt, "2")
    two = keys({"1": node("Clock"), "2": node("Clock")})
    assert two["1"].key != two["2"].key


def test_is_changed_is_part_of_the_key() -> None:
    prompt = {"1": node("Watch", a=1)}
    assert key(prompt, said="x") == key(prompt, said="x", job="other")
    assert key(prompt, said="x") != key(prompt, said="y")
    assert not keys(prompt, said=["x", b"y"])["1"].is_volatile
    circle = []
    circle.append(circle)
    for said in (float("nan"), {(1, 2): 3}, circle):
        assert keys(prompt, said=said)["1"].is_volatile


def test_nodes_that_ask_for_their_id_have_it_in_the_key() -> None:
    spec = NodeSpec(
        name="Own",
        title="Own",
        category="test",
        inputs=(InputSpec(name="me", type="UNIQUE_ID", kind="hidden"),),
        outputs=(OutputSpec(name="INT", type="INT"),),
    )
    found = keys({"1": node("Own"), "2": node("Own")}, catalogue=Catalogue({"Own": spec}))
    assert found["1"].key != found["2"].key


def test_keys_of_nodes_that_appear_later() -> None:
    graph = parse_prompt(BASE)
    maker = Fingerprinter(
        CATALOGUE, file_digest=digest, is_changed=lambda n: None, environment="here"
    )
    known = {"2": maker.key_of(graph.nodes["2"], {})}
    assert maker.key_of(graph.nodes["1"], known).key == key(BASE, job="")


def test_each_file_and_node_is_asked_once() -> None:
    asked = []
    prompt = {**chain(200), "w": node("Watch"), "i": node("LoadImage", image="example.png")}
    prompt["s"] = node("Show", value=["w", 0])
    graph = parse_prompt(prompt)
    fingerprint(
        graph,
        CATALOGUE,
        walk(graph, graph.nodes).order,
        file_digest=lambda f, n: asked.append(n) or "d",
        is_changed=lambda n: asked.append(n.id),
        environment="",
    )
    assert sorted(asked) == ["example.png", "w"]


def test_ten_thousand_nodes() -> None:
    found = keys(chain(10_000))
    assert len({k.key for k in found.values()}) == 10_001
    assert all(len(k.key) == len(hashlib.sha256().hexdigest()) for k in found.values())


SAMPLER = {
    "1": node("CheckpointLoaderSimple", ckpt_name="tiny.safetensors"),
    "2": node("CLIPTextEncode", "Prompt", text="a", clip=["1", 1]),
}


def why(
    before: dict[str, Any],
    after: dict[str, Any],
    at: str = "2",
    old: dict[str, Any] | None = None,
    new: dict[str, Any] | None = None,
):
    graph = parse_prompt(after)
    parts = keys(before, **(old or {}))[at].parts
    return explain(parts, keys(after, **(new or {}))[at].parts, graph.nodes[at], graph)


def test_reasons() -> None:
    text = {**SAMPLER, "2": node("CLIPTextEncode", "Prompt", text="b", clip=["1", 1])}
    assert why(SAMPLER, text) == "input text changed"
    renamed = {**SAMPLER, "2": node("CLIPTextEncode", txt="a", clip=["1", 1])}
    assert why(SAMPLER, renamed) == "input txt was added, input text was removed"
    other = {**SAMPLER, "2": node("CLIPTextEncode", text="a", clip=["1", 2])}
    assert why(SAMPLER, other) == "input clip takes another output"
    unlinked = {**SAMPLER, "2": node("CLIPTextEncode", text=["1", 0], clip=["1", 1])}
    assert why(SAMPLER, unlinked) == "input text changed"
    new_file = {"files": lambda f, n: "other"}
    assert why(SAMPLER, SAMPLER, "1", new=new_file) == (
        'the file of input ckpt_name changed ("tiny.safetensors")'
    )
    assert why(SAMPLER, SAMPLER, new=new_file) == (
        "node CheckpointLoaderSimple (1) before it changed"
    )
    there = {"environment": "there"}
    assert why(SAMPLER, SAMPLER, "1", new=there) == "the engine or the device changed"
    other_type = {**SAMPLER, "2": node("Anything", text="a", clip=["1", 1])}
    assert why(SAMPLER, other_type) == "the node's code or type changed"
    assert why(SAMPLER, SAMPLER) == "its result was not kept"


def test_reasons_of_nodes_that_decide_themselves() -> None:
    watch = {"1": node("Watch")}
    assert why(watch, watch, "1", {"said": 1}, {"said": 2}) == "the node reported a change"
    assert why(watch, watch, "1", new={"said": float("nan")}) == "it runs in every job"
    assert why(watch, watch, "1", old={"said": float("nan")}) == (
        "the node reported a change, it ran in every job before"
    )


def test_first_run_and_many_changes() -> None:
    graph = parse_prompt(SAMPLER)
    assert explain(None, "", graph.nodes["1"], graph) == "first run"
    many = {"1": node("Kwargs", a=1, b=1, c=1, d=1, e=1)}
    more = {"1": node("Kwargs", a=2, b=2, c=2, d=2, e=2)}
    assert why(many, more, "1") == ("input a changed, input b changed, input c changed and 2 more")


def test_names_with_quotes_are_explained() -> None:
    before = {"1": node("Kwargs", **{'it\'s \\ "so"': 1})}
    after = {"1": node("Kwargs", **{'it\'s \\ "so"': 2})}
    assert why(before, after, "1").endswith("changed")
