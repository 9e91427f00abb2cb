"""Training the built-in model's text encoder on captions alone, before any picture is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from engine.diffusion.training.loop import Loss
from engine.diffusion.training.networks import CONTEXT_TOKENS, TEXT_WIDTH, token_table
from engine.diffusion.training.shapes_world.captions import ATTRIBUTES, Caption

if TYPE_CHECKING:
    from transformers import CLIPTextModel

FOREIGN, START, END = 0, 1, 2
"""Compact ids: the pinned zero row of unknown words, and CLIP's two marks."""
CLIP_START, CLIP_END = 49406, 49407


@dataclass(frozen=True, slots=True)
class CompactVocabulary:
    """The CLIP tokens that captions use, numbered densely; all others are `FOREIGN`."""

    clip_ids: tuple[int, ...]
    """CLIP's id of every compact id; -1 for `FOREIGN`."""

    @classmethod
    def of(cls, token_lists: Sequence[Sequence[int]]) -> CompactVocabulary:
        used = sorted({token for tokens in token_lists for token in tokens})
        return cls((-1, CLIP_START, CLIP_END, *used))

    def compact(self, token_lists: Sequence[Sequence[int]]) -> np.ndarray:
        """Padded rows of compact ids: start, tokens, end, end … Shapes: (N, 77) int64."""
        index = {clip_id: i for i, clip_id in enumerate(self.clip_ids)}
        rows = np.full((len(token_lists), CONTEXT_TOKENS), END, np.int64)
        rows[:, 0] = START
        for row, tokens in zip(rows, token_lists, strict=True):
            row[1 : 1 + len(tokens)] = [index.get(t, FOREIGN) for t in tokens]
        return rows


def with_foreign_words(rows: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A copy in which `share` of all captions carry one or two unknown tokens somewhere."""
    result = rows.copy()
    for index in np.flatnonzero(rng.random(len(rows)) < share):
        row = result[index]
        length = int((row != END).sum())
        for _ in range(int(rng.integers(1, 3))):
            at = int(rng.integers(1, length + 1))
            row[at + 1 :] = row[at:-1].copy()
            row[at] = FOREIGN
    return result


class AttributeReader(nn.Module):
    """The encoder with one linear head per attribute; the heads are thrown away afterwards."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder
        sizes = [1 + len(classes) for classes in ATTRIBUTES.values()]
        self.sizes = sizes
        self.heads = nn.Linear(TEXT_WIDTH, sum(sizes))

    def forward(self, rows: Tensor) -> Tensor:
        """Context of every token. Shapes: (B, 77) → (B, 77, 128)."""
        return context_of(self.encoder, rows)


def context_of(encoder: CLIPTextModel, rows: Tensor) -> Tensor:
    """What the denoiser reads. Shapes: (B, 77) compact ids → (B, 77, width)."""
    return encoder(input_ids=rows).last_hidden_state


def attribute_loss(
    reader: AttributeReader, rows: np.ndarray, captions: Sequence[Caption], batch: int = 64
) -> Loss:
    """Cross-entropy of all attributes, read at eight random positions of the padding.

    It makes each padding position a summary of the caption: most of what cross-attention sees.
    Source: this project's own, a supervised stand-in for contrastive pre-training as in
    Radford et al. 2021 (arXiv:2103.00020) section 2.3.
    """
    labels = torch.tensor([caption.labels for caption in captions])
    table = torch.from_numpy(rows)
    lengths = (table != END).sum(1)

    def loss(progress: float, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            token_table(reader.encoder)[FOREIGN] = 0
        picks = torch.randint(len(table), (batch,), generator=generator)
        context = reader(table[picks])
        room = CONTEXT_TOKENS - lengths[picks]
        offsets = torch.rand(batch, 8, generator=generator) * room[:, None]
        places = (lengths[picks][:, None] + offsets.long()).clamp(max=CONTEXT_TOKENS - 1)
        read = context.gather(1, places[..., None].expand(-1, -1, TEXT_WIDTH))
        scores = reader.heads(read).split(reader.sizes, -1)
        target = labels[picks][:, None, :].expand(-1, 8, -1)
        return sum(
            (
                F.cross_entropy(s.flatten(0, 1), target[..., i].flatten())
                for i, s in enumerate(scores)
            ),
            start=torch.zeros(()),
        )

    return loss


@torch.no_grad()
def attribute_accuracy(
    reader: AttributeReader, rows: np.ndarray, captions: Sequence[Caption]
) -> float:
    """Share of captions whose every attribute is read correctly at the last position."""
    table = torch.from_numpy(rows)
    labels = torch.tensor([caption.labels for caption in captions])
    right = torch.ones(len(rows), dtype=torch.bool)
    context = torch.cat([reader(chunk)[:, -1] for chunk in table.split(256)])
    for i, scores in enumerate(reader.heads(context).split(reader.sizes, -1)):
        right &= scores.argmax(-1) == labels[:, i]
    return float(right.float().mean())
