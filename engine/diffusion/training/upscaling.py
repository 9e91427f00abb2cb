"""Training an upscaler in ESRGAN's layout on pictures and their smaller versions.

Source: Wang et al. 2018, "ESRGAN" (arXiv:1809.00219) section 3.1, its network without a
discriminator; smaller scales by pixel unshuffle as in Wang et al. 2021 (arXiv:2107.10833) 3.4.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from engine.api.errors import NodeError
from engine.diffusion.training.loop import Loss
from engine.diffusion.training.objectives import reconstruction_loss
from engine.diffusion.upscaler import Esrgan, EsrganLayout

SCALES = (2, 4)
RoundTrip = Callable[[Tensor], Tensor]
"""Pictures as a VAE gives them back. Shapes: (B, 3, H, W) 0..1 → the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscalerSettings:
    """Sizes of the network and of what a step sees.

    `crop_px` is the side of the small crops. `vae_share` of all crops come from small pictures
    that went through a VAE, so that the upscaler also mends what the VAE does to them.
    """

    scale: int = 2
    width: int = 32
    growth: int = 16
    blocks: int = 4
    crop_px: int = 32
    batch_size: int = 8
    vae_share: float = 0.5


def esrgan_layout(settings: UpscalerSettings) -> EsrganLayout:
    """The layout of a scale: ×4 as in ESRGAN, ×2 by folding the input first."""
    unshuffle = 4 // settings.scale
    return EsrganLayout(
        in_channels=3,
        out_channels=3,
        width=settings.width,
        growth=settings.growth,
        blocks=settings.blocks,
        doublings=2,
        unshuffle=unshuffle,
    )


def new_upscaler(settings: UpscalerSettings, seed: int) -> Esrgan:
    """A network to start from: small residual weights, as the paper advises (section 3.1)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Esrgan(esrgan_layout(settings))
        for module in net.body.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                module.weight.data.mul_(0.1)
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType] - has one
    return net


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A picture with its small version, and that as a VAE gives it back.

    Shapes: large (3, H scale, W scale), small and decoded (3, H, W); all uint8.
    """

    large: Tensor
    small: Tensor
    decoded: Tensor | None


def make_pair(picture: Tensor, settings: UpscalerSettings, round_trip: RoundTrip | None) -> Pair:
    """The pair of a picture, cut to whole latent cells of the small one.

    Shapes: (3, H, W) 0..1. Raises: NodeError when it is too small for a crop.
    """
    scale, step = settings.scale, 8 * settings.scale
    height, width = (side // step * step for side in picture.shape[1:])
    if min(height, width) < settings.crop_px * scale:
        raise NodeError(
            f"A picture of {picture.shape[2]} × {picture.shape[1]} is too small for crops of "
            f"{settings.crop_px * scale} pixels.",
            hint="Take larger pictures out of the dataset's folder, or make crop_size smaller.",
        )
    large = picture[:, :height, :width]
    small = avg_pool2d(large[None], scale)
    decoded = round_trip(small)[0] if round_trip is not None else None
    return Pair(
        large=_bytes(large), small=_bytes(small[0]), decoded=None if decoded is None else _bytes(decoded)
    )


def _bytes(x: Tensor) -> Tensor:
    return x.clamp(0, 1).mul(255).round().to(torch.uint8)


def upscaler_loss(net: Esrgan, pairs: Sequence[Pair], settings: UpscalerSettings) -> Loss:
    """The reconstruction error of random crops, each turned or mirrored in one of eight ways."""

    def loss(progress: float, generator: torch.Generator) -> Tensor:
        crops = [_crop(pairs, settings, generator) for _ in range(settings.batch_size)]
        small, large = (torch.stack(part).float() / 255 for part in zip(*crops, strict=True))
        device = net.conv_first.weight.device
        return reconstruction_loss(net(small.to(device)), large.to(device))

    return loss


def _crop(
    pairs: Sequence[Pair], settings: UpscalerSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    def draw(count: int) -> int:
        return int(torch.randint(count, (1,), generator=generator))

    pair = pairs[draw(len(pairs))]
    takes_decoded = float(torch.rand(1, generator=generator)) < settings.vae_share
    small = pair.decoded if takes_decoded and pair.decoded is not None else pair.small
    side, scale = settings.crop_px, settings.scale
    top, left = (draw(length - side + 1) for length in small.shape[1:])
    turns, is_mirrored = draw(4), draw(2)
    parts: list[Tensor] = []
    for picture, factor in ((small, 1), (pair.large, scale)):
        y, x, length = top * factor, left * factor, side * factor
        part = picture[:, y : y + length, x : x + length].rot90(turns, (1, 2))
        parts.append(part.flip(2) if is_mirrored else part)
    return parts[0], parts[1]


_DOUBLING = re.compile(r"conv_up\.(\d+)\.")


def upscaler_tensors(net: Esrgan) -> dict[str, Tensor]:
    """The weights under the names that Real-ESRGAN files have, as fp16."""
    return {
        _DOUBLING.sub(lambda m: f"conv_up{int(m[1]) + 1}.", name): value.detach().half().cpu()
        for name, value in net.state_dict().items()
    }
