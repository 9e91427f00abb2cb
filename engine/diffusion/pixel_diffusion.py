"""Diffusion on pixels, without latents and prompts: the network, its file, its sampling.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv:2006.11239); fewer
steps as in Song et al. 2021, "Denoising Diffusion Implicit Models" (arXiv:2010.02502).
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engine.api.errors import NotThisFamily
from engine.api.recipe import FileRef, Recipe
from engine.diffusion.checkpoint import PartSource
from engine.diffusion.keymap import Source
from engine.diffusion.weightfile import WeightFile, open_weights

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d import UNet2DModel

SIZES_KEY = "weft.pixel_diffusion"  # of the file's metadata: the sizes as JSON
TIMES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSizes:
    """Sizes of the network; the deepest level has attention. `size_px` is the side it draws."""

    size_px: int = 32
    width: int = 64
    multiples: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    groups: int = 16


def linear_alphas() -> Tensor:
    """Cumulative alphas of betas from 1e-4 to 0.02. Shapes: (1000,) float32.

    Source: Ho et al. 2020 section 4.
    """
    betas = torch.linspace(1e-4, 0.02, TIMES, dtype=torch.float64)
    return torch.cumprod(1 - betas, 0).float()


def new_pixel_unet(sizes: PixelSizes) -> "UNet2DModel":
    """The network with random weights."""
    # Imported on use: diffusers takes seconds, and listing nodes must not wait for it.
    from diffusers.models.unets.unet_2d import UNet2DModel

    plain = len(sizes.multiples) - 1
    return UNet2DModel(
        sample_size=sizes.size_px,
        block_out_channels=tuple(sizes.width * m for m in sizes.multiples),
        down_block_types=(*("DownBlock2D",) * plain, "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", *("UpBlock2D",) * plain),
        layers_per_block=sizes.blocks,
        norm_num_groups=sizes.groups,
        attention_head_dim=None,
    )


@dataclass(frozen=True, kw_only=True)
class LoadedPixels:
    """A pixel diffusion model ready to be sampled."""

    sizes: PixelSizes
    model: nn.Module
    device: torch.device
    dtype: torch.dtype


def open_pixel_model(path: Path, digest: str, name: str) -> Recipe:
    """The pixel diffusion model of a file. Raises: CorruptFile, NotThisFamily."""
    read_sizes(open_weights(path))
    file = FileRef(path=str(path), digest=digest, name=name)
    return Recipe(part="pixels", family="ddpm", files=(file,))


def read_sizes(file: WeightFile) -> PixelSizes:
    """Raises: NotThisFamily."""
    text = file.metadata.get(SIZES_KEY)
    try:
        values: Any = json.loads(text or "")
        return PixelSizes(**{**values, "multiples": tuple(values["multiples"])})
    except (ValueError, TypeError, KeyError) as error:
        raise NotThisFamily(
            f"{file.path.name} is no pixel diffusion model of Weft: its metadata has no sizes.",
            hint="Choose a file that Train Pixel Diffusion made.",
        ) from error


def sizes_metadata(sizes: PixelSizes) -> dict[str, str]:
    return {SIZES_KEY: json.dumps(asdict(sizes))}


def pixels_source(file: WeightFile) -> PartSource:
    """How the pool builds the model of a file. Raises: NotThisFamily."""
    sizes = read_sizes(file)

    def build() -> nn.Module:
        with torch.device("meta"):
            return new_pixel_unet(sizes)

    sources = {name: Source(key=name) for name in file.infos}
    return PartSource(file=file, layout=None, build=build, sources=sources)


def sample_pixels(
    loaded: LoadedPixels,
    *,
    count: int,
    steps: int,
    eta: float,
    seed: int,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> Tensor:
    """Pictures from noise; each has noise of its own, whatever its company.

    `eta` 1 with 1000 steps is the DDPM's own sampling, 0 is DDIM without noise.
    Shapes: (count, H, W, 3) 0..1. Source: Song et al. 2021 eq. 12 and 16.
    """
    generators = [torch.Generator().manual_seed(seed + n) for n in range(count)]
    side = loaded.sizes.size_px

    def noise() -> Tensor:
        return torch.stack([torch.randn(3, side, side, generator=g) for g in generators])

    alphas = torch.cat([linear_alphas(), torch.ones(1)]).double()
    times = torch.linspace(TIMES - 1, 0, steps).round().long().tolist()
    x = noise().double()
    for number, (t, after) in enumerate(zip(times, [*times[1:], TIMES], strict=True)):
        a, b = alphas[t], alphas[after]
        eps = _predict(loaded, x, t)
        x0 = ((x - (1 - a).sqrt() * eps) / a.sqrt()).clamp(-1, 1)
        eps = (x - a.sqrt() * x0) / (1 - a).sqrt()
        sigma = eta * ((1 - b) / (1 - a) * (1 - a / b)).clamp(min=0).sqrt()
        x = b.sqrt() * x0 + (1 - b - sigma**2).clamp(min=0).sqrt() * eps
        if eta and after != TIMES:
            x = x + sigma * noise()
        on_step(number + 1, steps)
    return ((x.float() + 1) / 2).clamp(0, 1).movedim(1, -1)


def _predict(loaded: LoadedPixels, x: Tensor, t: int) -> Tensor:
    # diffusers casts the time to the first weight's type, which is not there before it is used.
    mixed = torch.autocast(loaded.device.type, loaded.dtype, loaded.dtype is not torch.float32)
    with torch.no_grad(), mixed:
        out: Any = loaded.model(x.to(loaded.device, loaded.dtype), t, return_dict=False)
    return out[0].double().cpu()
