"""What a step minimises: autoencoder and denoiser losses, and the noise schedule they share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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


# Fine-tuning --------------------------------------------------------------------------------------

PREDICTIONS = ("eps", "v", "x0")
TIMESTEPS = ("uniform", "logit_normal")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveSettings:
    """What a denoising step minimises.

    `min_snr` is gamma (0: no weighting; 5 is the paper's). `snr_floor` lets strong noise count as
    if its SNR were no lower: for eps its loss is nearly nothing otherwise, though flat pictures get
    their shapes there (1 as in `x0_space_weight`). `offset_noise` is the deviation of the
    noise that is the same over a whole channel. `first` and `last` bound the timesteps as shares of
    the schedule. `prior_weight` is the share of the class pictures' loss.
    """

    min_snr: float = 0.0
    snr_floor: float = 0.0
    offset_noise: float = 0.0
    timesteps: str = "uniform"
    logit_mean: float = 0.0
    logit_deviation: float = 1.0
    first: float = 0.0
    last: float = 1.0
    prior_weight: float = 1.0


def draw_timesteps(
    count: int, steps: int, settings: ObjectiveSettings, generator: torch.Generator
) -> Tensor:
    """Timesteps of one batch. Shapes: (count,) long, in 0 … steps - 1.

    Source: Ho et al. 2020 (arXiv:2006.11239) algorithm 1 (uniform); Esser et al. 2024
    (arXiv:2403.03206) eq. 19 (logit-normal).
    """
    low, high = round(settings.first * steps), round(settings.last * steps)
    if settings.timesteps == "uniform":
        return torch.randint(low, high, (count,), generator=generator)
    normal = torch.randn(count, generator=generator, dtype=torch.float64)
    share = (settings.logit_mean + settings.logit_deviation * normal).sigmoid()
    return (low + share * (high - low)).long().clamp(low, high - 1)


def draw_noise(shape: torch.Size, offset: float, generator: torch.Generator) -> Tensor:
    """The noise of one batch, with some that shifts whole channels. Shapes: (B, C, H, W).

    Source: Guttenberg 2023, "Diffusion with Offset Noise".
    """
    noise = torch.randn(shape, generator=generator)
    if offset:
        noise = noise + offset * torch.randn(*shape[:2], 1, 1, generator=generator)
    return noise


def target_of(prediction: str, x0: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """What the network should say of x_t. Shapes: (B, C, H, W), alpha (B,).

    Source: Salimans & Ho 2022 (arXiv:2202.00512) section 4 and appendix D.
    """
    a = alpha.view(-1, 1, 1, 1)
    match prediction:
        case "eps":
            return noise
        case "v":
            return a.sqrt() * noise - (1 - a).sqrt() * x0
        case "x0":
            return x0
    raise ValueError(f"{prediction} is no prediction")


def min_snr_weight(
    prediction: str, alpha: Tensor, gamma: float = math.inf, floor: float = 0.0
) -> Tensor:
    """The weight of each item's squared error: min(SNR, gamma) in x0 terms, at least `floor`.

    Shapes: (B,). Source: Hang et al. 2023 (arXiv:2303.09556) section 3.4, for eps, v and x0; the
    floor is this project's own.
    """
    snr = alpha / (1 - alpha)
    capped = snr.clamp(floor, gamma)
    return {"eps": capped / snr, "v": capped / (snr + 1), "x0": capped}[prediction]


def item_losses(predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean squared error of each item, of its masked part where it has a mask.

    Shapes: (B, C, H, W) twice, mask (B, 1, H, W) 0..1 → (B,).
    Source: Rombach et al. 2022 (arXiv:2112.10752) eq. 2.
    """
    error = (predicted.float() - target.float()).pow(2)
    if mask is None:
        return error.mean((1, 2, 3))
    return (error.mean(1, keepdim=True) * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1e-6)


def with_prior(losses: Tensor, is_class: Sequence[bool], weight: float) -> Tensor:
    """The mean of the subject's losses plus `weight` times the mean of the class's.

    Source: Ruiz et al. 2022 (DreamBooth, arXiv:2208.12242) eq. 2.
    """
    if not any(is_class):
        return losses.mean()
    of_class = torch.tensor(list(is_class), device=losses.device)
    prior = weight * losses[of_class].mean()
    return prior if all(is_class) else losses[~of_class].mean() + prior


# Autoencoders -------------------------------------------------------------------------------------


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


def structure_loss(output: Tensor, target: Tensor, scales: int = 3) -> Tensor:
    """The L1 of the picture gradients at full, half and quarter size: edges in their places.

    Source: gradient difference term of Mathieu et al. 2016 (arXiv:1511.05440) eq. 6, at the scales
    of a pyramid as in its section 3.1.
    """
    total = output.new_zeros(())
    for _ in range(scales):
        pairs = zip(_gradients(output), _gradients(target), strict=True)
        total = total + sum(F.l1_loss(a, b) for a, b in pairs)
        output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
    return total / scales


def kl_to_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of the latent's Gaussian from N(0, 1), mean over elements.

    Source: Kingma & Welling 2014 (arXiv:1312.6114) appendix B.
    """
    return 0.5 * (mean.pow(2) + logvar.exp() - 1 - logvar).mean()
