"""Seeded noise and the Brownian path."""

import pytest
import torch

from engine.diffusion.noise import BrownianPath, NoNoise, RandomNoise, initial_noise


def test_batch_index_gives_each_item_its_own_noise() -> None:
    latent = torch.zeros(4, 4, 2, 2)
    one_by_one = initial_noise(latent, 5, [0, 1, 2, 3])
    assert torch.equal(initial_noise(latent[:2], 5, [2, 0]), one_by_one[[2, 0]])
    assert torch.equal(initial_noise(latent[:2], 5, [1, 1])[0], one_by_one[1])


@pytest.mark.parametrize("seed", [0, 2**32, 2**63, 2**64 - 1])
def test_every_64_bit_seed_has_noise_of_its_own(seed: int) -> None:
    latent = torch.zeros(1, 4, 4, 4)
    noise = RandomNoise(seed).generate_noise({"samples": latent})
    assert torch.equal(noise, initial_noise(latent, seed))
    assert not torch.equal(noise, initial_noise(latent, (seed + 1) % 2**64))


def test_no_noise_is_zero() -> None:
    assert not NoNoise().generate_noise({"samples": torch.ones(1, 4, 2, 2)}).any()


def path(seed: int = 7) -> BrownianPath:
    return BrownianPath((4000,), torch.float64, start=0.03, end=14.6, seed=seed)


def test_brownian_increments_add_up() -> None:
    parts = path().increment(0.5, 2.0) + path().increment(2.0, 9.0)
    torch.testing.assert_close(parts, path().increment(0.5, 9.0))


def test_brownian_path_does_not_depend_on_what_was_asked_before() -> None:
    asked = path()
    for a, b in ((0.1, 0.2), (5.0, 6.0), (0.03, 14.6)):
        asked.increment(a, b)
    assert torch.equal(asked.increment(1.0, 3.0), path().increment(1.0, 3.0))
    assert not torch.equal(path(8).increment(1.0, 3.0), path().increment(1.0, 3.0))


def test_brownian_increments_are_independent_and_as_wide_as_their_time() -> None:
    first, second = path().increment(1.0, 3.0), path().increment(3.0, 4.5)
    assert float(first.var()) == pytest.approx(2.0, rel=0.1)
    assert float(second.var()) == pytest.approx(1.5, rel=0.1)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.05
    assert not path().increment(2.0, 2.0).any()
