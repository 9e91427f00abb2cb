"""Prompts to embeds: tokens in chunks of 77, textual inversion, clip skip, weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from engine.diffusion.clip_model import ClipText
from engine.diffusion.families.base import TextLayout
from engine.diffusion.finite import check_finite
from engine.diffusion.text_joins import JOINS, T5, Encoded, TowerOutput, side_by_side
from engine.diffusion.weightfile import open_weights
from engine.text.layout import Counted, count, grouped, in_chunks
from engine.text.tokenizer import END, START, load_tokenizer

Token = tuple[int | Tensor, float]  # a token's number or its vector, and its weight
Chunks = list[list[Token]]
FindEmbedding = Callable[[str], Path | None]


class TowerLayout(Protocol):
    """What textual inversion must know of a tower."""

    @property
    def name(self) -> str: ...
    @property
    def width(self) -> int: ...


class Tower(Protocol):
    """One loaded text transformer: how it cuts a prompt, and its embeds."""

    @property
    def layout(self) -> TowerLayout: ...
    def words(self, text: str) -> list[int]: ...
    def chunks(self, groups: list[list[Token]]) -> Chunks: ...
    def empty(self, length: int) -> list[Token]: ...
    def run(
        self, rows: Chunks, clip_skip: int | None, device: torch.device
    ) -> tuple[Tensor, Tensor | None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTower:
    """One loaded CLIP text transformer."""

    layout: TextLayout
    model: ClipText

    def words(self, text: str) -> list[int]:
        """The token numbers of a text, without start and end."""
        return load_tokenizer().encode(text)

    def chunks(self, groups: list[list[Token]]) -> Chunks:
        """Groups laid into chunks as long as the tower's positions."""
        return _chunks(groups, self.layout)

    def empty(self, length: int) -> list[Token]:
        """The chunk of an empty prompt."""
        return _chunks([], self.layout)[0]

    def run(
        self, rows: Chunks, clip_skip: int | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (N, T, D) at the wanted layer, and the pooled output (N, P)."""
        layout, model = self.layout, self.model
        layer = layout.layer if clip_skip is None else clip_skip
        vectors = token_vectors(model, rows, device)
        hidden, last = model(vectors, layer if -layer <= layout.layers else -1)
        if layout.normalizes:
            hidden = model.final_layer_norm(hidden)
        ends = torch.tensor([_end(row) for row in rows], device=last.device)
        pooled = last[torch.arange(len(rows), device=last.device), ends]
        if model.text_projection is not None:
            pooled = model.text_projection(pooled)
        return hidden, pooled


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedText:
    """The text part of a checkpoint: its towers by name (l, g, h, t5xxl) and the wanted layer."""

    family: str
    towers: Mapping[str, Tower]
    clip_skip: int | None = None
    device: torch.device


def encode(
    text: LoadedText,
    prompt: str,
    *,
    find_embedding: FindEmbedding | None = None,
    log: Callable[[str], None] | None = None,
) -> Encoded:
    """The embeds of a prompt in the prompt language (weights, escapes, `embedding:name`).

    `find_embedding` gives the file of an embedding's name, or None; one that is missing is left out
    and told to `log`.
    """
    return encode_tokens(text, tokenize(text, prompt, find_embedding=find_embedding, log=log))


# Tokens -------------------------------------------------------------------------------------------


def tokenize(
    text: LoadedText,
    prompt: str,
    *,
    find_embedding: FindEmbedding | None = None,
    log: Callable[[str], None] | None = None,
) -> dict[str, Chunks]:
    """The chunks of a prompt for each tower."""

    def groups(tower: Tower) -> list[list[Token]]:
        find = None
        if find_embedding is not None:
            find = partial(_find_vectors, tower=tower, find=find_embedding, log=log)
        return grouped(prompt, find, tower.words)

    return {name: tower.chunks(groups(tower)) for name, tower in text.towers.items()}


def count_tokens(
    text: LoadedText,
    prompt: str,
    *,
    find_embedding: FindEmbedding | None = None,
    log: Callable[[str], None] | None = None,
) -> Counted:
    """The tokens of a prompt as the first tower gets them; start, end and padding left out."""
    tower = next(iter(text.towers.values()))

    def names(name: str) -> tuple[list[str], str]:
        if find_embedding is None:
            return [], ""
        vectors, rest = _find_vectors(name, tower, find_embedding, log)
        return [name] * len(vectors), rest

    return count(prompt, names)


def _find_vectors(
    name: str, tower: Tower, find: FindEmbedding, log: Callable[[str], None] | None
) -> tuple[list[Tensor], str]:
    """An embedding's vectors, and what of the word is text (a comma after the name)."""
    short = name.rstrip(",")
    for candidate in dict.fromkeys((name, short)):
        path = find(candidate)
        if path is not None:
            vectors = load_embedding(path, tower.layout)
            if vectors is None and log:
                log(f"The embedding {candidate} does not fit this model and was left out.")
            return list(vectors if vectors is not None else ()), name[len(candidate) :]
    if log:
        log(f"There is no embedding {short}; it was left out.")
    return [], ""


def load_embedding(path: Path, layout: TowerLayout) -> Tensor | None:
    """The vectors (N, D) of a textual-inversion file for a tower, or None if it has none that fit.

    Raises: CorruptFile.
    """
    file = open_weights(path)
    names = ("emb_params", f"clip_{layout.name}", layout.name, "string_to_param.*", "")
    found = [n for n in names if n in file] or list(file.infos)
    for key in found:
        tensor = file.tensor(key)
        vectors = tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() else tensor.view(1, 1)
        if vectors.shape[1] == layout.width:
            return vectors.float()
    return None


def _chunks(groups: list[list[Token]], layout: TextLayout) -> Chunks:
    """Groups laid into chunks between start and end, filled up to the tower's length."""
    chunks: Chunks = []
    for tokens in in_chunks(groups, layout.positions - 2):
        chunk: list[Token] = [(START, 1.0), *tokens, (END, 1.0)]
        chunks.append(chunk + [(layout.pad_token, 1.0)] * (layout.positions - len(chunk)))
    return chunks


# Encoding -----------------------------------------------------------------------------------------


def encode_tokens(text: LoadedText, tokens: Mapping[str, Chunks]) -> Encoded:
    """The embeds of tokens as `tokenize` gives them; a tower without chunks is left out.

    How several towers come together is the family's (see `text_joins`). Raises: NodeError, for NaN.
    """
    chunked = {n: c for n, c in tokens.items() if n in text.towers and c}
    count = max((len(chunks) for chunks in chunked.values()), default=0)
    parts: dict[str, TowerOutput] = {}
    with torch.no_grad():
        for name, tower in text.towers.items():
            if name in chunked:
                chunks = chunked[name]
                if name != T5:
                    length = len(chunks[0])
                    chunks = [*chunks, *[tower.empty(length)] * (count - len(chunks))]
                parts[name] = _encode_chunks(tower, chunks, text)
    joined = JOINS.get(text.family, side_by_side)(parts)
    check_finite(
        joined.embeds, "The text encoder gave", "Its file, an embedding or a LoRA is damaged."
    )
    return Encoded(embeds=joined.embeds.cpu(), pooled=joined.pooled.cpu())


def _encode_chunks(tower: Tower, chunks: Chunks, text: LoadedText) -> TowerOutput:
    """The embeds of one tower; a weight moves a token's embed away from the empty prompt's."""
    is_weighted = any(weight != 1.0 for chunk in chunks for _, weight in chunk)
    rows = [*chunks, tower.empty(len(chunks[0]))] if is_weighted else chunks
    hidden, pooled = tower.run(rows, text.clip_skip, text.device)
    if is_weighted:
        base = hidden[-1:]
        weights = torch.tensor([[w for _, w in chunk] for chunk in chunks], device=hidden.device)
        hidden = base + (hidden[:-1] - base) * weights[:, :, None]
    return TowerOutput(
        embeds=hidden.reshape(1, -1, hidden.shape[-1]),
        pooled=None if pooled is None else pooled[:1],
    )


class _LooksUp(Protocol):
    def look_up(self, ids: Tensor) -> Tensor: ...


def token_vectors(model: _LooksUp, rows: Chunks, device: torch.device) -> Tensor:
    """The vectors of rows of tokens (N, T, D); those of textual inversion stand for themselves."""
    ids = torch.tensor([[t if isinstance(t, int) else 0 for t, _ in row] for row in rows])
    vectors = model.look_up(ids.to(device))
    for i, row in enumerate(rows):
        for j, (token, _) in enumerate(row):
            if isinstance(token, Tensor):
                vectors[i, j] = token.to(vectors)
    return vectors


def _end(row: list[Token]) -> int:
    """The place of a chunk's first end token."""
    return next(j for j, (token, _) in enumerate(row) if isinstance(token, int) and token == END)
