"""Tiny random checkpoints in the Stable Diffusion 1.x single-file layout, for tests."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

TINY_METADATA = {
    "weft.unet.norm_num_groups": "8",
    "weft.vae.norm_num_groups": "4",
    "weft.text.heads": "2",
    "weft.native_size": "64",
}


class Keys(dict[str, tuple[tuple[int, ...], float, float]]):
    """Key -> (shape, standard deviation, mean), filled layer by layer."""

    def weight(self, key: str, *shape: int, gain: float = 1.0) -> None:
        self[key] = (shape, gain / math.sqrt(max(1, math.prod(shape[1:]))), 0.0)

    def linear(self, key: str, i: int, o: int, *, bias: bool = True, gain: float = 1.0) -> None:
        self.weight(f"{key}.weight", o, i, gain=gain)
        if bias:
            self[f"{key}.bias"] = ((o,), 0.05, 0.0)

    def conv(self, key: str, i: int, o: int, k: int = 3, gain: float = 1.0) -> None:
        self.weight(f"{key}.weight", o, i, k, k, gain=gain)
        self[f"{key}.bias"] = ((o,), 0.05, 0.0)

    def norm(self, key: str, c: int) -> None:
        self[f"{key}.weight"] = ((c,), 0.1, 1.0)
        self[f"{key}.bias"] = ((c,), 0.1, 0.0)


def unet_keys(
    keys: Keys,
    prefix: str = "model.diffusion_model.",
    *,
    width: int = 32,
    mult: tuple[int, ...] = (1, 2),
    blocks: int = 1,
    depth: tuple[int, ...] = (1, 1),
    middle_depth: int = 1,
    context: int = 16,
    inputs: int = 4,
    is_linear: bool = False,
    adm: int | None = None,
    classes: int | None = None,
    only_cross: tuple[bool, ...] = (),
    encoder_only: bool = False,
) -> list[int]:
    """Adds the keys of an LDM UNet (or its encoder half); gives the skip connections' widths."""
    time = 4 * width
    keys.linear(f"{prefix}time_embed.0", width, time)
    keys.linear(f"{prefix}time_embed.2", time, time)
    if adm is not None:
        keys.linear(f"{prefix}label_emb.0.0", adm, time)
        keys.linear(f"{prefix}label_emb.0.2", time, time)
    if classes is not None:
        keys[f"{prefix}label_emb.weight"] = ((classes, time), 0.3, 0.0)

    def res(key: str, i: int, o: int) -> None:
        keys.norm(f"{key}.in_layers.0", i)
        keys.conv(f"{key}.in_layers.2", i, o, gain=1.4)
        keys.linear(f"{key}.emb_layers.1", time, o)
        keys.norm(f"{key}.out_layers.0", o)
        keys.conv(f"{key}.out_layers.3", o, o, gain=0.5)
        if i != o:
            keys.conv(f"{key}.skip_connection", i, o, 1)

    def project(key: str, c: int, gain: float = 1.0) -> None:
        if is_linear:
            keys.linear(key, c, c, gain=gain)
        else:
            keys.conv(key, c, c, 1, gain=gain)

    def attention(key: str, c: int, n: int, *, reads_text: bool = False) -> None:
        keys.norm(f"{key}.norm", c)
        project(f"{key}.proj_in", c)
        for d in range(n):
            block = f"{key}.transformer_blocks.{d}"
            first = context if reads_text else c
            for name, source, gain in (("attn1", first, 0.5), ("attn2", context, 1.0)):
                keys.linear(f"{block}.{name}.to_q", c, c, bias=False, gain=1.2)
                keys.linear(f"{block}.{name}.to_k", source, c, bias=False, gain=1.2)
                keys.linear(f"{block}.{name}.to_v", source, c, bias=False)
                keys.linear(f"{block}.{name}.to_out.0", c, c, gain=gain)
            keys.linear(f"{block}.ff.net.0.proj", c, 8 * c)
            keys.linear(f"{block}.ff.net.2", 4 * c, c, gain=0.5)
            for j in (1, 2, 3):
                keys.norm(f"{block}.norm{j}", c)
        project(f"{key}.proj_out", c, gain=0.5)

    keys.conv(f"{prefix}input_blocks.0.0", inputs, width)
    skips, c, n = [width], width, 1
    for level, m in enumerate(mult):
        for _ in range(blocks):
            res(f"{prefix}input_blocks.{n}.0", c, width * m)
            c = width * m
            if depth[level]:
                place = f"{prefix}input_blocks.{n}.1"
                attention(
                    place, c, depth[level], reads_text=only_cross[level : level + 1] == (True,)
                )
            skips.append(c)
            n += 1
        if level != len(mult) - 1:
            keys.conv(f"{prefix}input_blocks.{n}.0.op", c, c)
            skips.append(c)
            n += 1
    res(f"{prefix}middle_block.0", c, c)
    attention(f"{prefix}middle_block.1", c, middle_depth)
    res(f"{prefix}middle_block.2", c, c)
    if encoder_only:
        return skips
    left, n = list(skips), 0
    for level in reversed(range(len(mult))):
        for i in range(blocks + 1):
            key = f"{prefix}output_blocks.{n}"
            res(f"{key}.0", c + left.pop(), width * mult[level])
            c = width * mult[level]
            if depth[level]:
                reads_text = only_cross[level : level + 1] == (True,)
                attention(f"{key}.1", c, depth[level], reads_text=reads_text)
            if level and i == blocks:
                keys.conv(f"{key}.{2 if depth[level] else 1}.conv", c, c)
            n += 1
    keys.norm(f"{prefix}out.0", width)
    keys.conv(f"{prefix}out.2", width, 4, gain=1.6)
    return skips


