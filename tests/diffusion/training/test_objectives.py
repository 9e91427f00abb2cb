"""Losses and schedules against their formulas."""

import pytest
import torch

from engine.diffusion.training.objectives import (
    ObjectiveSettings,
    add_noise,
    draw_noise,
    draw_timesteps,
    eps_loss,
    item_losses,
    kl_to_normal,
    min_snr_weight,
    reconstruction_loss,
    scaled_linear_alphas,
    skewed_timesteps,
    target_of,
    with_prior,
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


# Fine-tuning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_closed_form_each_prediction_of_a_perfect_network_gives_back_the_clean_latent(
    prediction: str,
) -> None:
    x0, noise = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    alpha = torch.tensor([0.9, 0.5, 0.1])
    a = alpha.view(-1, 1, 1, 1)
    x = add_noise(x0, noise, alpha)
    said = target_of(prediction, x0, noise, alpha)
    clean = {
        "eps": (x - (1 - a).sqrt() * said) / a.sqrt(),
        "v": a.sqrt() * x - (1 - a).sqrt() * said,
        "x0": said,
    }[prediction]
    torch.testing.assert_close(clean, x0, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_closed_form_min_snr_is_one_weight_on_the_x0_error(prediction: str) -> None:
    x0, noise = torch.randn(4, 4, 2, 2), torch.randn(4, 4, 2, 2)
    snr = torch.tensor([0.2, 2.0, 5.0, 60.0])
    alpha = snr / (1 + snr)
    a = alpha.view(-1, 1, 1, 1)
    wrong = 0.1 * torch.randn(4, 4, 2, 2)  # an error of the clean latent, whoever predicts it
    x = add_noise(x0, noise, alpha)
    guess = x0 + wrong
    guessed_noise = (x - a.sqrt() * guess) / (1 - a).sqrt()
    said = target_of(prediction, guess, guessed_noise, alpha)
    losses = item_losses(said, target_of(prediction, x0, noise, alpha))
    weighted = losses * min_snr_weight(prediction, alpha, 5.0)
    expected = wrong.pow(2).mean((1, 2, 3)) * snr.clamp(max=5.0)
    torch.testing.assert_close(weighted, expected, atol=1e-5, rtol=1e-3)
    weighted = losses * min_snr_weight(prediction, alpha, floor=1.0)
    expected = wrong.pow(2).mean((1, 2, 3)) * snr.clamp(min=1.0)
    torch.testing.assert_close(weighted, expected, atol=1e-5, rtol=1e-3)


def test_closed_form_a_masked_loss_is_the_mean_over_the_mask() -> None:
    predicted, target = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)
    target[..., 0, :] = 3.0
    mask = torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]]])
    assert item_losses(predicted, target, mask).tolist() == pytest.approx([1.0])
    assert item_losses(predicted, target, torch.ones(1, 1, 2, 2)).tolist() == pytest.approx([5.0])
    assert item_losses(predicted, target).tolist() == pytest.approx([5.0])


def test_closed_form_of_the_prior_term() -> None:
    losses = torch.tensor([1.0, 3.0, 10.0, 20.0])
    is_class = [False, False, True, True]
    assert float(with_prior(losses, is_class, 0.5)) == pytest.approx(2.0 + 0.5 * 15.0)
    assert float(with_prior(losses, [False] * 4, 0.5)) == pytest.approx(8.5)


def test_timesteps_keep_their_bounds_and_their_shape() -> None:
    generator = torch.Generator().manual_seed(2)
    part = ObjectiveSettings(first=0.2, last=0.5)
    t = draw_timesteps(4000, 1000, part, generator)
    assert (int(t.min()), int(t.max())) == (200, 499)
    normal = ObjectiveSettings(timesteps="logit_normal", logit_mean=0.0, logit_deviation=1.0)
    t = draw_timesteps(20_000, 1000, normal, generator).double() / 1000
    assert float(t.logit().clamp(-9, 9).mean()) == pytest.approx(0.0, abs=0.05)
    assert float(t.logit().clamp(-9, 9).std()) == pytest.approx(1.0, abs=0.05)


def test_offset_noise_adds_its_variance_to_channel_means_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    noise = draw_noise(torch.Size((2000, 4, 8, 8)), 0.5, generator)
    means = noise.mean((2, 3))
    assert float(means.var()) == pytest.approx(0.25 + 1 / 64, rel=0.05)
    assert float((noise - means[..., None, None]).var()) == pytest.approx(63 / 64, rel=0.02)
