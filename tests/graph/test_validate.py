"""Validation: every problem at once, with its code, place and advice."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.api.errors import GraphInvalid, Problem
from engine.graph.prompt import parse_prompt
from engine.graph.validate import nodes_with_own_check, validate, with_problems
from engine.graph.wire_errors import to_wire
from tests.graph.samples import CATALOGUE, FILES, FUZZ, chain, check, files_of, node

LOADER = node("CheckpointLoaderSimple", ckpt_name="tiny.safetensors")
IMAGE = node("LoadImage", image="example.png")


def sampler(**changes: Any):
    inputs = {"model": ["1", 0], "steps": 20, "cfg": 7.0, "sampler_name": "euler", **changes}
    return node("KSampler", **{n: v for n, v in inputs.items() if v is not ...})


def with_sampler(**changes: Any):
    return {"n1": LOADER, "n2": sampler(**changes), "n3": node("Show", value=["2", 0])}


# One broken prompt for each code: nodes, then code, node, input, and words of the advice.
BROKEN = {
    "unknown node type": (
        {"n1": node("KSampeler", a=1), "n2": node("Show", value=["1", 0])},
        ("missing_node_type", "1", None, 'Did you mean "KSampler"?'),
    ),
    "unknown node type, nothing close": (
        {"n1": node("Zzz"), "n2": node("Show", value=["1", 0])},
        ("missing_node_type", "1", None, "node pack"),
    ),
    "unknown output node": (
        {"n1": IMAGE, "n2": node("SaveImagee", images=["1", 0])},
        ("missing_node_type", "2", None, 'Did you mean "SaveImage"'),
    ),
    "missing input": (
        with_sampler(model=...),
        ("required_input_missing", "2", "model", None),
    ),
    "mistyped required input": (
        with_sampler(steps=..., stesp=20),
        ("required_input_missing", "2", "steps", 'where "stesp" is written'),
    ),
    "mistyped optional input": (
        with_sampler(guidence=3.0),
        ("undeclared_input", "2", "guidence", 'Did you mean "guidance"?'),
    ),
    "link to nothing": (with_sampler(model=["77", 0]), ("bad_linked_input", "2", "model", None)),
    "link to a missing output": (
        with_sampler(model=["1", 3]),
        ("bad_linked_input", "2", "model", None),
    ),
    "link to a negative output": (
        with_sampler(model=["1", -1]),
        ("bad_linked_input", "2", "model", None),
    ),
    "link to a node without outputs": (
        {"n1": node("Show", value=1), "n2": node("Show", value=["1", 0])},
        ("bad_linked_input", "2", "value", None),
    ),
    "half a link": (with_sampler(model=["1"]), ("bad_linked_input", "2", "model", "__value__")),
    "list for a number": (with_sampler(steps=[1, 2]), ("bad_linked_input", "2", "steps", None)),
    "link of another type": (
        with_sampler(model=["1", 1]),
        ("return_type_mismatch", "2", "model", "Output 0 (MODEL) of that node gives MODEL."),
    ),
    "value for a socket": (with_sampler(model="tiny"), ("invalid_input_type", "2", "model", None)),
    "wrapped list for a number": (
        with_sampler(steps={"__value__": [1]}),
        ("invalid_input_type", "2", "steps", None),
    ),
    "list for a choice": (
        with_sampler(sampler_name=["euler"]),
        ("bad_linked_input", "2", "sampler_name", None),
    ),
    "wrapped list for a choice": (
        with_sampler(sampler_name={"__value__": ["euler"]}),
        ("value_not_in_list", "2", "sampler_name", None),
    ),
    "list for a pack's own type": (
        {"n1": node("Custom", value=["1"]), "n2": node("Show", value=["1", 0])},
        ("bad_linked_input", "1", "value", "__value__"),
    ),
    "text for a number": (with_sampler(steps="many"), ("invalid_input_type", "2", "steps", None)),
    "fraction for a whole number": (
        with_sampler(steps=20.5),
        ("invalid_input_type", "2", "steps", "Write 20 or 21."),
    ),
    "NaN": (with_sampler(cfg=float("nan")), ("invalid_input_type", "2", "cfg", None)),
    "infinite": (with_sampler(steps=float("inf")), ("invalid_input_type", "2", "steps", None)),
    "null": (with_sampler(cfg=None), ("invalid_input_type", "2", "cfg", None)),
    "truth for a number": (with_sampler(steps=True), ("invalid_input_type", "2", "steps", None)),
    "too small": (with_sampler(steps=0), ("value_smaller_than_min", "2", "steps", "Use 1.")),
    "too big": (with_sampler(cfg=30.5), ("value_bigger_than_max", "2", "cfg", "Use 30.0.")),
    "no choice": (
        with_sampler(sampler_name="eular"),
        ("value_not_in_list", "2", "sampler_name", 'Did you mean "euler"?'),
    ),
    "choice of another kind": (
        with_sampler(sampler_name=3),
        ("value_not_in_list", "2", "sampler_name", None),
    ),
    "missing model": (
        {**with_sampler(), "n1": node("LoadCheckpoint", ckpt_name="tiny.ckpt")},
        ("value_not_in_list", "1", "ckpt_name", 'Did you mean "tiny.safetensors"?'),
    ),
    "model in another folder": (
        {**with_sampler(), "n1": node("LoadCheckpoint", ckpt_name="photo.safetensors")},
        ("value_not_in_list", "1", "ckpt_name", 'Did you mean "sd/photo.safetensors"?'),
    ),
    "missing picture": (
        {"n1": node("LoadImage", image="zzz"), "n2": node("Show", value=["1", 0])},
        ("value_not_in_list", "1", "image", "Upload the file"),
    ),
    "no model at all": (
        {**with_sampler(), "n1": node("LoadCheckpoint", ckpt_name=None)},
        ("invalid_input_type", "1", "ckpt_name", None),
    ),
    "wrong tag": (
        {"n1": node("Tags", tags=["a", "z"]), "n2": node("Show", value=["1", 0])},
        ("value_not_in_list", "1", "tags", None),
    ),
    "cycle": (
        {
            "n1": node("Add", "A", a=["2", 0]),
            "n2": node("Add", "B", a=["1", 0]),
            "n3": node("Show", value=["2", 0]),
        },
        ("dependency_cycle", "2", None, "Remove one"),
    ),
    "node that needs itself": (
        {"n1": node("Add", a=["1", 0]), "n2": node("Show", value=["1", 0])},
        ("dependency_cycle", "1", None, "Remove one"),
    ),
    "no output": ({"n1": LOADER}, ("prompt_no_outputs", None, None, "SaveImage")),
    "no node": ({}, ("prompt_no_outputs", None, None, "SaveImage")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_prompt(name: str) -> None:
    nodes, (code, node_id, input_name, advice) = BROKEN[name]
    found = check(**nodes)
    assert found.bad_outputs or code == "prompt_no_outputs"
    assert len(found.errors) == 1, found.problems
    problem = found.errors[0]
    assert (problem.code, problem.node_id, problem.input_name) == (code, node_id, input_name)
    assert problem.message.endswith(".")
    assert problem.got
    assert problem.expected
    assert advice is None or advice in (problem.hint or "")
    if node_id is not None:
        assert problem.node_type


def test_a_good_prompt_has_no_problems() -> None:
    found = check(**with_sampler())
    assert found.problems == ()
    assert found.good_outputs == ("3",)
    assert found.bad_outputs == ()


def test_all_problems_come_at_once() -> None:
    found = check(
        n1=node("CheckpointLoaderSimple", ckpt_name="no.safetensors"),
        n2=sampler(steps=0, cfg="x", sampler_name="no", model=...),
        n3=node("Nope", value=["2", 0]),
        n4=node("Show", value=["3", 0]),
        n5=node("Show", value=["2", 7]),
        n6=node("Show", value=["1", 0]),
    )
    assert {(p.node_id, p.code) for p in found.errors} == {
        ("1", "value_not_in_list"),
        ("2", "value_smaller_than_min"),
        ("2", "invalid_input_type"),
        ("2", "value_not_in_list"),
        ("2", "required_input_missing"),
        ("3", "missing_node_type"),
        ("5", "bad_linked_input"),
    }


def test_a_cycle_is_named_in_the_direction_of_the_data() -> None:
    found = check(
        n1=node("Add", "A", a=["3", 0]),
        n2=node("Add", "B", a=["1", 0]),
        n3=node("Add", "C", a=["2", 0]),
        n4=node("Show", value=["3", 0]),
    )
    (problem,) = found.errors
    cycle = problem.extra["cycle"]
    assert isinstance(cycle, list)
    assert cycle[0] == cycle[-1]
    assert "A (1) -> B (2) -> C (3) -> A (1)" in problem.message.replace(
        "C (3) -> A (1) -> B (2) -> C (3)", "A (1) -> B (2) -> C (3) -> A (1)"
    )


def test_a_long_cycle_is_shortened() -> None:
    nodes = {f"n{i}": node("Add", a=[str(i - 1), 0]) for i in range(1, 3000)}
    found = check(**nodes, n0=node("Add", a=["2999", 0]), nx=node("Show", value=["5", 0]))
    (problem,) = found.errors
    assert "more …" in problem.message
    assert len(problem.message) < 600


def test_outputs_after_a_cycle_are_refused() -> None:
    found = check(
        n1=node("Add", a=["2", 0], b=["3", 0]),
        n2=node("Add", a=["1", 0]),
        n3=node("Add", a=["1", 0]),
        n4=node("Show", value=["3", 0]),
        n5=node("Show", value=["2", 0]),
        n6=node("Number", value=1),
        n7=node("Show", value=["6", 0]),
    )
    assert found.bad_outputs == ("4", "5")
    assert found.good_outputs == ("7",)


def test_good_outputs_run_though_others_are_refused() -> None:
    found = check(
        n1=node("Number", value=1),
        n2=node("Number", value="x"),
        n3=node("Show", value=["1", 0]),
        n4=node("Show", value=["2", 0]),
        n5=node("Add", a=["2", 0]),
        n6=node("Show", value=["5", 0]),
    )
    assert found.good_outputs == ("3",)
    assert found.bad_outputs == ("4", "6")
    assert found.dependent_outputs == {"2": ("4", "6")}


def test_problems_that_no_output_meets_are_warnings() -> None:
    found = check(
        n1=node("Number", value="x"), n2=node("Add", a=["1", 0]), **shifted(with_sampler())
    )
    assert [(p.code, p.severity) for p in found.problems] == [("invalid_input_type", "warning")]
    assert found.can_run


def shifted(nodes: Any):
    """The same nodes under ids from 10 on."""
    out = {}
    for name, one in nodes.items():
        inputs = {
            n: [f"1{v[0]}", v[1]] if isinstance(v, list) else v for n, v in one["inputs"].items()
        }
        out[f"n1{name[1:]}"] = {**one, "inputs": inputs}
    return out


def test_a_cycle_that_no_output_needs_is_a_warning() -> None:
    found = check(n1=node("Add", a=["1", 0]), n2=node("Show", value=1))
    assert [(p.code, p.severity) for p in found.problems] == [("dependency_cycle", "warning")]
    assert found.good_outputs == ("2",)


def test_undeclared_inputs_are_warnings_and_stay() -> None:
    found = check(**with_sampler(upload="image"))
    assert [(p.code, p.severity) for p in found.problems] == [("undeclared_input", "warning")]
    assert found.graph.nodes["2"].inputs["upload"] == "image"
    assert found.can_run


def test_a_lora_tag_in_a_text_encoder_gets_a_warning() -> None:
    text = node("CLIPTextEncode", text="a boat <lora:ink:1>", clip=["1", 1])
    found = check(n1=LOADER, n2=text, n3=node("Show", value=["2", 0]))
    (warning,) = found.problems
    assert (warning.code, warning.severity, warning.node_id) == ("no_effect", "warning", "2")
    assert warning.hint and "Load LoRAs from Text" in warning.hint
    assert check(n1=node("Show", value="<lora:ink:1>")).problems == ()


def test_numbered_names_are_no_typing_errors() -> None:
    found = check(n1=node("Add", a=1, a2=1), n2=node("Show", value=["1", 0]))
    assert [p.severity for p in found.problems] == ["warning"]


def test_nodes_that_take_anything_get_no_warning() -> None:
    assert check(n1=node("Kwargs", a=1, x=2), n2=node("Show", value=["1", 0])).problems == ()


@pytest.mark.parametrize(
    ("kind", "given_value", "taken"),
    [
        ("Number", 20, 20),
        ("Number", 20.0, 20),
        ("Number", "20", 20),
        ("Number", " 20.0 ", 20),
        ("Number", "-3", -3),
        ("Number", "18446744073709551615", 18446744073709551615),
        ("Number", 2**64, 2**64),
        ("Real", 20, 20.0),
        ("Real", "2.5", 2.5),
        ("Real", "1e3", 1000.0),
    ],
)
def test_numbers_are_converted(kind: str, given_value: Any, taken: Any) -> None:
    found = check(n1=node(kind, value=given_value), n2=node("Show", value=["1", 0]))
    value = found.graph.nodes["1"].inputs["value"]
    assert (value, type(value)) == (taken, type(taken))
    assert found.problems == ()


@pytest.mark.parametrize(
    "value",
    ["1_000", "٣", "nan", "inf", "1e400", "", "0x10", 10**400, "9" * 5000, "1,5", {}, "20.5"],
)
def test_numbers_that_are_none(value: Any) -> None:
    for kind in ("Number", "Real"):
        if (kind, value) in (("Real", "20.5"), ("Number", 10**400)):
            continue
        found = check(n1=node(kind, value=value), n2=node("Show", value=["1", 0]))
        assert [p.code for p in found.errors] == ["invalid_input_type"]


@pytest.mark.parametrize(
    ("value", "taken"), [(True, True), (0, False), (1.0, True), ("True", True)]
)
def test_truths_are_converted(value: Any, taken: Any) -> None:
    found = check(**with_sampler(noise=value))
    assert found.graph.nodes["2"].inputs["noise"] is taken


@pytest.mark.parametrize("value", ["yes", 2, None, "", {}])
def test_truths_that_are_none(value: Any) -> None:
    assert [p.code for p in check(**with_sampler(noise=value)).errors] == ["invalid_input_type"]


def test_a_number_may_stand_for_a_text() -> None:
    found = check(n1=LOADER, n2=node("CLIPTextEncode", text=7, clip=["1", 1]), n3=SHOW2)
    assert found.graph.nodes["2"].inputs["text"] == "7"


SHOW2 = node("Show", value=["2", 0])


def test_the_graph_that_came_is_left_as_it_was() -> None:
    graph = parse_prompt({"1": node("Number", value="20"), "2": node("Show", value=["1", 0])})
    found = validate(graph, CATALOGUE, files_of)
    assert graph.nodes["1"].inputs["value"] == "20"
    assert found.graph.nodes["1"].inputs["value"] == 20
    assert found.graph.nodes["2"] is graph.nodes["2"]


@pytest.mark.parametrize("name", ["sub\\photo.png", "sub/photo.png [input]", "x.png [output]"])
def test_file_names_as_clients_write_them(name: str) -> None:
    found = check(n1=node("LoadImage", image=name), n2=node("Show", value=["1", 0]))
    assert found.problems == ()


def test_a_missing_file_is_named_for_programs() -> None:
    found = check(n1=node("LoadImage", image="a\\b.png"), n2=node("Show", value=["1", 0]))
    assert found.errors[0].extra == {"folder": "input", "file": "a/b.png"}


def test_unions_and_any_fit() -> None:
    found = check(
        n1=IMAGE,
        n2=node("Either", value=["1", 1], mask=["1", 1]),
        n3=node("SaveImage", images=["2", 0]),
        n4=node("Anything", value=["1", 0]),
        n5=node("SaveImage", images=["4", 0]),
    )
    assert found.problems == ()


def test_a_missing_optional_socket_may_be_null() -> None:
    found = check(n1=IMAGE, n2=node("Either", value=["1", 0], mask=None), n3=SHOW2)
    assert found.problems == ()


def test_values_of_a_packs_own_type() -> None:
    for value in ({"__value__": [1, 2]}, {"r": 1}, "#fff", 3, None):
        found = check(n1=node("Custom", value=value), n2=node("Show", value=["1", 0]))
        assert found.problems == ()


def test_many_undeclared_names_cost_few_comparisons() -> None:
    names = {f"guidanc{i:x}": 1 for i in range(100)}
    prompt = {str(i): node("KSampler", **names) for i in range(300)}
    found = validate(parse_prompt(prompt), CATALOGUE, files_of)
    assert len(found.problems) > 300 * 100


def test_multiselect() -> None:
    found = check(n1=node("Tags", tags={"__value__": ["a", "c"]}), n2=node("Show", value=["1", 0]))
    assert found.problems == ()


def test_the_nodes_own_check_replaces_ranges() -> None:
    nodes = {"n1": node("OwnCheck", a=9, b=5), "n2": node("Show", value=["1", 0])}
    found = check(**nodes)
    assert found.problems == ()
    assert nodes_with_own_check(found, CATALOGUE) == ("1",)
    problem = Problem(code="custom_validation_failed", message="No.", node_id="1")
    refused = with_problems(found, CATALOGUE, [problem])
    assert refused.bad_outputs == ("2",)
    assert refused.errors == (problem,)


def test_own_checks_keep_what_was_found_before() -> None:
    found = check(n1=node("Number", value="x"), n2=node("Show", value=["1", 0]), n3=node("Nope"))
    assert with_problems(found, CATALOGUE, []).problems == found.problems


def test_targets_limit_the_run() -> None:
    nodes = {
        "n1": node("Number", value="x"),
        "n2": node("Show", value=["1", 0]),
        "n3": node("Number", value=1),
        "n4": node("Show", value=["3", 0]),
    }
    found = check(targets=["4", "4"], **nodes)
    assert found.good_outputs == ("4",)
    assert found.bad_outputs == ()
    assert [p.severity for p in found.problems] == ["warning"]
    assert check(targets=["3"], **nodes).good_outputs == ("3",)
    assert {p.code for p in check(targets=["9"], **nodes).errors} == {
        "unknown_target",
        "prompt_no_outputs",
    }
    assert {p.code for p in check(targets=[], **nodes).errors} == {"prompt_no_outputs"}


def test_files_are_listed_once_per_folder() -> None:
    asked = []

    def list_files(folder: str):
        asked.append(folder)
        return FILES.get(folder, [])

    prompt = {str(i): node("LoadImage", image=f"no{i}") for i in range(50)}
    validate(parse_prompt(prompt), CATALOGUE, list_files)
    assert asked == ["input"]


class CountingDict(dict):
    """A dictionary that counts how often it is read."""

    reads = 0

    def get(self, *args: Any):
        CountingDict.reads += 1
        return super().get(*args)

    def __getitem__(self, key: str):
        CountingDict.reads += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("shape", ["chain", "fan", "errors", "cycles"])
def test_work_is_linear_in_the_graph(shape: str) -> None:
    def reads(size: int):
        prompt = SHAPES[shape](size)
        graph = parse_prompt(prompt)
        graph.nodes = CountingDict(graph.nodes)
        CountingDict.reads = 0
        validate(graph, CATALOGUE, files_of)
        return CountingDict.reads

    assert reads(4000) < 4.2 * reads(1000) + 100


SHAPES = {
    "chain": chain,
    "fan": lambda n: {
        "0": node("Number", value=1),
        **{str(i): node("Show", value=["0", 0]) for i in range(1, n)},
    },
    "errors": lambda n: {
        i: {**one, "inputs": {**one["inputs"], "b": "x"}} for i, one in chain(n).items()
    },
    "cycles": lambda n: (
        {str(i): node("Add", a=[str((i + 1) % n), 0], b=["0", 0]) for i in range(n)}
        | {"show": node("Show", value=["0", 0])}
    ),
}


def test_a_chain_of_ten_thousand() -> None:
    found = validate(parse_prompt(chain(10_000)), CATALOGUE, files_of)
    assert found.good_outputs == ("show",)


def test_many_unknown_types_cost_few_suggestions() -> None:
    prompt = {str(i): node(f"KSamplr{i}") for i in range(3000)}
    found = validate(parse_prompt(prompt), CATALOGUE, files_of)
    assert len(found.errors) == 3000
    assert sum("Did you mean" in (p.hint or "") for p in found.errors) <= 64


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["euler", "tiny.safetensors", "20"])
    | st.tuples(st.sampled_from(["0", "1", "2", "9"]), st.integers(-1, 4)).map(list),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below, max_size=2)
    ),
    max_leaves=4,
)
INPUT_NAMES = sorted({i.name for spec in CATALOGUE for i in spec.inputs} | {"extra"})
NODES = st.builds(
    lambda kind, inputs: {"class_type": kind, "inputs": inputs},
    st.sampled_from([*sorted(CATALOGUE.names), "Unknown"]),
    st.dictionaries(
        st.sampled_from(INPUT_NAMES),
        VALUES,
        max_size=6,
    ),
)


@FUZZ
@given(st.dictionaries(st.sampled_from(["0", "1", "2", "3", "4"]), NODES, max_size=5))
def test_any_prompt_is_judged(prompt: dict[str, Any]) -> None:
    try:
        graph = parse_prompt(prompt)
    except GraphInvalid:
        return
    found = validate(graph, CATALOGUE, files_of)
    assert found.errors or found.good_outputs
    assert not set(found.good_outputs) & set(found.bad_outputs)
    assert json.dumps(to_wire(found))
