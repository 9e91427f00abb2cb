"""Prompts become embeds: chunks, weights, embeddings, clip skip; transformers is the oracle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from engine.diffusion import text
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.keymap import from_ldm
from engine.diffusion.residency import ModelPool
from engine.diffusion.text import Encoded
from engine.text.tokenizer import END, START, load_tokenizer
from tests.tiny_checkpoint import fill, tiny_keys, write_tiny_checkpoint

Encode = Callable[..., Encoded]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("text") / "tiny.safetensors")


@pytest.fixture(scope="module")
def encode(checkpoint: Path) -> Encode:
    clip = open_checkpoint(checkpoint, "tiny", "tiny").clip
    pool = ModelPool()

    def run(prompt: str, clip_skip: int | None = None, **options: Any) -> Encoded:
        assert clip is not None
        with pool.use(clip.with_option("clip_skip", clip_skip)) as loaded:
            return text.encode(loaded, prompt, **options)

    return run


@pytest.fixture(scope="module")
def oracle() -> CLIPTextModel:
    config = CLIPTextConfig(
        hidden_size=16, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2
    )
    model = CLIPTextModel(config).eval()
    state = {k: v.float() for k, v in from_ldm("text", fill(tiny_keys())).items()}
    model.load_state_dict(state)
    return model


def plain_ids(prompt: str) -> Tensor:
    ids = [START, *load_tokenizer().encode(prompt), END]
    return torch.tensor([ids + [END] * (77 - len(ids))])


def test_plain_prompt_is_transformers_output(encode: Encode, oracle: CLIPTextModel):
    found = encode("a red circle")
    with torch.no_grad():
        wanted = oracle(plain_ids("a red circle"))
    torch.testing.assert_close(found.embeds, wanted.last_hidden_state, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.pooled, wanted.pooler_output, atol=1e-5, rtol=0)


@pytest.mark.parametrize("skip", [-1, -2, -3])
def test_clip_skip_is_the_normed_hidden_state(encode: Encode, oracle: CLIPTextModel, skip: int):
    with torch.no_grad():
        states = oracle(plain_ids("a boat"), output_hidden_states=True).hidden_states
        wanted = oracle.final_layer_norm(states[skip])
    torch.testing.assert_close(encode("a boat", skip).embeds, wanted, atol=1e-5, rtol=0)


def test_clip_skip_beyond_the_first_layer_is_the_last(encode: Encode):
    assert torch.equal(encode("a boat", -24).embeds, encode("a boat").embeds)


def test_weights_move_away_from_the_empty_prompt(encode: Encode):
    plain, empty = encode("a red boat").embeds, encode("").embeds
    weighted = encode("a (red:1.7) boat").embeds
    wanted = plain.clone()
    wanted[:, 2] = empty[:, 2] + 1.7 * (plain[:, 2] - empty[:, 2])
    torch.testing.assert_close(weighted, wanted, atol=1e-5, rtol=1e-5)


def test_long_prompts_take_chunks(encode: Encode):
    assert encode(" ".join(["lake"] * 75)).embeds.shape == (1, 77, 16)
    long = encode(" ".join(["lake"] * 76))
    assert long.embeds.shape == (1, 154, 16)
    torch.testing.assert_close(long.embeds[:, 77:], encode("lake").embeds, atol=1e-5, rtol=0)


def test_short_weighted_words_are_not_cut_between_chunks(encode: Encode):
    # 74 words fill the chunk but for one place; a bracket of three tokens goes on as a whole.
    prompt = " ".join(["lake"] * 74) + " (old wooden boat:1.2)"
    found = encode(prompt).embeds[:, 77:]
    torch.testing.assert_close(found, encode("(old wooden boat:1.2)").embeds, atol=1e-5, rtol=0)


@pytest.fixture
def embedding(tmp_path: Path) -> Tensor:
    vectors = torch.randn(2, 16)
    save_file({"emb_params": vectors}, tmp_path / "one.safetensors")
    save_file({"clip_l": vectors, "clip_g": torch.randn(2, 20)}, tmp_path / "two.safetensors")
    torch.save({"string_to_param": {"*": vectors}}, tmp_path / "three.pt")
    torch.save(vectors, tmp_path / "four.pt")
    save_file({"emb_params": torch.randn(2, 99)}, tmp_path / "wide.safetensors")
    return vectors


@pytest.mark.parametrize("name", ["one", "two", "three", "four"])
def test_embedding_vectors_stand_in_for_tokens(
    encode: Encode, oracle: CLIPTextModel, embedding: Tensor, tmp_path: Path, name: str
):
    def find(name: str) -> Path | None:
        return next(iter(tmp_path.glob(f"{name}.*")), None)

    found = encode(f"a embedding:{name}, boat", find_embedding=find).embeds
    comma, boat = load_tokenizer().encode(", boat")
    row = [START, load_tokenizer().encode("a")[0], 0, 0, comma, boat]
    ids = torch.tensor([row + [END] * (77 - len(row))])
    table = oracle.get_input_embeddings()

    def place(_module: object, _ids: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[0, 2:4] = embedding
        return output

    handle = table.register_forward_hook(place)
    with torch.no_grad():
        wanted = oracle(ids).last_hidden_state
    handle.remove()
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_missing_or_unfit_embedding_is_left_out_and_told(
    encode: Encode, embedding: Tensor, tmp_path: Path
):
    lines: list[str] = []

    def find(name: str) -> Path | None:
        return tmp_path / "wide.safetensors" if name == "wide" else None

    found = encode("a embedding:gone boat", find_embedding=find, log=lines.append)
    assert torch.equal(found.embeds, encode("a boat").embeds)
    found = encode("a embedding:wide boat", find_embedding=find, log=lines.append)
    assert torch.equal(found.embeds, encode("a boat").embeds)
    assert "gone" in lines[0]
    assert "wide" in lines[1]


def test_outputs_are_ordinary_tensors(encode: Encode):
    found = encode("a boat")
    assert not found.embeds.is_inference()
    assert not found.embeds.requires_grad
    found.embeds.add_(1)