def control_keys(
    keys: Keys, prefix: str = "control_model.", *, width: int = 32, context: int = 16
) -> None:
    """Adds the keys of a ControlNet that fits `unet_keys` with the same width."""
    skips = unet_keys(keys, prefix, width=width, context=context, encoder_only=True)
    hint = (3, 16, 16, 32, 32, 96, 96, 256, width)
    for j in range(8):
        keys.conv(f"{prefix}input_hint_block.{2 * j}", hint[j], hint[j + 1], gain=1.6)
    for n, c in enumerate(skips):
        keys.conv(f"{prefix}zero_convs.{n}.0", c, c, 1, gain=0.5)
    keys.conv(f"{prefix}middle_block_out.0", skips[-1], skips[-1], 1, gain=0.5)


def vae_keys(
    keys: Keys,
    prefix: str = "first_stage_model.",
    *,
    width: int = 8,
    mult: tuple[int, ...] = (1, 1, 2, 2),
    blocks: int = 1,
    latent: int = 4,
    has_quant: bool = True,
) -> None:
    """Adds the keys of an LDM autoencoder."""

    def res(key: str, i: int, o: int) -> None:
        keys.norm(f"{key}.norm1", i)
        keys.conv(f"{key}.conv1", i, o, gain=1.4)
        keys.norm(f"{key}.norm2", o)
        keys.conv(f"{key}.conv2", o, o, gain=0.5)
        if i != o:
            keys.conv(f"{key}.nin_shortcut", i, o, 1)

    def middle(key: str, c: int) -> None:
        res(f"{key}.block_1", c, c)
        keys.norm(f"{key}.attn_1.norm", c)
        for name, gain in (("q", 1.0), ("k", 1.0), ("v", 1.0), ("proj_out", 0.5)):
            keys.conv(f"{key}.attn_1.{name}", c, c, 1, gain=gain)
        res(f"{key}.block_2", c, c)

    encoder, decoder = f"{prefix}encoder", f"{prefix}decoder"
    keys.conv(f"{encoder}.conv_in", 3, width)
    c = width
    for level, m in enumerate(mult):
        for j in range(blocks):
            res(f"{encoder}.down.{level}.block.{j}", c, width * m)
            c = width * m
        if level != len(mult) - 1:
            keys.conv(f"{encoder}.down.{level}.downsample.conv", c, c)
    middle(f"{encoder}.mid", c)
    keys.norm(f"{encoder}.norm_out", c)
    keys.conv(f"{encoder}.conv_out", c, 2 * latent, gain=6.0)
    keys.conv(f"{decoder}.conv_in", latent, c)
    middle(f"{decoder}.mid", c)
    for level in reversed(range(len(mult))):
        for j in range(blocks + 1):
            res(f"{decoder}.up.{level}.block.{j}", c, width * mult[level])
            c = width * mult[level]
        if level:
            keys.conv(f"{decoder}.up.{level}.upsample.conv", c, c)
    keys.norm(f"{decoder}.norm_out", c)
    keys.conv(f"{decoder}.conv_out", c, 3, gain=0.8)
    if has_quant:
        keys.conv(f"{prefix}quant_conv", 2 * latent, 2 * latent, 1)
        keys.conv(f"{prefix}post_quant_conv", latent, latent, 1)


def clip_keys(
    keys: Keys,
    prefix: str = "cond_stage_model.transformer.text_model.",
    *,
    width: int = 16,
    layers: int = 3,
) -> None:
    """Adds the keys of a CLIP text transformer with CLIP's vocabulary."""
    keys[f"{prefix}embeddings.token_embedding.weight"] = ((49408, width), 0.03, 0.0)
    keys[f"{prefix}embeddings.position_embedding.weight"] = ((77, width), 0.01, 0.0)
    for i in range(layers):
        layer = f"{prefix}encoder.layers.{i}"
        for name, gain in (("q_proj", 1.0), ("k_proj", 1.0), ("v_proj", 1.0), ("out_proj", 0.5)):
            keys.linear(f"{layer}.self_attn.{name}", width, width, gain=gain)
        keys.norm(f"{layer}.layer_norm1", width)
        keys.norm(f"{layer}.layer_norm2", width)
        keys.linear(f"{layer}.mlp.fc1", width, 4 * width)
        keys.linear(f"{layer}.mlp.fc2", 4 * width, width, gain=0.5)
    keys.norm(f"{prefix}final_layer_norm", width)


