"""Seeded noise: initial noise of latents, and the noise that stochastic samplers draw.

All of it comes from CPU generators, so that it is equal on every device.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from engine.api.types import LatentDict

SEED_LIMIT = 2**64
_STEERING = -10  # added to the seed, as the ecosystem does


def initial_noise(latent: Tensor, seed: int, batch_index: Sequence[int] | None = None) -> Tensor:
    """Standard normal noise in the shape of a latent.

    `batch_index` numbers the items: each gets the noise of that place in an endless batch, so that
    one item of a batch can be made again alone.
    """
    generator = torch.Generator().manual_seed(seed % SEED_LIMIT)
    dtype = latent.dtype
    if batch_index is None:
        return torch.randn(latent.shape, dtype=dtype, generator=generator)
    wanted = list(batch_index)
    shape = (1, *latent.shape[1:])
    drawn = [torch.randn(shape, dtype=dtype, generator=generator) for _ in range(max(wanted) + 1)]
    return torch.cat([drawn[i] for i in wanted])


def steering_generator(seed: int) -> torch.Generator:
    """For noise on a picture that steers the model: equal noise in the latent would cancel."""
    return torch.Generator().manual_seed((seed + _STEERING) % SEED_LIMIT)


class NoiseMaker(Protocol):
    """A NOISE value: gives a latent its noise, and samplers their seed."""

    @property
    def seed(self) -> int: ...

    def generate_noise(self, latent: "LatentDict") -> Tensor:
        """Noise in the shape of a latent's samples."""
        ...


@dataclass(frozen=True, slots=True)
class RandomNoise:
    """A NOISE value: the noise of a seed."""

    seed: int

    def generate_noise(self, latent: "LatentDict") -> Tensor:
        """Noise in the shape of a latent's samples."""
        return initial_noise(latent["samples"], self.seed, latent.get("batch_index"))


@dataclass(frozen=True, slots=True)
class NoNoise:
    """A NOISE value: none; stochastic samplers still have a seed."""

    seed: int = 0

    def generate_noise(self, latent: "LatentDict") -> Tensor:
        """Zeros in the shape of a latent's samples."""
        return torch.zeros(latent["samples"].shape, dtype=latent["samples"].dtype)


class NoiseSource:
    """What one sampler run draws: independent noise, or increments of one Brownian path."""

    def __init__(self, like: Tensor, seed: int) -> None:
        self._like = like
        self._seed = seed
        # The same seed as the initial noise, as in the reference engine on a CPU.
        self._generator = torch.Generator().manual_seed(seed % SEED_LIMIT)

    def normal(self, like: Tensor | None = None) -> Tensor:
        """The next independent standard normal noise in the latent's shape, or in another one."""
        x = self._like if like is None else like
        return torch.randn(x.shape, dtype=x.dtype, generator=self._generator).to(x.device)

    def brownian(self, sigmas: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Unit noise of the path between two sigmas of the schedule."""
        x = self._like
        path = BrownianPath(
            tuple(x.shape),
            x.dtype,
            start=float(sigmas[sigmas > 0].min()),
            end=float(sigmas.max()),
            seed=self._seed,
        )

        def between(sigma: Tensor, sigma_next: Tensor) -> Tensor:
            a, b = float(sigma), float(sigma_next)
            sign = 1.0 if a < b else -1.0
            increment = path.increment(min(a, b), max(a, b)) * sign
            return (increment / (sigma_next - sigma).abs().sqrt().cpu()).to(x.device)

        return between


class BrownianPath:
    """A Brownian path on [start, end] that depends on its seed alone, not on what is asked.

    The interval is halved again and again; each half's increment comes from its parent's by a
    Brownian bridge, with noise of a seed made from the place in the tree. An end point is found by
    halving until it is met to six digits.

    Source: Li et al. 2020 (arXiv 2001.01328), virtual Brownian tree; the numbering of the seeds is
    that of torchsde 0.2 (Apache-2.0), so that both give the same path.
    """

    _DIGITS = 6
    _POOL = 24

    def __init__(
        self, shape: tuple[int, ...], dtype: torch.dtype, *, start: float, end: float, seed: int
    ) -> None:
        self._shape, self._dtype, self._seed = shape, dtype, seed
        self._top = (round(start, self._DIGITS), round(end, self._DIGITS))
        state = np.random.SeedSequence(entropy=seed, pool_size=self._POOL).generate_state(3)
        self._total = self._draw(int(state[0])) * math.sqrt(end - start)

    def increment(self, a: float, b: float) -> Tensor:
        """W(b) - W(a), for start <= a <= b <= end."""
        low, high = self._top
        a = min(max(round(a, self._DIGITS), low), high)
        b = min(max(round(b, self._DIGITS), low), high)
        if a == b:
            return torch.zeros(self._shape, dtype=self._dtype)
        pieces: list[Tensor] = []
        self._collect(a, b, (low, high), (0, 0), self._total, pieces)
        total = pieces[0]
        for piece in pieces[1:]:
            total = total + piece
        return total

    def _draw(self, seed: int) -> Tensor:
        return torch.randn(
            self._shape, dtype=self._dtype, generator=torch.Generator().manual_seed(seed)
        )

    def _collect(
        self,
        a: float,
        b: float,
        span: tuple[float, float],
        place: tuple[int, int],
        increment: Tensor,
        pieces: list[Tensor],
    ) -> None:
        """Adds the increments of the parts of `span` that make up [a, b], from left to right."""
        start, end = span
        if a <= start and b >= end:
            pieces.append(increment)
            return
        middle = 0.5 * (end + start)
        rounded = round(middle, self._DIGITS)
        key, depth = place
        left = self._left_half(place, increment, start, rounded, end)
        if a < rounded:
            part = (start, rounded)
            self._collect(a, min(b, rounded), part, (2 * key, depth + 1), left, pieces)
        if b > rounded:
            part = (rounded, end)
            right = increment - left
            self._collect(max(a, rounded), b, part, (2 * key + 1, depth + 1), right, pieces)

    def _left_half(
        self, place: tuple[int, int], increment: Tensor, start: float, middle: float, end: float
    ) -> Tensor:
        """The increment of the left half, given the whole one: a Brownian bridge."""
        key, depth = place
        sequence = np.random.SeedSequence(
            entropy=self._seed, spawn_key=(key, depth), pool_size=self._POOL
        )
        noise = self._draw(int(sequence.generate_state(4)[0]))
        scale = 1 / (end - start)
        left, right = middle - start, end - middle
        return left * increment * scale + math.sqrt(left * right * scale) * noise
