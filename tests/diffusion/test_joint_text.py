"""Text of SD3 and Flux: T5 and its tokenizer, and how several encoders come together."""

import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextConfig, T5Config
from transformers.models.clip.modeling_clip import CLIPTextModelWithProjection
from transformers.models.t5.modeling_t5 import T5EncoderModel

from engine.api.errors import CorruptFile, NodeError
from engine.api.recipe import Recipe
from engine.diffusion import text
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.joint_text import encode_joint
from engine.diffusion.residency import ModelPool
from engine.diffusion.t5_tokenizer import from_sentencepiece
from engine.diffusion.text import Encoded
from engine.text.tokenizer import END, START, load_tokenizer
from tests.tiny_checkpoint import fill
from tests.tiny_transformer import PIECES, save, whole_flux_keys, whole_sd3_keys, write_tokenizer

T5 = "text_encoders.t5xxl.transformer."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joint")
    save(folder / "sd3.safetensors", whole_sd3_keys())
    save(folder / "flux.safetensors", whole_flux_keys())
    write_tokenizer(folder / "t5_tokenizer.json")
    return folder


def clip_of(folder: Path, family: str) -> Recipe:
    clip = open_checkpoint(folder / f"{family}.safetensors", family, family).clip
    assert clip is not None
    return clip.with_option("t5_tokenizer", str(folder / "t5_tokenizer.json"))


def encode(clip: Recipe, prompt: str) -> Encoded:
    with ModelPool().use(clip) as loaded:
        return text.encode(loaded, prompt)


