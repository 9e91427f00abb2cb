"""The T5 text encoder, with transformers' weight names; runs on weights of any float type.

Written here for the reason of `clip_model`: half-precision weights are cast layer by layer, while
all is computed in fp32, where T5 does not overflow.
Source: Raffel et al. 2020 (T5, arXiv 1910.10683), section 2.1; Shazeer 2020 (arXiv 2002.05202),
GEGLU, for version 1.1.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from engine.diffusion.clip_model import Linear, Table
from engine.diffusion.families.base import T5Layout

BUCKETS = 32
FARTHEST = 128  # tokens; all places beyond share a bucket
EPSILON = 1e-6


class RootMeanNorm(nn.Module):
    """Scales to a root mean square of 1; no mean is taken away, no bias added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON)
        return x * self.weight.to(x.dtype)


class Attention(nn.Module):
    """Attention without scaling; the first block's table of distances serves all blocks."""

    def __init__(self, layout: T5Layout, *, has_table: bool) -> None:
        super().__init__()
        inner = layout.heads * layout.head_width
        self.heads = layout.heads
        self.q = Linear(layout.width, inner, bias=False)
        self.k = Linear(layout.width, inner, bias=False)
        self.v = Linear(layout.width, inner, bias=False)
        self.o = Linear(inner, layout.width, bias=False)
        self.relative_attention_bias = Table(BUCKETS, layout.heads) if has_table else None

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, head)
            for layer in (self.q, self.k, self.v)
        )
        y = scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.o(y.transpose(1, 2).flatten(2))


class AttentionLayer(nn.Module):
    def __init__(self, layout: T5Layout, *, has_table: bool) -> None:
        super().__init__()
        self.SelfAttention = Attention(layout, has_table=has_table)
        self.layer_norm = RootMeanNorm(layout.width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return x + self.SelfAttention(self.layer_norm(x), bias)


class GatedMlp(nn.Module):
    def __init__(self, layout: T5Layout) -> None:
        super().__init__()
        self.wi_0 = Linear(layout.width, layout.mlp, bias=False)
        self.wi_1 = Linear(layout.width, layout.mlp, bias=False)
        self.wo = Linear(layout.mlp, layout.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class MlpLayer(nn.Module):
    def __init__(self, layout: T5Layout) -> None:
        super().__init__()
        self.DenseReluDense = GatedMlp(layout)
        self.layer_norm = RootMeanNorm(layout.width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.DenseReluDense(self.layer_norm(x))


class Block(nn.Module):
    def __init__(self, layout: T5Layout, *, has_table: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList([AttentionLayer(layout, has_table=has_table), MlpLayer(layout)])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return self.layer[1](self.layer[0](x, bias))


class Encoder(nn.Module):
    def __init__(self, layout: T5Layout) -> None:
        super().__init__()
        self.block = nn.ModuleList(Block(layout, has_table=n == 0) for n in range(layout.layers))
        self.final_layer_norm = RootMeanNorm(layout.width)


class T5Text(nn.Module):
    """An encoder; call it with token vectors from `look_up`."""

    def __init__(self, layout: T5Layout) -> None:
        super().__init__()
        self.shared = Table(layout.vocabulary, layout.width)
        self.encoder = Encoder(layout)

    def look_up(self, ids: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The vectors of tokens. Shapes: ids (B, T) -> (B, T, D)."""
        return self.shared(ids).to(dtype)

    def forward(self, vectors: Tensor) -> Tensor:
        """The normed output of the last layer; padding is attended to, as these models learned.

        Shapes: (B, T, D) -> (B, T, D).
        """
        first: AttentionLayer = self.encoder.block[0].layer[0]  # pyright: ignore
        table = first.SelfAttention.relative_attention_bias
        assert table is not None
        buckets = distance_buckets(vectors.shape[1]).to(vectors.device)
        bias = table(buckets).to(vectors.dtype).permute(2, 0, 1)[None]  # (1, H, T, T)
        x = vectors
        for block in self.encoder.block:
            x = block(x, bias)
        return self.encoder.final_layer_norm(x)


def distance_buckets(length: int) -> Tensor:
    """The bucket of each (query, key): half for keys that follow; far ones are spaced by log.

    Source: Raffel et al. 2020, section 2.1 (relative position embeddings). Shapes: (T, T).
    """
    places = torch.arange(length)
    distance = places[None] - places[:, None]
    half = BUCKETS // 2
    exact = half // 2
    far = distance.abs()
    log = torch.log(far.clamp(min=1).float() / exact) / math.log(FARTHEST / exact)
    spaced = (exact + (log * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(far < exact, far, spaced) + half * (distance > 0).long()
