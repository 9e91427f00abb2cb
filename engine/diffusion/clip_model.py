"""The CLIP text transformer, with transformers' weight names; runs on weights of any float type.

Written here rather than taken from a library because textual inversion needs its own token look-up,
clip skip the layers in between, and half-precision weights are cast layer by layer while it runs,
so that a text tower never needs a second copy in memory.
Source: Radford et al. 2021, "Learning Transferable Visual Models", section 2.4.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    embedding,
    gelu,
    layer_norm,
    linear,
    scaled_dot_product_attention,
)

from engine.diffusion.families.base import TextLayout


class Linear(nn.Linear):
    """A linear layer that computes in the type of its input."""

    def forward(self, input: Tensor) -> Tensor:
        bias = self._parameters["bias"]
        return linear(
            input,
            self.weight.to(input.dtype),
            None if bias is None else bias.to(input.dtype),
        )


class LayerNorm(nn.LayerNorm):
    """A layer norm that computes in the type of its input."""

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
        return layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (
            layer(x).view(b, t, self.heads, d // self.heads).transpose(1, 2)  # (B, H, T, D/H)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(y.transpose(1, 2).reshape(b, t, d))


class Mlp(nn.Module):
    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.fc1 = Linear(width, inner)
        self.fc2 = Linear(inner, width)
        self.is_quick = activation == "quick_gelu"

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x) if self.is_quick else gelu(x))


class Layer(nn.Module):
    def __init__(self, layout: TextLayout) -> None:
        super().__init__()
        self.layer_norm1 = LayerNorm(layout.width)
        self.self_attn = Attention(layout.width, layout.heads)
        self.layer_norm2 = LayerNorm(layout.width)
        self.mlp = Mlp(layout.width, layout.mlp, layout.activation)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Table(nn.Module):
    """Rows of weights, uninitialized: drawing them would load much of torch's machinery."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        return embedding(ids, self.weight)


class Embeddings(nn.Module):
    def __init__(self, layout: TextLayout) -> None:
        super().__init__()
        self.token_embedding = Table(layout.vocabulary, layout.width)
        self.position_embedding = Table(layout.positions, layout.width)


class Encoder(nn.Module):
    def __init__(self, layout: TextLayout) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(layout) for _ in range(layout.layers))


class ClipText(nn.Module):
    """A text tower; call it with token vectors from `look_up`."""

    def __init__(self, layout: TextLayout) -> None:
        super().__init__()
        self.embeddings = Embeddings(layout)
        self.encoder = Encoder(layout)
        self.final_layer_norm = LayerNorm(layout.width)
        self.text_projection = (
            Linear(layout.width, layout.projection, bias=False) if layout.projection else None
        )

    def look_up(self, ids: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The vectors of tokens. Shapes: ids (B, T) -> (B, T, D)."""
        return self.embeddings.token_embedding(ids).to(dtype)

    def forward(self, vectors: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """The output of layer `layer` (-1: the last) and the normed output of the last one.

        Shapes: vectors (B, T, D) -> twice (B, T, D).
        """
        positions = torch.arange(vectors.shape[1], device=vectors.device)
        x = vectors + self.embeddings.position_embedding(positions).to(vectors.dtype)
        count = len(self.encoder.layers)
        wanted = x
        for index, block in enumerate(self.encoder.layers):
            x = block(x)
            if index == count + layer:
                wanted = x
        return wanted, self.final_layer_norm(x)
