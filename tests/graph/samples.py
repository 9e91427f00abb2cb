"""Small node types for the tests of the graph, as specs."""

from collections.abc import Sequence
from typing import Any

from hypothesis import settings

from engine.api.spec import InputKind, InputSpec, NodeSpec, OutputSpec
from engine.graph.catalogue import Catalogue
from engine.graph.prompt import parse_prompt
from engine.graph.validate import validate

FUZZ = settings(max_examples=50, deadline=None, database=None)

FILES = {
    "checkpoints": ["tiny.safetensors", "sd/photo.safetensors"],
    "input": ["example.png", "sub/photo.png"],
}


def files_of(folder: str):
    return FILES.get(folder, [])


def _in(name: str, type: Any, kind: InputKind = "required", **more: Any):
    options = {k: more.pop(k) for k in tuple(more) if k not in ("choices", "folder")}
    return InputSpec(name=name, type=type, kind=kind, options=options, **more)


def _out(*types: str) -> tuple[OutputSpec, ...]:
    return tuple(OutputSpec(name=t, type=t) for t in types)


def _node(name: str, inputs: Any = (), outputs: Sequence[str] = (), **more: Any):
    more = {"title": name, "category": "test", **more}
    return NodeSpec(name=name, inputs=tuple(inputs), outputs=_out(*outputs), **more)


SPECS = [
    _node(
        "CheckpointLoaderSimple",
        [_in("ckpt_name", "COMBO", folder="checkpoints")],
        ["MODEL", "CLIP", "VAE"],
        aliases=("LoadCheckpoint",),
        title="Load Checkpoint",
    ),
    _node(
        "CLIPTextEncode",
        [_in("text", "STRING", dynamicPrompts=True), _in("clip", "CLIP")],
        ["CONDITIONING"],
    ),
    _node(
        "KSampler",
        [
            _in("model", "MODEL"),
            _in("steps", "INT", min=1, max=100, default=20),
            _in("cfg", "FLOAT", min=0.0, max=30.0),
            _in("sampler_name", "COMBO", choices=("euler", "heun", "dpmpp_2m")),
            _in("noise", "BOOLEAN", "optional"),
            _in("guidance", "FLOAT", "optional"),
        ],
        ["LATENT"],
        is_experimental=True,
    ),
    _node("LoadImage", [_in("image", "COMBO", folder="input")], ["IMAGE", "MASK"]),
    _node("Either", [_in("value", "IMAGE,MASK"), _in("mask", "MASK", "optional")], ["IMAGE,MASK"]),
    _node("Anything", [_in("value", "*")], ["*"]),
    _node("SaveImage", [_in("images", "IMAGE"), _in("prompt", "PROMPT", "hidden")], is_output=True),
    _node("Number", [_in("value", "INT")], ["INT"]),
    _node("Real", [_in("value", "FLOAT")], ["FLOAT"]),
    _node("Add", [_in("a", "INT"), _in("b", "INT", "optional")], ["INT"]),
    _node("Show", [_in("value", "*")], is_output=True),
    _node(
        "Switch",
        [_in("on", "BOOLEAN"), _in("yes", "*", lazy=True), _in("no", "*", lazy=True)],
        ["*"],
        has_check_lazy=True,
    ),
    _node("LazyWithoutCheck", [_in("value", "*", lazy=True)], ["*"]),
    _node("Raw", [_in("value", "*", rawLink=True)], ["*"]),
    _node("Kwargs", [_in("a", "INT")], ["INT"], takes_any_input=True),
    _node(
        "OwnCheck",
        [_in("a", "INT", min=0, max=5), _in("b", "INT", min=0, max=5)],
        ["INT"],
        has_validate=True,
        validated_inputs=("a",),
    ),
    _node("Clock", [], ["INT"], is_volatile=True),
    _node("Watch", [_in("a", "INT", "optional")], ["INT"], has_is_changed=True),
    _node("Custom", [_in("value", "COLOUR")], ["INT"]),
    _node("Tags", [_in("tags", "COMBO", choices=("a", "b", "c"), multiselect=True)], ["INT"]),
]
CATALOGUE = Catalogue({s.name: s for s in SPECS})


def node(class_type: str, title: str | None = None, /, **inputs: Any):
    out = {"class_type": class_type, "inputs": inputs}
    return out if title is None else {**out, "_meta": {"title": title}}


def graph(**nodes: Any):
    """A graph of nodes whose ids start with `n`: `n1` is node 1."""
    return parse_prompt({i.removeprefix("n"): n for i, n in nodes.items()})


def check(targets: Any = None, **nodes: Any):
    return validate(graph(**nodes), CATALOGUE, files_of, targets)


def chain(length: int):
    """A prompt of `length` additions in a row, shown at the end."""
    prompt = {"0": node("Add", a=1)}
    for i in range(1, length):
        prompt[str(i)] = node("Add", a=[str(i - 1), 0], b=i)
    prompt["show"] = node("Show", value=[str(length - 1), 0])
    return prompt
