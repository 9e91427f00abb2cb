"""Attention with scaled parts, or on fewer tokens: in tiles (HyperTile) or merged (ToMe).

Each is a pair of hooks; with fewer tokens the second undoes the first in the same call.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.api.recipe import Hook

Change = Callable[[Tensor], Tensor]
Extra = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The tokens of a block as rows and columns; each depth halves the latent once more."""

    rows: int
    columns: int
    depth: int


def token_grid(extra: Extra, tokens: int) -> Grid | None:
    """The grid of so many tokens of the latent, or None where there is none."""
    height, width = extra["original_shape"][-2:]
    for depth in range(16):
        rows, columns = math.ceil(height / 2**depth), math.ceil(width / 2**depth)
        if rows * columns == tokens:
            return Grid(rows=rows, columns=columns, depth=depth)
    return None


class Reduction(Protocol):
    """How to reduce the tokens (B, T, C) of one attention call, and how to come back."""

    def __call__(self, tokens: Tensor, extra: Extra) -> tuple[Change, Change] | None: ...


class ReducedAttention:
    """The two hooks of a reduction; they are called one after the other, layer by layer.

    As in the reference engine only the queries are reduced; keys and values are shared out to them
    in plain order.
    """

    def __init__(self, reduction: Reduction) -> None:
        self._reduction = reduction
        self._restore: Change | None = None

    def before(
        self, q: Tensor, k: Tensor, v: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The `attn1_patch`."""
        self._restore = None
        changes = self._reduction(q, extra)
        if changes is None:
            return q, k, v
        reduce, self._restore = changes
        q = reduce(q)
        return q, k.reshape(q.shape[0], -1, k.shape[-1]), v.reshape(q.shape[0], -1, v.shape[-1])

    def after(self, out: Tensor, extra: Extra) -> Tensor:
        """The `attn1_output_patch`."""
        return out if self._restore is None else self._restore(out)


def scaled_attention(kind: str, q: float, k: float, v: float, out: float) -> tuple[Hook, Hook]:
    """Queries, keys, values and the output of every `attn1` or `attn2` times numbers.

    The projections of the first three have no bias, so that scaling what goes in scales them.
    """

    def before(
        queries: Tensor, keys: Tensor, values: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor, Tensor]:
        return queries * q, keys * k, values * v

    def after(x: Tensor, extra: Extra) -> Tensor:
        return x * out

    key = f"scaled_attention:{q}:{k}:{v}:{out}"
    return (
        Hook(slot=f"{kind}_patch", function=before, key=key),
        Hook(slot=f"{kind}_output_patch", function=after, key=key),
    )


# HyperTile ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperTile:
    """Tokens only see a part of the picture.

    `tile` in latent cells; of the `swaps` smallest fitting tile sizes one is drawn each time. As in
    the reference engine rows count as columns and columns as rows.
    Source: Fernandes 2023, HyperTile (github.com/tfernd/HyperTile, MIT).
    """

    tile: int
    swaps: int
    max_depth: int
    is_scaled: bool

    def __call__(self, tokens: Tensor, extra: Extra) -> tuple[Change, Change] | None:
        grid = token_grid(extra, tokens.shape[1])
        if grid is None or grid.depth > self.max_depth:
            return None
        smallest = self.tile * 2**grid.depth if self.is_scaled else self.tile
        height = self._side(grid.columns, smallest, extra)
        width = self._side(grid.rows, smallest, extra)
        if height * width == tokens.shape[1]:
            return None
        return _tiled((grid.columns // height, height), (grid.rows // width, width))

    def _side(self, length: int, smallest: int, extra: Extra) -> int:
        sides = [n for n in range(min(smallest, length), length + 1) if length % n == 0]
        return sides[_drawn(min(self.swaps, len(sides)), extra)]


def _drawn(count: int, extra: Extra) -> int:
    if count == 1:
        return 0
    return int(torch.randint(count, (1,), generator=extra.get("generator")))


def _tiled(down: tuple[int, int], across: tuple[int, int]) -> tuple[Change, Change]:
    """Into tiles, and back; (number of tiles, tokens in each) down and across."""
    (rows, height), (columns, width) = down, across

    def cut(x: Tensor) -> Tensor:
        # (B, T, C) -> (B, rows, height, columns, width, C) -> (B rows columns, height width, C)
        x = x.reshape(-1, rows, height, columns, width, x.shape[-1]).transpose(2, 3)
        return x.reshape(-1, height * width, x.shape[-1])

    def join(x: Tensor) -> Tensor:
        x = x.reshape(-1, rows, columns, height, width, x.shape[-1]).transpose(2, 3)
        return x.reshape(-1, rows * height * columns * width, x.shape[-1])

    return cut, join


# Token merging ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMerging:
    """Alike tokens become one, at the highest resolution.

    Of each 2 x 2 cells one, drawn at random, is kept; of the rest the share `ratio` of all tokens
    that is most alike to a kept one is averaged into it.
    Source: Bolya and Hoffman 2023 (arXiv 2303.17604), sections 3 and 4.
    """

    ratio: float

    def __call__(self, tokens: Tensor, extra: Extra) -> tuple[Change, Change] | None:
        grid = token_grid(extra, tokens.shape[1])
        count = int(tokens.shape[1] * self.ratio)
        if grid is None or grid.depth > 0 or count == 0 or min(grid.rows, grid.columns) < 2:
            return None
        kept = _kept_cells(grid, extra).to(tokens.device)
        return _merged(tokens, kept, count)


def _kept_cells(grid: Grid, extra: Extra) -> Tensor:
    """True for one cell of each whole 2 x 2 cells. Shapes: (T,)."""
    rows, columns = grid.rows // 2, grid.columns // 2
    choice = torch.randint(4, (rows, columns, 1), generator=extra.get("generator"))
    cells = torch.zeros(rows, columns, 4, dtype=torch.bool).scatter_(2, choice, value=True)
    kept = torch.zeros(grid.rows, grid.columns, dtype=torch.bool)
    whole = cells.reshape(rows, columns, 2, 2).transpose(1, 2).reshape(rows * 2, columns * 2)
    kept[: rows * 2, : columns * 2] = whole
    return kept.flatten()


def _merged(tokens: Tensor, kept: Tensor, count: int) -> tuple[Change, Change]:
    """Merges `count` tokens into their nearest kept ones; and gives each merged one its copy."""
    targets, sources = kept.nonzero()[:, 0], (~kept).nonzero()[:, 0]
    unit = tokens / tokens.norm(dim=-1, keepdim=True)
    score, nearest = (unit[:, sources] @ unit[:, targets].transpose(1, 2)).max(-1)
    order = score.argsort(dim=-1, descending=True)
    gone, stays = order[:, :count], order[:, count:]
    into = nearest.gather(1, gone)

    def merge(x: Tensor) -> Tensor:
        source, target = x[:, sources], x[:, targets]
        target = target.scatter_reduce(1, _wide(into, x), _picked(source, gone), "mean")
        return torch.cat([_picked(source, stays), target], dim=1)

    def unmerge(x: Tensor) -> Tensor:
        rest, target = x[:, : stays.shape[1]], x[:, stays.shape[1] :]
        result = x.new_empty(x.shape[0], len(kept), x.shape[-1])
        result[:, targets] = target
        result.scatter_(1, _wide(sources[stays], x), rest)
        result.scatter_(1, _wide(sources[gone], x), _picked(target, into))
        return result

    return merge, unmerge


def _wide(index: Tensor, x: Tensor) -> Tensor:
    return index[..., None].expand(-1, -1, x.shape[-1])


def _picked(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, _wide(index, x))
