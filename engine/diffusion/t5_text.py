"""A T5 encoder as a text tower: its tokens, padding and embeds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.diffusion.families.base import T5Layout
from engine.diffusion.t5_model import T5Text
from engine.diffusion.t5_tokenizer import END, PAD
from engine.diffusion.text import Chunks, Token, token_vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class T5Tower:
    """One loaded T5 encoder. `tokenizer` gives it when a prompt first needs it.

    A prompt is one row of any length, padded by `min_padding` and up to `min_length` tokens.
    """

    layout: T5Layout
    model: T5Text
    tokenizer: Callable[[], "Tokenizer"]
    min_padding: int = 0
    min_length: int

    def words(self, text: str) -> list[int]:
        """The token numbers of a text, without its end."""
        return self.tokenizer().encode(text.replace("\n", " "), add_special_tokens=False).ids

    def chunks(self, groups: list[list[Token]]) -> Chunks:
        """All tokens in one row."""
        row = [token for group in groups for token in group]
        row.append((END, 1.0))
        row += [(PAD, 1.0)] * max(self.min_padding, self.min_length - len(row))
        return [row]

    def empty(self, length: int) -> list[Token]:
        """The row of an empty prompt."""
        return [(END, 1.0), *[(PAD, 1.0)] * (length - 1)]

    def run(self, rows: Chunks, clip_skip: int | None, device: torch.device) -> tuple[Tensor, None]:
        """The embeds (N, T, D); there is no pooled output, and no layer is left out."""
        return self.model(token_vectors(self.model, rows, device)), None
