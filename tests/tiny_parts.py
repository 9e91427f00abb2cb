"""Tiny random parts that go beside a checkpoint, in their published layouts, for tests."""

import re

import torch
from torch import Tensor, nn

from tests.tiny_checkpoint import Keys, fill

GLIGEN_PLACES = {
    "input_blocks.1.1": ("down_blocks.0.attentions.0", 32),
    "input_blocks.3.1": ("down_blocks.1.attentions.0", 64),
    "middle_block.1": ("mid_block.attentions.0", 64),
    "output_blocks.0.1": ("up_blocks.0.attentions.0", 64),
    "output_blocks.1.1": ("up_blocks.0.attentions.1", 64),
    "output_blocks.2.1": ("up_blocks.1.attentions.0", 32),
    "output_blocks.3.1": ("up_blocks.1.attentions.1", 32),
}


def gligen_weights(text: int = 16) -> dict[str, Tensor]:
    """A text box model that fits the tiny checkpoint, in the published key layout."""
    keys = Keys()
    for place, (_, c) in GLIGEN_PLACES.items():
        fuser = f"{place}.transformer_blocks.0.fuser"
        keys.linear(f"{fuser}.linear", 16, c)
        for name in ("to_q", "to_k", "to_v"):
            keys.linear(f"{fuser}.attn.{name}", c, c, bias=False)
        keys.linear(f"{fuser}.attn.to_out.0", c, c)
        keys.linear(f"{fuser}.ff.net.0.proj", c, 8 * c)
        keys.linear(f"{fuser}.ff.net.2", 4 * c, c)
        for name in ("norm1", "norm2"):
            keys.norm(f"{fuser}.{name}", c)
        for name in ("alpha_attn", "alpha_dense"):
            keys[f"{fuser}.{name}"] = ((), 0.1, 1.0)
    for n, (i, o) in ((0, (text + 64, 512)), (2, (512, 512)), (4, (512, 16))):
        keys.linear(f"position_net.linears.{n}", i, o)
    keys["position_net.null_positive_feature"] = ((text,), 1.0, 0.0)
    keys["position_net.null_position_feature"] = ((64,), 1.0, 0.0)
    return fill(keys, seed=4, dtype=torch.float32)


def real_esrgan_names(net: nn.Module) -> dict[str, Tensor]:
    """An `Esrgan`'s weights as Real-ESRGAN names them."""
    return {
        re.sub(r"conv_up\.(\d)", lambda m: f"conv_up{int(m[1]) + 1}", k): v
        for k, v in net.state_dict().items()
    }