def open_clip_keys(keys: Keys, prefix: str, *, width: int = 16, layers: int = 3) -> None:
    """Adds the keys of an OpenCLIP text transformer with CLIP's vocabulary."""
    keys[f"{prefix}token_embedding.weight"] = ((49408, width), 0.03, 0.0)
    keys[f"{prefix}positional_embedding"] = ((77, width), 0.01, 0.0)
    for i in range(layers):
        layer = f"{prefix}transformer.resblocks.{i}"
        keys.weight(f"{layer}.attn.in_proj_weight", 3 * width, width)
        keys[f"{layer}.attn.in_proj_bias"] = ((3 * width,), 0.05, 0.0)
        keys.linear(f"{layer}.attn.out_proj", width, width, gain=0.5)
        keys.norm(f"{layer}.ln_1", width)
        keys.norm(f"{layer}.ln_2", width)
        keys.linear(f"{layer}.mlp.c_fc", width, 4 * width)
        keys.linear(f"{layer}.mlp.c_proj", 4 * width, width, gain=0.5)
    keys.norm(f"{prefix}ln_final", width)
    keys.weight(f"{prefix}text_projection", width, width)


def fill(keys: Keys, seed: int = 0, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """Random tensors for the keys; the value of one depends on (seed, key, shape) alone."""
    tensors = {}
    for key, (shape, deviation, mean) in keys.items():
        digest = hashlib.sha256(f"{seed}|{key}".encode()).digest()
        number = int.from_bytes(digest[:8], "little") & (2**63 - 1)
        generator = torch.Generator().manual_seed(number)
        tensors[key] = (torch.randn(shape, generator=generator) * deviation + mean).to(dtype)
    return tensors


def tiny_keys() -> Keys:
    """The keys of the tiny SD1.x checkpoint."""
    keys = Keys()
    unet_keys(keys)
    vae_keys(keys)
    clip_keys(keys)
    return keys


def write_tiny_checkpoint(
    path: Path, seed: int = 0, metadata: Mapping[str, str] | None = None
) -> Path:
    """Writes a whole tiny checkpoint (UNet, VAE, text; 2 MB, fp16); gives the path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = fill(tiny_keys(), seed)
    save_file(tensors, path, metadata={"format": "pt", **TINY_METADATA, **(metadata or {})})
    return path


def write_reference_checkpoint(path: Path) -> Path:
    """Writes the checkpoint `reference_tiny` that the recorded values belong to (0.5 GB)."""
    keys = Keys()
    unet_keys(keys, width=320, mult=(1, 1), context=768)
    vae_keys(keys, width=128, mult=(1, 2, 4, 4), blocks=2)
    clip_keys(keys, width=768, layers=12)
    save_file(fill(keys, seed=20251), path)
    return path


def write_reference_lora(path: Path) -> Path:
    """Writes the LoRA `reference_lora` that the recorded values belong to."""
    keys = Keys()

    def module(name: str, i: int, o: int, kernel: tuple[int, ...] = ()) -> None:
        keys.weight(f"{name}.lora_down.weight", 4, i, *kernel)
        keys.weight(f"{name}.lora_up.weight", o, 4, *kernel, gain=0.25)
        keys[f"{name}.alpha"] = ((), 0.0, 2.0)

    for level, c in ((0, 320), (1, 640)):
        for n in (0, 1):
            block = f"lora_unet_down_blocks_{level}_attentions_{n}"
            module(f"{block}_proj_in", c, c, (1, 1))
            for name, source in (("attn1", c), ("attn2", 768)):
                for layer, i in (("to_q", c), ("to_k", source), ("to_v", source), ("to_out_0", c)):
                    module(f"{block}_transformer_blocks_0_{name}_{layer}", i, c)
            module(f"{block}_transformer_blocks_0_ff_net_0_proj", c, 8 * c)
    for n in range(3):
        for layer in ("q_proj", "k_proj", "v_proj", "out_proj"):
            module(f"lora_te_text_model_encoder_layers_{n}_self_attn_{layer}", 768, 768)
    save_file(fill(keys, seed=20251), path)
    return path


def write_tiny_control(path: Path, seed: int = 0) -> Path:
    """Writes a ControlNet that fits the tiny checkpoint; gives the path back."""
    keys = Keys()
    control_keys(keys)
    save_file(fill(keys, seed), path, metadata={"format": "pt", **TINY_METADATA})
    return path


def write_tiny_lora(path: Path, seed: int = 0) -> Path:
    """Writes a kohya LoRA of rank 2 for one attention and one text layer of the tiny model."""
    unet = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    keys = Keys()
    for module, width in ((unet, 32), (text, 16)):
        keys.weight(f"{module}.lora_down.weight", 2, width)
        keys.weight(f"{module}.lora_up.weight", width, 2)
        keys[f"{module}.alpha"] = ((), 0.0, 1.0)
    save_file(fill(keys, seed), path, metadata={"format": "pt"})
    return path
