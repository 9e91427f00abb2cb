"""unCLIP: a picture's CLIP embeds, with noise for variety, as a denoiser's vector input.

Source: Ramesh et al. 2022, "Hierarchical Text-Conditional Image Generation with CLIP Latents"
(arXiv 2204.06125), section 2.1; Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 17 (levels).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.noise import steering_generator
from engine.diffusion.weightfile import WeightFile

if TYPE_CHECKING:
    from engine.api.types import Conditioning
    from engine.diffusion.clip_vision import ClipVisionOutput

MEAN, SPREAD = "noise_augmentor.data_mean", "noise_augmentor.data_std"
LEVELS = 1000
MERGE_NOISE = 0.05  # what several pictures get when they are added


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedStatistics:
    """Mean and spread of the CLIP embeds that a model was trained with. Shapes: (1, D)."""

    mean: Tensor
    spread: Tensor


def embed_statistics(file: WeightFile) -> EmbedStatistics | None:
    """Those of a checkpoint; None for models of another kind."""
    if MEAN not in file or SPREAD not in file:
        return None
    return EmbedStatistics(mean=file.tensor(MEAN).float(), spread=file.tensor(SPREAD).float())


def with_picture(
    conditioning: "Conditioning", picture: "ClipVisionOutput", strength: float, noise: float
) -> "Conditioning":
    """A conditioning that follows one picture more; `noise` is a share, 0..1."""
    if strength == 0:
        return conditioning
    added = {
        "clip_vision_output": picture,
        "strength": strength,
        "noise_augmentation": noise,
    }
    return [
        (embeds, {**o, "unclip_conditioning": [*o.get("unclip_conditioning", ()), added]})
        for embeds, o in conditioning
    ]


def unclip_vector(
    pictures: Sequence[Mapping[str, Any]],
    statistics: EmbedStatistics,
    seed: int,
    merge_noise: float = MERGE_NOISE,
) -> Tensor:
    """The vector input for pictures; zeros where there are none. Shapes: (B, 2 D).

    Raises: NodeError, for embeds of another width.
    """
    width = statistics.mean.shape[-1]
    parts: list[Tensor] = []
    for picture in pictures:
        embeds: Tensor = picture["clip_vision_output"].image_embeds
        if embeds.shape[-1] != width:
            raise NodeError(
                f"The CLIP vision embeds have {embeds.shape[-1]} channels, but the unCLIP model "
                f"expects {width}.",
                hint="Use the CLIP vision that the model was trained with: an unCLIP checkpoint's "
                "own, CLIP-ViT-bigG (clip_vision_g) for SDXL.",
            )
        level = round((LEVELS - 1) * picture["noise_augmentation"])
        parts += [_noised(e[None], statistics, level, seed) * picture["strength"] for e in embeds]
    if not parts:
        return torch.zeros(1, 2 * width)
    if len(parts) == 1:
        return parts[0]
    total = torch.stack(parts).sum(dim=0)[:, :width]
    return _noised(total, statistics, round((LEVELS - 1) * merge_noise), seed)


def pooled_pictures(pictures: Sequence[Mapping[str, Any]], width: int, seed: int) -> Tensor:
    """Pictures' embeds where SDXL expects a text's pooled embeds. Shapes: (B, width).

    Raises: NodeError, for embeds of another width.
    """
    plain = EmbedStatistics(mean=torch.zeros(1, width), spread=torch.ones(1, width))
    return unclip_vector(pictures, plain, seed, merge_noise=0.0)[:, :width]


def _noised(embeds: Tensor, statistics: EmbedStatistics, level: int, seed: int) -> Tensor:
    """Embeds (1, D) with noise of a level, and the level's own embedding: (1, 2 D)."""
    noise = torch.randn(embeds.shape, generator=steering_generator(seed))
    kept = _kept(level)
    normed = (embeds.float() - statistics.mean) / statistics.spread
    normed = normed * math.sqrt(kept) + noise * math.sqrt(1 - kept)
    half = embeds.shape[-1] // 2
    rates = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = level * rates
    number = torch.cat([angles.cos(), angles.sin()])[None]
    return torch.cat([normed * statistics.spread + statistics.mean, number], dim=1)


def _kept(level: int) -> float:
    """The share of the signal's variance that is left at a noise level."""

    def bar(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    kept = 1.0
    for i in range(level + 1):
        kept *= 1 - min(1 - bar((i + 1) / LEVELS) / bar(i / LEVELS), 0.999)
    return kept
