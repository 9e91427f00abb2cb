"""Prompts to embeds: tokens in chunks of 77, textual inversion, clip skip, weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from engine.diffusion.clip_model import ClipText
from engine.diffusion.families.base import TextLayout
from engine.diffusion.weightfile import open_weights
from engine.text.layout import Counted, count, grouped, in_chunks
from engine.text.tokenizer import END, START

Token = tuple[int | Tensor, float]  # a token's number or its vector, and its weight
Chunks = list[list[Token]]
FindEmbedding = Callable[[str], Path | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTower:
    """One loaded text transformer."""

    layout: TextLayout
    model: ClipText


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedText:
    """The text part of a checkpoint: its towers by name (l, g, h) and the wanted layer."""

    family: str
    towers: Mapping[str, TextTower]
    clip_skip: int | None = None
    device: torch.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What text gives the denoiser. Shapes: embeds (1, T, D), pooled (1, P)."""

    embeds: Tensor
    pooled: Tensor


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
    """The chunks of a prompt for each tower; every chunk is as long as the tower's positions."""

    def groups(tower: TextTower) -> list[list[Token]]:
        if find_embedding is None:
            return grouped(prompt, None)
        return grouped(prompt, partial(_find_vectors, tower=tower, find=find_embedding, log=log))

    return {name: _chunks(groups(tower), tower.layout) for name, tower in text.towers.items()}


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
    name: str, tower: TextTower, find: FindEmbedding, log: Callable[[str], None] | None
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


def load_embedding(path: Path, layout: TextLayout) -> Tensor | None:
    """The vectors (N, D) of a textual-inversion file for a tower, or None if it has none that fit.

    Raises: CorruptFile.
    """
    file = open_weights(path)
    names = ("emb_params", f"clip_{layout.name}", "string_to_param.*", "")
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
    """The embeds of tokens as `tokenize` gives them; several towers stand side by side."""
    count = max(len(chunks) for chunks in tokens.values())
    empty = tokenize(text, "")
    parts: list[Encoded] = []
    with torch.no_grad():
        for name, tower in text.towers.items():
            chunks = [*tokens[name], *empty[name] * (count - len(tokens[name]))]
            parts.append(_encode_chunks(tower, chunks, empty[name][0], text))
    embeds = torch.cat([p.embeds for p in parts], dim=-1)  # (1, T, D1 + D2)
    return Encoded(embeds=embeds.cpu(), pooled=parts[-1].pooled.cpu())


def _encode_chunks(
    tower: TextTower, chunks: Chunks, empty: list[Token], text: LoadedText
) -> Encoded:
    """The embeds of one tower; a weight moves a token's embed away from the empty prompt's."""
    is_weighted = any(weight != 1.0 for chunk in chunks for _, weight in chunk)
    rows = [*chunks, empty] if is_weighted else chunks
    hidden, pooled = _run(tower, rows, text)
    if is_weighted:
        base = hidden[-1:]
        weights = torch.tensor([[w for _, w in chunk] for chunk in chunks], device=hidden.device)
        hidden = base + (hidden[:-1] - base) * weights[:, :, None]
    return Encoded(embeds=hidden.reshape(1, -1, hidden.shape[-1]), pooled=pooled[:1])


def _run(tower: TextTower, rows: Chunks, text: LoadedText) -> tuple[Tensor, Tensor]:
    """Hidden states (N, T, D) at the wanted layer, and the pooled output (N, P)."""
    layout, model = tower.layout, tower.model
    ids = torch.tensor([[t if isinstance(t, int) else 0 for t, _ in row] for row in rows])
    vectors = model.look_up(ids.to(text.device))
    for i, row in enumerate(rows):
        for j, (token, _) in enumerate(row):
            if isinstance(token, Tensor):
                vectors[i, j] = token.to(vectors)
    layer = layout.layer if text.clip_skip is None else text.clip_skip
    hidden, last = model(vectors, layer if -layer <= layout.layers else -1)
    if layout.normalizes:
        hidden = model.final_layer_norm(hidden)
    ends = torch.tensor([_end(row) for row in rows], device=last.device)
    pooled = last[torch.arange(len(rows), device=last.device), ends]
    if model.text_projection is not None:
        pooled = model.text_projection(pooled)
    return hidden, pooled


def _end(row: list[Token]) -> int:
    """The place of a chunk's first end token."""
    return next(j for j, (token, _) in enumerate(row) if isinstance(token, int) and token == END)
