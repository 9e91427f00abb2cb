"""What a step minimises: autoencoder and denoiser losses, and the noise schedule they share."""

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor


def scaled_linear_alphas(steps: int = 1000, low: float = 0.00085, high: float = 0.012) -> Tensor:
    """Cumulative alphas of Stable-Diffusion-style training. Shapes: (steps,) float32.

    Source: Rombach et al. 2022 (arXiv:2112.10752), "scaled linear": betas are squares of a
    linear ramp between the roots; alphas as Ho et al. 2020 (arXiv:2006.11239) eq. 4.
    """
    betas = torch.linspace(low**0.5, high**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def add_noise(x0: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """The noisy latent x_t. Shapes: x0 and noise (B, C, H, W); alpha (B,).

    Source: Ho et al. 2020 (arXiv:2006.11239) eq. 4.
    """
    a = alpha.view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def skewed_timesteps(count: int, high_share: float, generator: torch.Generator) -> Tensor:
    """Timesteps: `high_share` of them from 650..999, where the prompt decides, others uniform.

    Flat pictures are so redundant that only strong noise needs the text. Shapes: (count,) long.
    Source: importance sampling of t as in Nichol & Dhariwal 2021 (arXiv:2102.09672) section 3.3;
    the interval is this project's own, found by trial.
    """
    low = torch.randint(0, 1000, (count,), generator=generator)
    high = torch.randint(650, 1000, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < high_share, high, low)


def x0_space_weight(alpha: Tensor, cap: float = 100.0) -> Tensor:
    """Weight on the eps error: clamp(SNR, 1, 5) / SNR, at most `cap`. Shapes: (B,).

    The eps error times 1/SNR is the x0 error, so strong noise counts fully.
    Source: Hang et al. 2023 (arXiv:2303.09556) eq. 8, with a floor of 1 instead of none.
    """
    snr = alpha / (1 - alpha)
    return (snr.clamp(1, 5) / snr).clamp(max=cap)


def eps_loss(predicted: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Weighted mean squared error of the predicted noise.

    Source: Ho et al. 2020 (arXiv:2006.11239) eq. 14 with `x0_space_weight`.
    """
    error = (predicted - noise).pow(2).mean((1, 2, 3))
    return (error * x0_space_weight(alpha)).mean()


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 + 2 MSE + half the L1 of the picture gradients, which keeps edges sharp.

    Source: gradient difference term of Mathieu et al. 2016 (arXiv:1511.05440) eq. 6.
    """
    edges = sum(
        F.l1_loss(a, b) for a, b in zip(_gradients(output), _gradients(target), strict=True)
    )
    return F.l1_loss(output, target) + 2 * F.mse_loss(output, target) + 0.5 * edges


def kl_to_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of the latent's Gaussian from N(0, 1), mean over elements.

    Source: Kingma & Welling 2014 (arXiv:1312.6114) appendix B.
    """
    return 0.5 * (mean.pow(2) + logvar.exp() - 1 - logvar).mean()
