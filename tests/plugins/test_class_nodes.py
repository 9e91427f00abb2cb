"""One test for each feature of the class convention, over the pack `class_features`."""

import asyncio
import math
from typing import Any

import pytest

from engine.api.errors import NodeError
from engine.api.node import Blocked, NodeOutput
from engine.api.recipe import FileRef, Recipe
from engine.plugins.check_values import CheckContext
from engine.plugins.class_nodes import MAX_INSTANCES
from engine.plugins.loader import PackLoader
from engine.plugins.model_facade import MissingHostSymbol
from engine.plugins.registry import NodeRegistry

MODEL = Recipe(part="denoiser", family="tiny", files=(FileRef(path="a", digest="d"),))


def call(registry: NodeRegistry, ctx: CheckContext, node: str, **values: Any) -> NodeOutput:
    output = registry.get(node).call(values, ctx)
    assert isinstance(output, NodeOutput)
    return output


def test_spec_holds_every_declared_thing(registry: NodeRegistry) -> None:
    spec = registry.get("FeatureTypes").spec
    assert (spec.title, spec.category, spec.pack) == (
        "Types of every kind",
        "features",
        "class_features",
    )
    assert spec.description == "Help from the docstring.\n\nMore help."
    assert spec.is_deprecated and spec.is_experimental and not spec.is_output
    kinds = {i.name: (i.kind, i.type) for i in spec.inputs}
    assert kinds == {
        "image": ("required", "IMAGE,MASK"),
        "anything": ("required", "*"),
        "count": ("required", "INT"),
        "scale": ("required", "FLOAT"),
        "mode": ("required", "COMBO"),
        "style": ("required", "COMBO"),
        "later": ("required", "STRING"),
        "link": ("required", "INT"),
        "extra": ("optional", "MASK"),
        "prompt": ("hidden", "PROMPT"),
        "dynprompt": ("hidden", "DYNPROMPT"),
        "info": ("hidden", "EXTRA_PNGINFO"),
        "my_id": ("hidden", "UNIQUE_ID"),
    }
    inputs = {i.name: i for i in spec.inputs}
    assert inputs["mode"].choices == ("a", "b") and inputs["style"].choices == ("x", "y")
    assert inputs["later"].is_lazy and inputs["link"].is_raw_link
    assert inputs["count"].options == {"default": 3, "min": 1, "max": 9, "forceInput": True}
    assert inputs["scale"].options == {}
    assert inputs["extra"].options == {"tooltip": "a mask"}


def test_outputs_have_names_types_lists_and_tooltips(registry: NodeRegistry) -> None:
    outputs = registry.get("FeatureTypes").spec.outputs
    assert [(o.name, o.type, o.is_list, o.tooltip) for o in outputs] == [
        ("picture", "IMAGE", False, "the picture"),
        ("rest", "*", True, ""),
        ("mode", "COMBO", False, ""),
    ]
    assert type(outputs[1].type) is str


def test_spec_goes_through_json(registry: NodeRegistry) -> None:
    for spec in registry.specs():
        assert type(spec).from_json(spec.to_json()) == spec


def test_hidden_inputs_are_filled_in(registry: NodeRegistry, ctx: CheckContext) -> None:
    output = call(registry, ctx, "FeatureTypes", image=None, count=1, anything=None)
    assert output.result == (ctx.prompt, [ctx.prompt["5"], "5"], "5:1")


def test_output_node_gives_ui(registry: NodeRegistry, ctx: CheckContext) -> None:
    spec = registry.get("FeatureOutput").spec
    assert spec.is_output and spec.description == "Help from DESCRIPTION."
    assert call(registry, ctx, "FeatureOutput", text="hello").ui == {"text": ["hello"]}


def test_list_node_gets_everything_as_lists(registry: NodeRegistry, ctx: CheckContext) -> None:
    node = registry.get("FeatureLists")
    assert node.spec.takes_lists and node.spec.outputs[0].is_list
    assert call(registry, ctx, "FeatureLists", n=[1, 2]).result == ([1, 2, ["5:1"]],)
    assert node.is_changed and node.is_changed({"n": 4}) == [4]


def test_is_changed_gets_constants_and_none_for_links(registry: NodeRegistry) -> None:
    is_changed = registry.get("FeatureChanges").is_changed
    assert is_changed is not None
    assert is_changed({"seed": 2, "image": None}) == [2, None]
    assert is_changed({"seed": 2}) == [2, None]
    assert math.isnan(is_changed({"seed": 0, "image": None}))


def test_validate_inputs_names_what_it_takes_over(registry: NodeRegistry) -> None:
    node = registry.get("FeatureChecks")
    assert node.spec.has_validate
    assert node.spec.validated_inputs == ("low", "high", "input_types")
    assert node.validate is not None
    assert node.validate({"low": 1, "high": 2, "image": None}, {"image": "IMAGE"}) == ()
    (problem,) = list(node.validate({"low": 3, "high": 2}, {}))  # pyright: ignore[reportArgumentType]
    assert (problem.code, problem.message) == (
        "custom_validation_failed",
        "low 3 is not below high 2",
    )
    (problem,) = list(node.validate({"low": 1, "high": 2}, {"image": "MASK"}))  # pyright: ignore[reportArgumentType]
    assert problem.message == "image must be an IMAGE"


async def test_validate_inputs_may_be_async_and_take_everything(registry: NodeRegistry) -> None:
    node = registry.get("FeatureAsyncChecks")
    assert node.spec.validated_inputs == ("low", "high", "image")
    assert node.validate is not None
    assert await node.validate({"low": 1}, {}) == ()  # pyright: ignore[reportGeneralTypeIssues]
    (problem,) = await node.validate({"low": 2}, {})  # pyright: ignore[reportGeneralTypeIssues]
    assert "refused its inputs" in problem.message


