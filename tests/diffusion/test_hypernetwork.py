"""Hypernetworks: the file format against torch's own layers, and their effect on a model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.api.errors import CorruptFile, ModelError
from engine.diffusion.hypernetwork import Hypernetwork, read_hypernetwork
from engine.diffusion.weightfile import open_weights
from nodes.conditioning import clip_text_encode
from nodes.latent import empty_latent_image
from nodes.loaders import load_checkpoint, load_hypernetwork
from nodes.sampling import ksampler
from tests.nodes.context import context
from tests.tiny_checkpoint import write_tiny_checkpoint


def stack(width: int, seed: int) -> nn.Sequential:
    """Width, twice as wide, width; with layer norms, as the format numbers its layers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(width, 2 * width), nn.ReLU(), nn.LayerNorm(2 * width),
        nn.Linear(2 * width, width), nn.ReLU(), nn.LayerNorm(width),
    )  # fmt: skip


def write(path: Path, widths: tuple[int, ...] = (16, 32), **options: Any) -> Path:
    def state(module: nn.Module) -> dict[str, Any]:
        return {f"linear.{k}": v for k, v in module.state_dict().items()}

    path.parent.mkdir(parents=True, exist_ok=True)
    table: dict[Any, Any] = {w: [state(stack(w, 1)), state(stack(w, 2))] for w in widths}
    table |= {"activation_func": "relu", "is_layer_norm": True, "layer_structure": [1, 2, 1]}
    torch.save(table | options, path)
    return path


@pytest.mark.parametrize("activates_output", [True, False])
def test_keys_and_values_are_those_of_the_same_layers_in_torch(
    activates_output: bool, tmp_path: Path
) -> None:
    file = write(tmp_path / "hyper.pt", activate_output=activates_output)
    stacks = read_hypernetwork(open_weights(file))
    q, text = torch.randn(1, 4, 32), torch.randn(1, 7, 16)
    found = Hypernetwork(stacks=stacks, strength=0.5).patch(q, text, text, {})
    assert found[0] is q
    for seed, have in ((1, found[1]), (2, found[2])):
        layers = stack(16, seed)
        if not activates_output:
            layers = nn.Sequential(*(layer for n, layer in enumerate(layers) if n != 4))
        with torch.no_grad():
            torch.testing.assert_close(have, text + 0.5 * layers(text))
    wide = torch.randn(1, 7, 24)
    assert Hypernetwork(stacks=stacks, strength=1.0).patch(q, wide, wide, {})[1] is wide


def test_old_names_of_two_layers(tmp_path: Path) -> None:
    first, second = nn.Linear(16, 32), nn.Linear(32, 16)
    layers = {"linear1": first.state_dict(), "linear2": second.state_dict()}
    state = {f"{name}.{k}": v for name, found in layers.items() for k, v in found.items()}
    torch.save({16: [state, state]}, tmp_path / "old.pt")
    stacks = read_hypernetwork(open_weights(tmp_path / "old.pt"))
    x = torch.randn(2, 3, 16)
    with torch.no_grad():
        torch.testing.assert_close(stacks[16][0](x), second(first(x)))


def test_a_model_reads_its_prompt_through_it(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    write_tiny_checkpoint(tmp_path / "models/checkpoints/tiny.safetensors")
    write(tmp_path / "models/hypernetworks/hyper.pt")
    write(tmp_path / "models/hypernetworks/wide.pt", widths=(24,))
    model, clip, _ = load_checkpoint("tiny.safetensors", ctx=ctx)
    text, latent = clip_text_encode("a boat", clip, ctx=ctx), empty_latent_image(64, 64, 1)

    def sampled(strength: float) -> torch.Tensor:
        changed = load_hypernetwork(model, "hyper.pt", strength, ctx=ctx)
        settings: Any = (1, 2, 2.0, "euler", "normal", text, text, latent, 1.0)
        return ksampler(changed, *settings, ctx=ctx)["samples"]

    assert load_hypernetwork(model, "hyper.pt", 0.0, ctx=ctx) == model
    assert torch.equal(sampled(1e-30), sampled(0.0))
    assert not torch.allclose(sampled(1.0), sampled(0.0))
    with pytest.raises(ModelError, match="reads widths 24, but the model's text is 16 wide"):
        load_hypernetwork(model, "wide.pt", 1.0, ctx=ctx)


def test_other_files_are_told(tmp_path: Path) -> None:
    odd = write(tmp_path / "odd.pt", activation_func="wobble")
    with pytest.raises(ModelError, match="unknown activation wobble"):
        read_hypernetwork(open_weights(odd))
    torch.save({"a": torch.zeros(2)}, tmp_path / "none.pt")
    with pytest.raises(ModelError, match=r"none\.pt holds no hypernetwork"):
        read_hypernetwork(open_weights(tmp_path / "none.pt"))
    state = nn.Linear(16, 12).state_dict()
    half = {f"linear.0.{k}": v for k, v in state.items()}
    torch.save({16: [half, half]}, tmp_path / "half.pt")
    with pytest.raises(CorruptFile, match="width 16 do not fit"):
        read_hypernetwork(open_weights(tmp_path / "half.pt"))
