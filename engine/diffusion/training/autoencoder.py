"""Training the built-in model's VAE: all of it on crops and pictures, then its decoder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from engine.diffusion.training.dataset import (
    ASPECTS,
    autoencoder_scenes,
    object_crops,
    rendered,
    to_tensor,
)
from engine.diffusion.training.loop import Loss
from engine.diffusion.training.objectives import kl_to_normal, reconstruction_loss
from engine.diffusion.training.shapes_world.scene import Scene

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

CROP_BATCH, PICTURE_BATCH = 36, 12
KL_WEIGHT = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSet:
    """Pictures of one aspect with the scenes that they show."""

    pictures: np.ndarray
    scenes: list[Scene]


def autoencoder_sets(folder: Path, size_px: int, count: int, seed: int) -> list[PictureSet]:
    """Square, wide and tall pictures, rendered on first use; two thirds of them square."""
    sets: list[PictureSet] = []
    for index, aspect in enumerate(ASPECTS):
        scenes = autoencoder_scenes(count * 2 // 3 if index == 0 else count // 6, seed, aspect)
        path = folder / f"autoencoder-{size_px}-{index}-{len(scenes)}.npy"
        sets.append(PictureSet(pictures=rendered(path, scenes, size_px), scenes=scenes))
    return sets


def draw_batch(sets: list[PictureSet], crop_px: int | None, generator: torch.Generator) -> Tensor:
    """A batch of object-centred crops, or of whole pictures. Shapes: (B, 3, h, w) in -1..1."""
    chosen = sets[int(torch.multinomial(torch.tensor([4.0, 1.0, 1.0]), 1, generator=generator))]
    batch = PICTURE_BATCH if crop_px is None else CROP_BATCH
    picks = torch.randint(len(chosen.scenes), (batch,), generator=generator).numpy()
    if crop_px is None:
        return to_tensor(chosen.pictures[picks])
    uniform = torch.rand(batch, 3, generator=generator, dtype=torch.float64).numpy()
    return to_tensor(object_crops(chosen.pictures, chosen.scenes, picks, crop_px, uniform))


def moments(vae: AutoencoderKL, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the latents, unscaled. Shapes: each (B, 4, h, w)."""
    assert vae.quant_conv is not None
    mean, logvar = vae.quant_conv(vae.encoder(pictures)).chunk(2, 1)
    return mean, logvar.clamp(-30, 20)


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Pictures of unscaled latents. Shapes: (B, 4, h, w) → (B, 3, 8h, 8w)."""
    assert vae.post_quant_conv is not None
    return vae.decoder(vae.post_quant_conv(latents))


def autoencoder_loss(vae: AutoencoderKL, sets: list[PictureSet], crop_share: float = 0.72) -> Loss:
    """Reconstruction and a light KL: object-centred crops first, whole pictures at the end."""

    def loss(progress: float, generator: torch.Generator) -> Tensor:
        pictures = draw_batch(sets, 32 if progress < crop_share else None, generator)
        mean, logvar = moments(vae, pictures)
        noise = torch.randn(mean.shape, generator=generator)
        output = decode(vae, mean + noise * (0.5 * logvar).exp())
        return reconstruction_loss(output, pictures) + KL_WEIGHT * kl_to_normal(mean, logvar)

    return loss


def freeze_encoder(vae: AutoencoderKL) -> None:
    """From here on only the decoder learns; the latents of existing pictures stay what they are."""
    assert vae.quant_conv is not None
    for part in (vae.encoder, vae.quant_conv):
        for parameter in part.parameters():
            parameter.requires_grad_(False)


def decoder_loss(
    vae: AutoencoderKL, sets: list[PictureSet], latent_std: Tensor, crop_share: float = 0.6
) -> Loss:
    """Reconstruction from latents with noise of 0 to 0.2 sd, as the denoiser's errors will be."""

    def loss(progress: float, generator: torch.Generator) -> Tensor:
        pictures = draw_batch(sets, 40 if progress < crop_share else None, generator)
        with torch.no_grad():
            mean, _ = moments(vae, pictures)
            amount = 0.2 * torch.rand(len(mean), 1, 1, 1, generator=generator)
            noise = torch.randn(mean.shape, generator=generator)
            latents = mean + noise * amount * latent_std.view(1, -1, 1, 1)
        return reconstruction_loss(decode(vae, latents), pictures)

    return loss


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pictures: np.ndarray, batch: int = 64) -> Tensor:
    """Latent means of pictures, unscaled. Shapes: (N, H, W, 3) uint8 → (N, 4, H/8, W/8)."""
    parts = [
        moments(vae, to_tensor(pictures[start : start + batch]))[0]
        for start in range(0, len(pictures), batch)
    ]
    return torch.cat(parts).contiguous()


def latent_colours(latents: Tensor, pictures: np.ndarray) -> list[list[float]]:
    """Red, green and blue, -1..1, of each latent channel: a rough picture without the decoder.

    The least-squares fit to the pictures' mean colours below each latent cell.
    Shapes: (N, C, h, w) as the denoiser sees them, (N, H, W, 3) uint8 → C rows of three.
    """
    height, width = latents.shape[-2:]
    cells = adaptive_avg_pool2d(to_tensor(pictures), (height, width))
    wanted = cells.movedim(1, -1).reshape(-1, 3)
    given = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    rows = torch.linalg.lstsq(given, wanted).solution
    return [[round(value, 4) for value in row] for row in rows.tolist()]


def fold_latent_scale(vae: AutoencoderKL, mean: Tensor, std: Tensor, scale: float) -> None:
    """Rescales the latent channels inside the weights so that latent·scale is N(0, 1) each.

    Exact: the decoder undoes what the encoder now does. Shapes: mean and std (4,).
    """
    quant, post = vae.quant_conv, vae.post_quant_conv
    assert isinstance(quant, nn.Conv2d) and isinstance(post, nn.Conv2d)
    assert quant.bias is not None and post.bias is not None
    gain = 1 / (scale * std)
    shift = -mean * gain
    with torch.no_grad():
        quant.weight[:4] *= gain.view(-1, 1, 1, 1)
        quant.bias[:4] = quant.bias[:4] * gain + shift
        quant.bias[4:] += 2 * gain.log()
        post.bias -= post.weight[:, :, 0, 0] @ (shift / gain)
        post.weight /= gain.view(1, -1, 1, 1)
