"""Every registered node that makes SIGMAS or a SAMPLER, as a user drops it: with its defaults."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.api.node import NodeOutput, NodeType, node_type_of
from engine.diffusion.schedules import SCHEDULE_NAMES
from nodes import conditioning, custom_sampling, loaders, sigmas
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import write_tiny_checkpoint

TYPES = [node_type_of(made) for module in (custom_sampling, sigmas) for made in module.NODES]


def makers(kind: str) -> list[NodeType]:
    """The nodes that make a value of that kind out of numbers, choices and a model."""
    return [
        made
        for made in TYPES
        if [output.type for output in made.spec.outputs] == [kind]
        and not any(i.type in ("SIGMAS", "SAMPLER", "LATENT") for i in made.spec.inputs)
    ]


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Context:
    base: Path = tmp_path_factory.mktemp("sampling-values")
    write_tiny_checkpoint(base / "models/checkpoints/tiny.safetensors")
    return context(base)


@pytest.fixture(scope="module")
def parts(ctx: Context) -> tuple[Any, Any, Any]:
    return loaders.load_checkpoint("tiny.safetensors", ctx=ctx)


def made(node: NodeType, ctx: Context, model: Any) -> Any:
    """The node's value with its defaults, and the model where it wants one."""
    inputs: dict[str, Any] = {}
    for item in node.spec.inputs:
        if item.type == "MODEL":
            inputs[item.name] = model
        elif item.kind == "required":
            choices = item.choices or (None,)
            inputs[item.name] = item.options.get("default", choices[0])
    result = node.call(inputs, ctx)
    assert isinstance(result, NodeOutput)
    return result.result[0]


@pytest.mark.parametrize("node", makers("SIGMAS"), ids=lambda node: node.spec.name)
def test_a_schedule_falls(node: NodeType, ctx: Context, parts: Any) -> None:
    found = made(node, ctx, parts[0])
    assert torch.isfinite(found).all()
    assert (found.diff() < 0).all()
    assert found[-1] >= 0  # those of Laplace and PNDM end above it, as in their sources
    assert torch.equal(found, made(node, ctx, parts[0]))


@pytest.mark.parametrize("node", makers("SAMPLER"), ids=lambda node: node.spec.name)
def test_a_sampler_gives_the_same_latent_again(node: NodeType, ctx: Context, parts: Any) -> None:
    model, clip, _ = parts
    text = conditioning.clip_text_encode("a boat", clip, ctx=ctx)
    sampler = made(node, ctx, model)
    schedule = sigmas.basic_scheduler(model, SCHEDULE_NAMES[0], 3, 1.0, ctx=ctx)
    latent: Any = {"samples": torch.zeros(1, 4, 4, 4)}

    def run() -> torch.Tensor:
        result = custom_sampling.sampler_custom(
            model, True, 7, 2.0, text, text, sampler, schedule, latent, ctx=ctx
        )
        return result[0]["samples"]

    first = run()
    assert torch.isfinite(first).all()
    assert torch.equal(first, run())