def t5_oracle(ids: list[int]) -> Tensor:
    config = T5Config(
        vocab_size=64,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    model = T5EncoderModel(config).eval()
    tensors = fill(whole_sd3_keys(), dtype=torch.float32)
    state = {k.removeprefix(T5): v for k, v in tensors.items() if k.startswith(T5)}
    state["encoder.embed_tokens.weight"] = state["shared.weight"]
    model.load_state_dict(state)
    with torch.no_grad():
        return model(torch.tensor([ids])).last_hidden_state


def clip_oracle(name: str, prompt: str) -> tuple[Tensor, Tensor]:
    """The last layer but one and the pooled output, projected for clip_g as SD3 has it."""
    config = CLIPTextConfig(
        hidden_size=16,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=16,
        hidden_act="quick_gelu" if name == "clip_l" else "gelu",
    )
    model = CLIPTextModelWithProjection(config).eval()
    prefix = f"text_encoders.{name}.transformer."
    tensors = fill(whole_sd3_keys(), dtype=torch.float32)
    model.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    ids = [START, *load_tokenizer().encode(prompt), END]
    end = len(ids) - 1
    ids += [END if name == "clip_l" else 0] * (77 - len(ids))
    with torch.no_grad():
        out = model.text_model(torch.tensor([ids]), output_hidden_states=True)
        pooled = out.last_hidden_state[:, end]
        projected = pooled if name == "clip_l" else model.text_projection(pooled)
    return out.hidden_states[-2], projected


def ids_of(folder: Path, prompt: str) -> list[int]:
    with ModelPool().use(clip_of(folder, "sd3")) as loaded:
        return [t for t, _ in text.tokenize(loaded, prompt)["t5xxl"][0] if isinstance(t, int)]


def test_t5_is_transformers_encoder_for_long_prompts_too(folder: Path):
    prompt = "a red boat " * 100
    ids = ids_of(folder, prompt)
    assert len(ids) == 301
    assert ids[-1] == 1
    found = encode(clip_of(folder, "flux"), prompt).embeds
    torch.testing.assert_close(found, t5_oracle(ids), rtol=0, atol=2e-5)


def test_sd3_lays_t5_after_the_two_clips(folder: Path):
    found = encode(clip_of(folder, "sd3"), "a red boat")
    small, pooled_small = clip_oracle("clip_l", "a red boat")
    large, pooled_large = clip_oracle("clip_g", "a red boat")
    ids = [4, 6, 5, 1]
    wanted = torch.cat([torch.cat([small, large], -1), t5_oracle(ids + [0] * 73)], 1)
    torch.testing.assert_close(found.embeds, wanted, rtol=0, atol=2e-5)
    wanted = torch.cat([pooled_small, pooled_large], -1)
    torch.testing.assert_close(found.pooled, wanted, rtol=0, atol=2e-5)


def test_flux_takes_t5_and_the_pooled_clip(folder: Path):
    found = encode(clip_of(folder, "flux"), "a red boat")
    assert found.embeds.shape == (1, 256, 32)
    assert found.pooled.shape == (1, 16)


def test_weights_move_t5_tokens_away_from_the_empty_prompt(folder: Path):
    clip = clip_of(folder, "flux")
    plain, weighted = encode(clip, "a red boat").embeds, encode(clip, "a (red:1.5) boat").embeds
    empty = t5_oracle([1] + [0] * 255)
    wanted = empty[:, 1] + (plain[:, 1] - empty[:, 1]) * 1.5
    torch.testing.assert_close(weighted[:, 1], wanted, rtol=0, atol=2e-5)
    torch.testing.assert_close(weighted[:, 0], plain[:, 0], rtol=0, atol=1e-6)


def test_padding_is_as_asked(folder: Path):
    clip = clip_of(folder, "flux")
    sizes = {}
    for padding, length in ((0, 0), (3, 0), (3, 20)):
        options = clip.with_option("t5_min_padding", padding).with_option("t5_min_length", length)
        sizes[padding, length] = encode(options, "a red boat").embeds.shape[1]
    assert sizes == {(0, 0): 4, (3, 0): 7, (3, 20): 20}


def test_empty_texts_are_dropped_or_filled(folder: Path):
    prompts = {"l": "", "g": "", "t5xxl": "a boat"}
    with ModelPool().use(clip_of(folder, "sd3")) as loaded:
        filled = encode_joint(loaded, prompts, "sd3")
        dropped = encode_joint(loaded, prompts, "sd3", drops_empty=True)
        nothing = encode_joint(loaded, dict.fromkeys(prompts, ""), "sd3", drops_empty=True)
        half = encode_joint(loaded, {**prompts, "g": "a boat"}, "sd3", drops_empty=True)
    assert [e.embeds.shape[1] for e in (filled, dropped, half)] == [154, 77, 154]
    assert torch.equal(filled.embeds[:, 77:], dropped.embeds)
    assert not dropped.pooled.any()
    assert not nothing.embeds.any()


def test_a_prompt_node_of_another_family_says_so(folder: Path):
    with (
        ModelPool().use(clip_of(folder, "sd3")) as loaded,
        pytest.raises(NodeError, match="sd3; this node is for Flux"),
    ):
        encode_joint(loaded, {"l": "a", "t5xxl": "a"}, "flux")


def test_a_missing_tokenizer_says_where_it_belongs(folder: Path):
    clip = clip_of(folder, "flux").with_option("t5_tokenizer", None)
    with pytest.raises(NodeError) as caught:
        encode(clip, "a")
    assert "models/text_encoders/" in str(caught.value.hint)


# Tokenizer files ----------------------------------------------------------------------------------


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def message(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def sentencepiece() -> bytes:
    """A model file as google/sentencepiece writes it, with a trainer part that is passed over."""
    pieces = (
        message(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18\x01"
        for piece, score in PIECES
    )
    return b"".join(message(1, p) for p in pieces) + message(2, b"\x18\x03") + message(3, b"")


def test_a_sentencepiece_model_gives_the_same_tokens(folder: Path):
    tokenizer = from_sentencepiece(sentencepiece(), "spiece.model")
    for prompt in ("a red boat", "on a zebra", "  a   boat "):
        ids = ids_of(folder, prompt)
        assert [*tokenizer.encode(prompt).ids, 1] == ids[: ids.index(1) + 1]


def test_a_checkpoint_may_hold_its_tokenizer(folder: Path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "flux.safetensors")
    held = torch.frombuffer(bytearray(sentencepiece()), dtype=torch.uint8)
    tensors["text_encoders.t5xxl.spiece_model"] = held
    metadata = {"weft.vae.norm_num_groups": "4", "weft.text.heads": "2"}
    save_file(tensors, folder / "own.safetensors", metadata=metadata)
    clip = open_checkpoint(folder / "own.safetensors", "own", "own").clip
    assert clip is not None
    wanted = encode(clip_of(folder, "flux"), "a red boat").embeds
    assert torch.equal(encode(clip, "a red boat").embeds, wanted)


@pytest.mark.parametrize("data", [b"", b"\x0a\xff", b"{}", sentencepiece()[:50], b"\x0b\x01"])
def test_a_damaged_tokenizer_is_named(data: bytes):
    with pytest.raises(CorruptFile, match=r"spiece\.model"):
        from_sentencepiece(data, "spiece.model")
