"""Losses and schedules against their formulas."""

import pytest
import torch

from engine.diffusion.training.objectives import (
    add_noise,
    eps_loss,
    kl_to_normal,
    reconstruction_loss,
    scaled_linear_alphas,
    skewed_timesteps,
    x0_space_weight,
)


def test_alphas_equal_the_published_scaled_linear_values() -> None:
    alphas = scaled_linear_alphas()
    assert float(alphas[0]) == pytest.approx(1 - 0.00085, abs=1e-7)
    assert float(((1 - alphas[-1]) / alphas[-1]).sqrt()) == pytest.approx(14.6146, abs=1e-3)


def test_closed_form_of_the_noisy_latent() -> None:
    x0, noise = torch.full((2, 1, 1, 1), 3.0), torch.full((2, 1, 1, 1), 2.0)
    noisy = add_noise(x0, noise, torch.tensor([1.0, 0.25]))
    assert noisy.flatten().tolist() == pytest.approx([3.0, 1.5 + 2 * 0.75**0.5])


def test_closed_form_of_the_weight() -> None:
    snr = torch.tensor([1e-4, 0.5, 2.0, 50.0])
    alpha = snr / (1 + snr)
    expected = [100.0, 2.0, 1.0, 0.1]
    assert x0_space_weight(alpha).tolist() == pytest.approx(expected, rel=1e-3)


def test_below_snr_one_the_weighted_eps_error_is_the_x0_error() -> None:
    generator = torch.Generator().manual_seed(5)
    alpha = torch.tensor([0.1, 0.3])
    x0 = torch.randn(2, 4, 3, 3, generator=generator)
    noise = torch.randn(x0.shape, generator=generator)
    guess = noise + 0.1 * torch.randn(x0.shape, generator=generator)
    a = alpha.view(-1, 1, 1, 1)
    guessed_x0 = (add_noise(x0, noise, alpha) - (1 - a).sqrt() * guess) / a.sqrt()
    expected = (guessed_x0 - x0).pow(2).mean()
    assert float(eps_loss(guess, noise, alpha)) == pytest.approx(float(expected), rel=1e-4)


def test_share_of_strong_noise() -> None:
    t = skewed_timesteps(20_000, 0.4, torch.Generator().manual_seed(1))
    assert int(t.min()) >= 0
    assert int(t.max()) <= 999
    assert float((t >= 650).float().mean()) == pytest.approx(0.4 + 0.6 * 0.35, abs=0.02)


def test_losses_vanish_where_they_must() -> None:
    picture = torch.rand(1, 3, 8, 8)
    assert float(reconstruction_loss(picture, picture)) == 0
    assert float(kl_to_normal(torch.zeros(3), torch.zeros(3))) == 0
    assert float(reconstruction_loss(picture + 0.5, picture)) == pytest.approx(1.0, rel=1e-5)
