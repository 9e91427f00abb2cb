"""The declarative form, over the pack `schema_features`."""

from typing import Any

import pytest
import torch

from engine.api.node import Blocked, NodeOutput
from engine.api.recipe import FileRef, Recipe
from engine.plugins.check_values import CheckContext
from engine.plugins.execution_api import ExecutionBlocker
from engine.plugins.model_facade import MissingHostSymbol
from engine.plugins.pack_values import from_pack
from engine.plugins.registry import NodeRegistry
from engine.plugins.schema_api import io, latest, ui

MODEL = Recipe(part="denoiser", family="tiny", files=(FileRef(path="a", digest="d"),))


def test_schema_becomes_a_spec(registry: NodeRegistry) -> None:
    spec = registry.get("SchemaBlend").spec
    assert (spec.title, spec.category, spec.description) == (
        "Blend",
        "features/schema",
        "Mixes two numbers.",
    )
    assert spec.search == ("mix",) and spec.is_experimental
    assert [(i.name, i.type, i.kind, dict(i.options)) for i in spec.inputs] == [
        ("a", "INT", "required", {"default": 1, "min": 0, "max": 10, "display": "slider"}),
        ("share", "FLOAT", "required", {"default": 0.5, "min": 0.0, "max": 1.0, "tooltip": "of b"}),
        ("speed", "COMBO", "required", {"default": "fast"}),
        ("exact", "BOOLEAN", "optional", {"default": True}),
        ("image", "IMAGE,MASK", "optional", {}),
        ("own", "OWN", "optional", {"lazy": True}),
        ("anything", "*", "optional", {"rawLink": True}),
        ("unique_id", "UNIQUE_ID", "hidden", {}),
        ("prompt", "PROMPT", "hidden", {}),
    ]
    assert spec.inputs[2].choices == ("slow", "fast")
    assert [(o.name, o.type, o.tooltip) for o in spec.outputs] == [("mixed", "FLOAT", "the mix")]


def test_execute_sees_hidden_values_and_shows_text(
    registry: NodeRegistry, ctx: CheckContext
) -> None:
    values = {"a": 4, "share": 0.5, "speed": "fast"}
    output = registry.get("SchemaBlend").call(values, ctx)
    assert output == NodeOutput(result=(2.0,), ui={"text": ("5:1 fast",)})


def test_checks_fingerprints_and_lazy_inputs(registry: NodeRegistry, ctx: CheckContext) -> None:
    node = registry.get("SchemaBlend")
    assert node.spec.validated_inputs == ("a", "share")
    assert node.validate and node.is_changed and node.check_lazy
    (problem,) = list(node.validate({"a": 5, "share": 0.1}, {}))  # pyright: ignore[reportArgumentType]
    assert problem.message == "a must not be 5"
    assert node.is_changed({"a": 3, "share": 1}) == "a is 3"
    assert node.check_lazy({"a": 2}, ctx) == ("own",)
    assert node.check_lazy({"a": 1}, ctx) == ()


async def test_async_execute_stores_its_preview(registry: NodeRegistry, ctx: CheckContext) -> None:
    node = registry.get("SchemaShow")
    assert node.spec.is_async and node.spec.is_output
    assert [i.type for i in node.spec.inputs] == ["IMAGE", "UNIQUE_ID"]  # not_idempotent
    output: Any = await node.call({"image": torch.zeros(2, 4, 6, 3)}, ctx)  # pyright: ignore[reportGeneralTypeIssues]
    assert [i["type"] for i in output.ui["images"]] == ["temp", "temp"]


def test_blocking_and_lists(registry: NodeRegistry, ctx: CheckContext) -> None:
    node = registry.get("SchemaStop")
    assert node.spec.takes_lists and node.spec.outputs[1].is_list
    blocked = node.call({"model": [MODEL], "why": ["no"]}, ctx)
    assert blocked == NodeOutput(result=(Blocked("no"),) * 2)
    passed = node.call({"model": [MODEL], "why": [""]}, ctx)
    assert passed == NodeOutput(result=(MODEL, [1, 2]))


def test_uploads_and_multiselect_become_options() -> None:
    made = io.Combo.Input("file", options=["a"], upload=io.UploadType.image)
    assert made.options == {"image_upload": True} and made.choices == ("a",)
    assert io.MultiCombo.Input("m", ["a", "b"]).options == {"multiselect": True}
    widget = io.MultiType.Input(io.Float.Input("f", default=1.0), types=[io.Image])
    assert (widget.io_type, widget.options) == ("FLOAT,IMAGE", {"default": 1.0})


def test_masks_are_shown_in_grey(ctx: CheckContext) -> None:
    assert len(ui.PreviewMask(torch.ones(2, 4, 4)).shown(ctx)["images"]) == 2


def test_saved_images_keep_their_names(ctx: CheckContext) -> None:
    saved = ui.SavedImages([ui.SavedResult("a.png", "sub", io.FolderType.output)])
    expected = {"filename": "a.png", "subfolder": "sub", "type": "output"}
    assert saved.shown(ctx) == {"images": [expected]}


def test_blocker_of_the_host_is_known() -> None:
    assert from_pack([1, ExecutionBlocker(None)]) == [1, Blocked()]


@pytest.mark.parametrize(
    ("module", "name"), [(io, "Autogrow"), (ui, "PreviewAudio"), (latest, "InputImpl")]
)
def test_what_is_not_offered_is_named(module: Any, name: str) -> None:
    with pytest.raises(MissingHostSymbol, match=name):
        getattr(module, name)
