"""Captions to what the denoiser reads, with gradients: for text encoders and embeddings that learn.

Captions are plain text here: brackets are no weights, `embedding:` is no reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.diffusion.families.base import TextLayout
from engine.diffusion.text import LoadedText, TextTower
from engine.text.tokenizer import END, START, load_tokenizer

MAX_CHUNKS = 3  # longer captions are cut, as is customary


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a batch of captions gives the denoiser. Shapes: embeds (B, T, D), pooled (B, P)."""

    embeds: Tensor
    pooled: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Placeholder:
    """A word in captions that stands for learned vectors. Shapes: per tower (N, width)."""

    word: str
    vectors: Mapping[str, Tensor]

    @property
    def count(self) -> int:
        return len(next(iter(self.vectors.values())))


def encode_captions(
    text: LoadedText, captions: Sequence[str], placeholder: Placeholder | None = None
) -> Context:
    """The context of a batch of captions; all are filled up to the longest one's chunks."""
    numbers = [token_numbers(caption, placeholder) for caption in captions]
    towers = [tower for tower in text.towers.values() if isinstance(tower, TextTower)]
    parts = [_run(tower, numbers, text, placeholder) for tower in towers]
    embeds = torch.cat([part.embeds for part in parts], -1)
    return Context(embeds=embeds, pooled=parts[-1].pooled)


def token_numbers(caption: str, placeholder: Placeholder | None = None) -> list[int]:
    """The tokens of a caption; -1, -2 … are the placeholder's vectors."""
    tokenizer = load_tokenizer()
    if placeholder is None:
        return tokenizer.encode(caption)
    numbers: list[int] = []
    for index, piece in enumerate(caption.split(placeholder.word)):
        if index:
            numbers += [-1 - k for k in range(placeholder.count)]
        numbers += tokenizer.encode(piece)
    return numbers


def token_rows(numbers: Sequence[Sequence[int]], layout: TextLayout) -> Tensor:
    """Start, tokens, end and padding of every chunk. Shapes: (B, chunks, positions) long."""
    room = layout.positions - 2
    longest = max((len(row) for row in numbers), default=0)
    chunks = min(MAX_CHUNKS, max(1, -(-longest // room)))
    rows = torch.full((len(numbers), chunks, layout.positions), layout.pad_token)
    rows[..., 0] = START
    for row, tokens in zip(rows, numbers, strict=True):
        for index, chunk in enumerate(row):
            piece = list(tokens[index * room : (index + 1) * room])
            chunk[1 : len(piece) + 2] = torch.tensor([*piece, END])
    return rows


def _run(
    tower: TextTower,
    numbers: Sequence[Sequence[int]],
    text: LoadedText,
    placeholder: Placeholder | None,
) -> Context:
    layout, model = tower.layout, tower.model
    rows = token_rows(numbers, layout).to(text.device)
    batch = len(rows)
    ids = rows.flatten(0, 1)  # (B * chunks, positions)
    vectors = model.look_up(ids.clamp(min=0))
    if placeholder is not None:
        learned = placeholder.vectors[layout.name].to(vectors)
        places = ids < 0
        vectors = vectors.index_put(places.nonzero(as_tuple=True), learned[-1 - ids[places]])
    layer = layout.layer if text.clip_skip is None else text.clip_skip
    hidden, last = model(vectors, layer if -layer <= layout.layers else -1)
    if layout.normalizes:
        hidden = model.final_layer_norm(hidden)
    ends = (ids == END).int().argmax(1)
    pooled = last[torch.arange(len(ids), device=last.device), ends]
    if model.text_projection is not None:
        pooled = model.text_projection(pooled)
    embeds = hidden.reshape(batch, -1, hidden.shape[-1])  # (B, chunks * positions, D)
    return Context(embeds=embeds, pooled=pooled.view(batch, -1, pooled.shape[-1])[:, 0])
