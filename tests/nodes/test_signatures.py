"""The built-in nodes' inputs and outputs are those of the ecosystem's nodes of the same name.

`node_signatures.json` was recorded from the reference engine; nodes of our own are not in it.
"""

import json
from typing import Any

import pytest

from engine.api.spec import InputSpec, NodeSpec
from tests.nodes.recorded import NODE_TYPES, REFERENCE

SIGNATURES: dict[str, Any] = json.loads((REFERENCE / "node_signatures.json").read_text())
SHARED = sorted(set(SIGNATURES) & set(NODE_TYPES))
KEYS = ("default", "min", "max", "step", "round", "multiline", "control_after_generate")
# Offered choices may be fewer than recorded: only what is built is in the list.
FEWER_CHOICES = {
    "CLIPLoader",
    "DualCLIPLoader",
    "ModelSamplingContinuousEDM",
    "SamplerEulerCFGpp",
    "SetUnionControlNetType",
    "StyleModelApply",
}
CARD_NAMES = {
    "LoadCheckpoint": "CheckpointLoaderSimple",
    "CLIPEncode": "CLIPTextEncode",
    "EmptyLatent": "EmptyLatentImage",
    "LoRALoader": "LoraLoader",
}

ADDED = frozenset({"pndm"})  # a sampler of the courses beyond the ecosystem's own list


def _recorded(kind: str, name: str, value: list[Any]) -> dict[str, Any]:
    options = dict(value[1]) if len(value) > 1 else {}
    choices = value[0] if isinstance(value[0], list) else options.get("options")
    # No files lay in the recorded engine's folder of upscale models.
    is_files = value[0] == "<files>" or choices in ("<files>", ["<files>"], [])
    return {
        "kind": kind,
        "name": name,
        "type": "COMBO" if choices is not None or is_files else value[0],
        "choices": None if is_files else choices,
        "options": {k: options[k] for k in KEYS if options.get(k) not in (None, False)},
    }


def _ours(item: InputSpec) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "name": item.name,
        "type": item.type,
        "choices": None if item.choices is None else [c for c in item.choices if c not in ADDED],
        "options": {k: item.options[k] for k in KEYS if item.options.get(k) not in (None, False)},
    }


def _without_implied_default(item: dict[str, Any], implied: object) -> dict[str, Any]:
    """A plain widget starts at 0 or an empty text, said or not."""
    options = {k: v for k, v in item["options"].items() if (k, v) != ("default", implied)}
    return {**item, "options": options}


def _comparable(item: dict[str, Any]) -> dict[str, Any]:
    implied = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(item["type"])
    return _without_implied_default(item, implied)


@pytest.mark.parametrize("name", SHARED)
def test_inputs_are_those_of_the_ecosystem(name: str) -> None:
    spec: NodeSpec = NODE_TYPES[name].spec
    recorded = [
        _comparable(_recorded(kind, key, value))
        for kind in ("required", "optional")
        for key, value in SIGNATURES[name]["input"].get(kind, {}).items()
    ]
    ours = [_comparable(_ours(item)) for item in spec.inputs]
    if name in FEWER_CHOICES:
        for want, have in zip(recorded, ours, strict=True):
            if want["choices"]:
                assert set(have["choices"]) <= set(want["choices"])
                want["choices"] = have["choices"]
    assert ours == recorded


@pytest.mark.parametrize("name", SHARED)
def test_outputs_and_category_are_those_of_the_ecosystem(name: str) -> None:
    spec, want = NODE_TYPES[name].spec, SIGNATURES[name]
    assert [o.type for o in spec.outputs] == want["output"]
    assert [o.name for o in spec.outputs] == want["output_name"]
    assert spec.category == want["category"]
    assert spec.is_output == want.get("output_node", False)
    assert spec.title == (want["display_name"] or name)


@pytest.mark.parametrize(("card", "name"), sorted(CARD_NAMES.items()))
def test_card_names_are_aliases(card: str, name: str) -> None:
    assert card in NODE_TYPES[name].spec.aliases


def test_every_node_explains_itself() -> None:
    for name, node_type in NODE_TYPES.items():
        assert node_type.spec.description.endswith("."), name


def test_names_and_aliases_are_unique() -> None:
    names = [n for t in NODE_TYPES.values() for n in (t.spec.name, *t.spec.aliases)]
    assert len(names) == len(set(names))


def test_loaders_that_clients_look_for_are_there() -> None:
    wanted = "ImageOnlyCheckpoint Lora UNET UpscaleModel StyleModel GLIGEN VAE ControlNet"
    names = {f"{kind}Loader" for kind in wanted.split()}
    assert {*names, "CheckpointLoaderSimple", "LoraLoaderModelOnly"} <= set(NODE_TYPES)
