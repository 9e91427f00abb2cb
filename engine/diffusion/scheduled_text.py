"""Prompts that change while a picture is made, as conditioning with timestep ranges."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

from engine.diffusion.text import Encoded, FindEmbedding, LoadedText, encode
from engine.text.scheduled import Stretch, strands

if TYPE_CHECKING:
    from engine.api.types import Conditioning

_ROUNDING = 0.0011  # a schedule may take its timesteps from a table of 1000
_INTO_STEP = 0.05  # a range begins that far before its first step, as samplers look in between
_HALVINGS = 40


def even_shares(steps: int, denoise: float = 1.0) -> list[float]:
    """Where each of even steps begins, as shares of the whole process; the last is the end, 1."""
    first = 1.0 - denoise
    inner = [first + denoise * step / steps - _ROUNDING for step in range(1, steps)]
    return [0.0, *inner, 1.0]


def step_shares(sigmas: Tensor, sigma_at: Callable[[float], float]) -> list[float]:
    """Where each step of a schedule begins, as shares of a model's process.

    `sigma_at` gives the sigma of a share, falling. Shapes: sigmas (steps + 1,), falling.
    """
    values = [float(sigma) for sigma in sigmas]
    inner = [
        _share_of(after * (before / after) ** _INTO_STEP if after > 0 else 0.0, sigma_at)
        for before, after in pairwise(values[:-1])
    ]
    return [0.0, *inner, 1.0]


def _share_of(sigma: float, sigma_at: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if sigma_at(middle) > sigma:
            low = middle
        else:
            high = middle
    return high


def encode_scheduled(
    text: LoadedText,
    prompt: str,
    shares: Sequence[float],
    *,
    find_embedding: FindEmbedding | None = None,
    log: Callable[[str], None] | None = None,
) -> "Conditioning":
    """A scheduled prompt as one entry for each text and range of steps that it holds for.

    `shares` says where each step begins and, last, where the process ends. Texts between `AND` are
    entries beside each other, with their weight as strength. Raises: ScheduleFault.
    """
    encoded: dict[str, Encoded] = {}
    entries: Conditioning = []
    steps = len(shares) - 1
    for strand in strands(prompt, steps):
        for stretch in strand.stretches:
            if stretch.text not in encoded:
                found = encode(text, stretch.text, find_embedding=find_embedding, log=log)
                encoded[stretch.text] = found
            embeds = encoded[stretch.text]
            options = {"pooled_output": embeds.pooled, **_range(stretch, shares)}
            if strand.weight != 1.0:
                options["strength"] = strand.weight
            entries.append((embeds.embeds, options))
    return entries


def _range(stretch: Stretch, shares: Sequence[float]) -> dict[str, float]:
    if stretch.first == 0 and stretch.end == len(shares) - 1:
        return {}
    return {"start_percent": shares[stretch.first], "end_percent": shares[stretch.end]}