def test_lazy_inputs_are_asked_for(registry: NodeRegistry, ctx: CheckContext) -> None:
    node = registry.get("FeatureLazy")
    assert node.spec.has_check_lazy and node.check_lazy is not None
    assert node.check_lazy({"which": True}, ctx) == ("yes",)
    assert node.check_lazy({"which": True, "yes": 1}, ctx) == ()
    assert call(registry, ctx, "FeatureLazy", which=True, yes=1).result == (1,)


def test_async_function_gives_an_awaitable(registry: NodeRegistry, ctx: CheckContext) -> None:
    node = registry.get("FeatureAsync")
    assert node.spec.is_async

    async def run() -> NodeOutput:
        return await node.call({"n": 1}, ctx)  # pyright: ignore[reportGeneralTypeIssues]

    assert asyncio.run(run()).result == (2,)


def test_blockers_are_known_by_their_shape(registry: NodeRegistry, ctx: CheckContext) -> None:
    blocked = Blocked("stop here")
    assert call(registry, ctx, "FeatureBlocker", how="one").result == (1, blocked)
    assert call(registry, ctx, "FeatureBlocker", how="all").result == (blocked, blocked)


def test_wrong_returns_are_named(registry: NodeRegistry, ctx: CheckContext) -> None:
    with pytest.raises(NodeError, match="returned 1 values, but it declares 2"):
        call(registry, ctx, "FeatureBlocker", how="none")
    with pytest.raises(NodeError, match="returned a int, not a tuple"):
        call(registry, ctx, "FeatureBlocker", how="tensor")


def test_expansion_holds_recipes_again(registry: NodeRegistry, ctx: CheckContext) -> None:
    output = call(registry, ctx, "FeatureExpand", model=MODEL)
    assert output.result == (["1", 0],)
    assert output.expand == {
        "1": {"class_type": "FeatureAsync", "inputs": {"n": 1, "model": MODEL}}
    }


def test_dict_subclass_claims_every_input(registry: NodeRegistry, ctx: CheckContext) -> None:
    assert registry.get("FeatureAnyInput").spec.takes_any_input
    assert call(registry, ctx, "FeatureAnyInput", a=1, b=2).result == (3,)


def test_undeclared_inputs_reach_only_functions_that_take_them(
    registry: NodeRegistry, ctx: CheckContext
) -> None:
    assert not registry.get("FeatureOutput").spec.takes_any_input
    assert call(registry, ctx, "FeatureOutput", text="a", stale=1).ui == {"text": ["a"]}


def test_instances_live_per_node_and_are_bounded(registry: NodeRegistry, ctx: CheckContext) -> None:
    def count(node_id: str) -> int:
        ctx.node_id = node_id
        return call(registry, ctx, "FeatureState").result[0]

    assert [count("1"), count("1"), count("2"), count("1")] == [1, 2, 1, 3]
    for i in range(MAX_INSTANCES):
        count(f"other {i}")
    assert count("1") == 1


def test_model_hooks_end_up_on_the_recipe(registry: NodeRegistry, ctx: CheckContext) -> None:
    (hooked,) = call(registry, ctx, "FeatureModel", model=MODEL, how="hooks").result
    assert [h.slot for h in hooked.hooks] == [
        "unet_function_wrapper",
        "sampler_cfg_function",
        "sampler_pre_cfg_function",
        "sampler_post_cfg_function",
        "sampler_post_cfg_function",
        "denoise_mask_function",
    ]
    assert [f({}) for f in hooked.hooks_of("sampler_post_cfg_function")] == ["post 1", "post 2"]
    assert hooked.option("disable_cfg1_optimization") is True
    assert hooked.weights_identity == MODEL.weights_identity and MODEL.hooks == ()
    assert call(registry, ctx, "FeatureModel", model=MODEL, how="none").result == (MODEL,)


def test_missing_host_feature_is_named(registry: NodeRegistry, ctx: CheckContext) -> None:
    with pytest.raises(MissingHostSymbol) as caught:
        call(registry, ctx, "FeatureModel", model=MODEL, how="missing")
    for word in ("FeatureModel", "class_features", "MODEL.set_model_attn1_patch"):
        assert word in caught.value.message


def test_broken_class_is_refused_and_the_rest_works(loader: PackLoader) -> None:
    report = loader.reports["class_features"]
    assert (
        list(report.refused) == ["FeatureBroken"] and "not_there" in report.refused["FeatureBroken"]
    )
    assert "FeatureTypes" in report.nodes and str(report.web_folder).endswith("web")


def test_choices_are_read_again_on_request(registry: NodeRegistry) -> None:
    assert registry.refresh_specs() == ()
    call_globals = registry.get("FeatureTypes")
    version = call_globals.spec.version
    choices = _choices_of(registry)
    choices.append("c")
    try:
        assert registry.refresh_specs() == ("FeatureTypes",)
        mode = registry.get("FeatureTypes").spec.input("mode")
        assert mode is not None and mode.choices == ("a", "b", "c")
        assert registry.get("FeatureTypes").spec.version == version
    finally:
        choices.remove("c")
        registry.refresh_specs()


def _choices_of(_registry: NodeRegistry) -> list[str]:
    import sys

    name = next(n for n in sys.modules if n.startswith("weft_pack_class") and n.endswith("nodes"))
    return sys.modules[name].CHOICES
