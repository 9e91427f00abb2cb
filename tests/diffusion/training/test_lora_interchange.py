"""LoRAs made here load in diffusers and peft with the same output; theirs load here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin as Loader
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.api.recipe import Recipe
from engine.diffusion.lora import add_lora, open_lora
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.adapter_files import LoraFormat, lora_tensors
from engine.diffusion.training.adapters import (
    Adapters,
    AdapterSettings,
    DoraAxis,
    Targets,
    text_layers,
    unet_layers,
)
from engine.diffusion.training.result_files import write_result
from tests.diffusion.training.parity import transformers_text
from tests.diffusion.training.tiny_runs import parts_of
from tests.tiny_checkpoint import TINY_METADATA, fill, tiny_keys

pytestmark = pytest.mark.slow

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
T = torch.tensor([30, 700])
CONTEXT = torch.randn(2, 77, 16, generator=torch.Generator().manual_seed(2))
IDS = torch.randint(0, 49000, (2, 77), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a model in fp32: text is patched in the file's own type, fp16 would round it."""
    folder = tmp_path_factory.mktemp("interchange")
    metadata = {"format": "pt", **TINY_METADATA}
    save_file(fill(tiny_keys(), 0, torch.float32), folder / "tiny.safetensors", metadata)
    return folder


@pytest.fixture(scope="module")
def pool() -> ModelPool:
    return ModelPool()


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def output(unet: Any) -> Tensor:
    with torch.no_grad():
        return unet(X, T, encoder_hidden_states=CONTEXT, return_dict=False)[0]


def our_output(pool: ModelPool, recipe: Recipe) -> Tensor:
    with pool.use(recipe) as loaded:
        return output(loaded.unet)


def our_text(pool: ModelPool, recipe: Recipe) -> Tensor:
    with pool.use(recipe) as loaded, torch.no_grad():
        model = loaded.towers["l"].model
        return model(model.look_up(IDS), -1)[1]


def randomised(adapters: nn.Module) -> None:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in adapters.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += 0.1 * noise.to(parameter)


KINDS: list[tuple[LoraFormat, Targets, DoraAxis | None, int]] = [
    ("kohya", "attention", None, 0),
    ("diffusers", "transformer", None, 0),
    ("kohya", "all", None, 3),
    ("diffusers", "all", None, 3),
    ("diffusers", "attention", "output", 0),
    ("kohya", "all", "input", 3),
]


@pytest.mark.parametrize(("naming", "targets", "dora", "conv_rank"), KINDS)
def test_a_file_made_here_gives_the_same_output_here_and_in_diffusers(
    folder: Path,
    pool: ModelPool,
    tmp_path: Path,
    naming: LoraFormat,
    targets: Targets,
    dora: DoraAxis | None,
    conv_rank: int,
) -> None:
    parts = parts_of(folder)
    assert parts.clip is not None
    copy, text = pool.own_copy(parts.model), pool.own_copy(parts.clip)
    tower = text.towers["l"].model
    settings = AdapterSettings(rank=4, alpha=2.0, conv_rank=conv_rank, dora=dora)
    layers = {
        "unet": unet_layers(copy.unet, targets, conv=conv_rank > 0),
        "l": text_layers(tower, targets),
    }
    adapters = Adapters({"unet": copy.unet, "l": tower}, layers, settings)
    randomised(adapters)
    with torch.no_grad():
        expected, words = output(copy.unet), tower(tower.look_up(IDS), -1)[1]
    path = tmp_path / "made.safetensors"
    write_result(path, lora_tensors(adapters, "sd1", {}, naming), {})
    adapters.detach()

    file = open_lora(path, str(path), "made")
    assert_close(our_output(pool, add_lora(parts.model, file, 1.0)), expected)
    assert_close(our_text(pool, add_lora(parts.clip, file, 1.0)), words)
    if dora == "input":
        return  # magnitudes of input channels are of kohya-style readers only
    tensors, alphas, *_ = Loader.lora_state_dict(str(path))
    Loader.load_lora_into_unet(tensors, alphas, copy.unet)
    assert_close(output(copy.unet), expected)
    if dora is not None:
        return  # transformers leaves the magnitudes of a text encoder out
    other = transformers_text(tower)
    Loader.load_lora_into_text_encoder(tensors, alphas, other)
    with torch.no_grad():
        theirs = other(input_ids=IDS).last_hidden_state
    assert_close(theirs, words)


@pytest.mark.parametrize("use_dora", [False, True])
def test_a_file_made_by_peft_gives_the_same_output_here(
    folder: Path, pool: ModelPool, tmp_path: Path, use_dora: bool
) -> None:
    parts = parts_of(folder)
    unet = pool.own_copy(parts.model).unet
    config = LoraConfig(
        r=4, lora_alpha=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"], use_dora=use_dora
    )
    unet.add_adapter(config)
    trained = nn.ParameterList(p for n, p in unet.named_parameters() if "lora_" in n)
    randomised(trained)
    expected = output(unet)
    assert parts.clip is not None
    text = transformers_text(pool.own_copy(parts.clip).towers["l"].model)
    words_config = LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj"], use_dora=use_dora)
    text.add_adapter(words_config)
    randomised(nn.ParameterList(p for n, p in text.named_parameters() if "lora_" in n))
    with torch.no_grad():
        words = text(input_ids=IDS).last_hidden_state
    Loader.save_lora_weights(
        tmp_path,
        unet_lora_layers={**get_peft_model_state_dict(unet)},
        unet_lora_adapter_metadata=config.to_dict() | {"target_modules": None},
        text_encoder_lora_layers={**get_peft_model_state_dict(text)},  # pyright: ignore[reportArgumentType] - annotated too narrowly there
        text_encoder_lora_adapter_metadata=words_config.to_dict() | {"target_modules": None},
    )
    file = open_lora(tmp_path / "pytorch_lora_weights.safetensors", str(tmp_path), "peft")
    ours = our_output(pool, add_lora(parts.model, replace(file, digest=str(tmp_path)), 1.0))
    assert_close(ours, expected)
    assert_close(our_text(pool, add_lora(parts.clip, file, 1.0)), words)
    assert not torch.allclose(expected, our_output(pool, parts.model), atol=1e-3)
