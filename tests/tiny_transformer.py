"""Tiny random SD3 and Flux checkpoints in the original single-file layouts, for tests."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.tiny_checkpoint import Keys, clip_keys, fill, vae_keys

METADATA = {"weft.vae.norm_num_groups": "4", "weft.native_size": "64", "weft.text.heads": "2"}
PREFIX = "model.diffusion_model."


def _mlp(keys: Keys, name: str, i: int, o: int) -> None:
    for n, width in ((0, i), (2, o)):
        keys.linear(f"{name}.mlp.{n}", width, o)


def sd3_keys(
    keys: Keys,
    prefix: str = PREFIX,
    *,
    width: int = 64,
    layers: int = 3,
    places: int = 8,
    context: int = 32,
    pooled: int = 24,
    dual: tuple[int, ...] = (),
    norm: str | None = None,
    head: int = 32,
) -> None:
    """Adds the keys of an SD3 transformer; `norm` is None, "rms" or "layer"."""
    keys[f"{prefix}pos_embed"] = ((1, places * places, width), 0.5, 0.0)
    keys.conv(f"{prefix}x_embedder.proj", 16, width, 2)
    _mlp(keys, f"{prefix}t_embedder", 256, width)
    _mlp(keys, f"{prefix}y_embedder", pooled, width)
    keys.linear(f"{prefix}context_embedder", context, width)

    def attention(name: str) -> None:
        keys.linear(f"{name}.qkv", width, 3 * width)
        for part in ("ln_q", "ln_k") if norm else ():
            keys[f"{name}.{part}.weight"] = ((head,), 0.1, 1.0)
            if norm == "layer":
                keys[f"{name}.{part}.bias"] = ((head,), 0.1, 0.0)

    for n in range(layers):
        is_last = n == layers - 1
        for side in ("x_block", "context_block"):
            block, ends = f"{prefix}joint_blocks.{n}.{side}", is_last and side == "context_block"
            parts = 2 if ends else 9 if side == "x_block" and n in dual else 6
            keys.linear(f"{block}.adaLN_modulation.1", width, parts * width, gain=0.5)
            attention(f"{block}.attn")
            if ends:
                continue
            keys.linear(f"{block}.attn.proj", width, width)
            keys.linear(f"{block}.mlp.fc1", width, 4 * width)
            keys.linear(f"{block}.mlp.fc2", 4 * width, width)
            if parts == 9:
                attention(f"{block}.attn2")
                keys.linear(f"{block}.attn2.proj", width, width)
    keys.linear(f"{prefix}final_layer.adaLN_modulation.1", width, 2 * width, gain=0.5)
    keys.linear(f"{prefix}final_layer.linear", width, 64)


def flux_keys(
    keys: Keys,
    prefix: str = PREFIX,
    *,
    width: int = 64,
    layers: int = 2,
    single: int = 2,
    context: int = 32,
    pooled: int = 16,
    head: int = 32,
    inputs: int = 16,
    has_guidance: bool = True,
) -> None:
    """Adds the keys of a Flux transformer: dev with guidance, schnell without."""

    def embedder(name: str, i: int) -> None:
        keys.linear(f"{prefix}{name}.in_layer", i, width)
        keys.linear(f"{prefix}{name}.out_layer", width, width)

    def norms(name: str) -> None:
        for part in ("query_norm", "key_norm"):
            keys[f"{name}.{part}.scale"] = ((head,), 0.1, 1.0)

    keys.linear(f"{prefix}img_in", 4 * inputs, width)
    keys.linear(f"{prefix}txt_in", context, width)
    embedder("time_in", 256)
    embedder("vector_in", pooled)
    if has_guidance:
        embedder("guidance_in", 256)
    for n in range(layers):
        for side in ("img", "txt"):
            block = f"{prefix}double_blocks.{n}.{side}"
            keys.linear(f"{block}_mod.lin", width, 6 * width, gain=0.5)
            keys.linear(f"{block}_attn.qkv", width, 3 * width)
            norms(f"{block}_attn.norm")
            keys.linear(f"{block}_attn.proj", width, width)
            keys.linear(f"{block}_mlp.0", width, 4 * width)
            keys.linear(f"{block}_mlp.2", 4 * width, width)
    for n in range(single):
        block = f"{prefix}single_blocks.{n}"
        keys.linear(f"{block}.linear1", width, 7 * width)
        keys.linear(f"{block}.linear2", 5 * width, width)
        keys.linear(f"{block}.modulation.lin", width, 3 * width, gain=0.5)
        norms(f"{block}.norm")
    keys.linear(f"{prefix}final_layer.adaLN_modulation.1", width, 2 * width, gain=0.5)
    keys.linear(f"{prefix}final_layer.linear", width, 64)


def t5_keys(
    keys: Keys,
    prefix: str = "text_encoders.t5xxl.transformer.",
    *,
    width: int = 32,
    layers: int = 2,
    vocabulary: int = 64,
) -> None:
    """Adds the keys of a T5 v1.1 encoder with four heads."""
    keys[f"{prefix}shared.weight"] = ((vocabulary, width), 1.0, 0.0)
    for n in range(layers):
        block = f"{prefix}encoder.block.{n}.layer"
        for part in "qkvo":
            keys.weight(f"{block}.0.SelfAttention.{part}.weight", width, width, gain=0.6)
        if n == 0:
            table = f"{block}.0.SelfAttention.relative_attention_bias.weight"
            keys[table] = ((32, 4), 0.5, 0.0)
        for part in ("wi_0", "wi_1"):
            keys.weight(f"{block}.1.DenseReluDense.{part}.weight", 2 * width, width)
        keys.weight(f"{block}.1.DenseReluDense.wo.weight", width, 2 * width)
        for layer in (0, 1):
            keys[f"{block}.{layer}.layer_norm.weight"] = ((width,), 0.1, 1.0)
    keys[f"{prefix}encoder.final_layer_norm.weight"] = ((width,), 0.1, 1.0)


def clip_tower_keys(keys: Keys, name: str) -> None:
    """Adds the keys of a CLIP tower as these checkpoints name them: clip_l or clip_g."""
    prefix = f"text_encoders.{name}.transformer."
    clip_keys(keys, f"{prefix}text_model.")
    keys.weight(f"{prefix}text_projection.weight", 16, 16)


def whole_sd3_keys() -> Keys:
    """A checkpoint of the 3.5-medium kind with its autoencoder and three text encoders."""
    keys = Keys()
    sd3_keys(keys, dual=(0,), norm="rms", pooled=32)
    vae_keys(keys, latent=16, has_quant=False)
    for name in ("clip_l", "clip_g"):
        clip_tower_keys(keys, name)
    t5_keys(keys)
    return keys


def whole_flux_keys() -> Keys:
    """A checkpoint of the dev kind with its autoencoder and two text encoders."""
    keys = Keys()
    flux_keys(keys)
    vae_keys(keys, latent=16, has_quant=False)
    clip_tower_keys(keys, "clip_l")
    t5_keys(keys)
    return keys


PIECES = (
    *(("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), ("▁a", -2.0), ("▁boat", -2.5)),
    *(("▁red", -2.6), ("ed", -3.5), ("▁on", -3.0)),
    *((letter, -6.0) for letter in "abcdefghijklmnopqrstuvwxyz"),
)


def write_tokenizer(path: Path) -> Path:
    """Writes a tiny unigram tokenizer of T5's kind; gives the path back."""
    tokenizer = Tokenizer(models.Unigram(list(PIECES), unk_id=2))
    space = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space])
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return path


def save(path: Path, keys: Keys, dtype: torch.dtype = torch.float32) -> Path:
    """Writes a tiny checkpoint; gives the path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(fill(keys, dtype=dtype), path, metadata=METADATA)
    return path
