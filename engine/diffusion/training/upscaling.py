"""Training an upscaler in ESRGAN's layout on pictures and their smaller versions.

Source: Wang et al. 2018, "ESRGAN" (arXiv:1809.00219) section 3.1, its network without a
discriminator; smaller scales by pixel unshuffle as in Wang et al. 2021 (arXiv:2107.10833) 3.4.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from engine.api.errors import NodeError
from engine.api.recipe import Recipe
from engine.diffusion import vae as autoencoder
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.data.pictures import read_rgb, to_pixels
from engine.diffusion.training.held_back import HeldBack, calls_for
from engine.diffusion.training.job import Job, Places, Trainable
from engine.diffusion.training.loop import Loss
from engine.diffusion.training.objectives import reconstruction_loss
from engine.diffusion.upscaler import Esrgan, EsrganLayout

if TYPE_CHECKING:
    from engine.diffusion.residency import ModelPool

SCALES = (2, 4)
_KEPT_PAIRS = 2000
_SHOWN_PAIRS, _SHOWN_PX = 3, 64
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
    """The pair of a picture, cut to whole latent cells of the small one. Shapes: (3, H, W) 0..1."""
    height, width = (_whole(side, settings) for side in picture.shape[1:])
    large = picture[:, :height, :width]
    small = avg_pool2d(large[None], settings.scale)
    decoded = round_trip(small)[0] if round_trip is not None else None
    return Pair(
        large=_bytes(large),
        small=_bytes(small[0]),
        decoded=None if decoded is None else _bytes(decoded),
    )


def _whole(side_px: int, settings: UpscalerSettings) -> int:
    step = 8 * settings.scale
    return side_px // step * step


def _bytes(x: Tensor) -> Tensor:
    return x.clamp(0, 1).mul(255).round().to(torch.uint8)


class Pairs:
    """The pairs of a dataset's pictures, each made when it is first wanted; many are kept."""

    def __init__(self, count: int, make: Callable[[int], Pair]) -> None:
        self._count = count
        self._make = lru_cache(_KEPT_PAIRS)(make)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Pair:
        return self._make(index)


def upscaler_loss(net: Esrgan, pairs: Pairs, settings: UpscalerSettings) -> Loss:
    """The reconstruction error of random crops, each turned or mirrored in one of eight ways."""

    def loss(progress: float, generator: torch.Generator) -> Tensor:
        crops = [_crop(pairs, settings, generator) for _ in range(settings.batch_size)]
        small, large = (torch.stack(part).float() / 255 for part in zip(*crops, strict=True))
        device = net.conv_first.weight.device
        return reconstruction_loss(net(small.to(device)), large.to(device))

    return loss


def _crop(
    pairs: Pairs, settings: UpscalerSettings, generator: torch.Generator
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


@dataclass(frozen=True, kw_only=True)
class UpscalerTraining(Job):
    """All that decides an upscaler; with `vae` it learns to mend that VAE's pictures too."""

    sizes: UpscalerSettings = field(default_factory=UpscalerSettings)
    vae: Recipe | None = None

    @property
    def title(self) -> str:
        return "upscaler"

    @property
    def folder(self) -> str:
        return "upscale_models"

    def own_identity(self) -> dict[str, Any]:
        vae = repr((self.vae.weights_identity, self.vae.options)) if self.vae else ""
        return {"method": {"title": self.title, **asdict(self.sizes)}, "vae": vae}

    def facts(self) -> dict[str, str]:
        return {"scale": f"{self.sizes.scale}x"}

    def check(self) -> None:
        super().check()
        sizes = self.sizes
        if sizes.scale not in SCALES:
            raise NodeError(
                f"An upscaler of scale {sizes.scale} cannot be trained.",
                hint=f"Choose one of {', '.join(map(str, SCALES))}.",
            )
        if sizes.crop_px % (4 // sizes.scale):
            raise NodeError(
                f"Crops of {sizes.crop_px} pixels do not fit scale {sizes.scale}.",
                hint="Choose an even crop_size.",
            )
        examples = self.dataset.examples
        small = [
            e
            for e in examples
            if min(_whole(e.width_px, sizes), _whole(e.height_px, sizes)) // sizes.scale
            < sizes.crop_px
        ]
        if small:
            first = small[0]
            raise NodeError(
                f"{len(small)} of {len(examples)} pictures are too small for crops of "
                f"{sizes.crop_px} × {sizes.scale} pixels, such as {first.path.name} "
                f"({first.width_px} × {first.height_px}).",
                hint="Make crop_size smaller, or take these pictures out.",
            )

    def prepare(self, pool: "ModelPool", places: Places) -> Trainable:
        net = new_upscaler(self.sizes, self.seed).to(pool.device)
        round_trip = _through(pool, self.vae) if self.vae is not None else None

        def pairs_of(dataset: Dataset) -> Pairs:
            def make(index: int) -> Pair:
                example = dataset.examples[index]
                picture = to_pixels(read_rgb(example.path, example.grey_range))
                return make_pair(picture, self.sizes, round_trip)

            return Pairs(len(dataset), make)

        def held_back(dataset: Dataset) -> HeldBack:
            loss = upscaler_loss(net, pairs_of(dataset), self.sizes)
            return HeldBack(loss=loss, calls=calls_for(self.sizes.batch_size))

        pairs = pairs_of(self.dataset)
        return Trainable(
            net=net,
            loss=upscaler_loss(net, pairs, self.sizes),
            held_back=held_back,
            tensors=lambda: upscaler_tensors(net),
            pictures=lambda: side_by_side(
                net, [pairs[n] for n in range(min(len(pairs), _SHOWN_PAIRS))]
            ),
            metadata={"modelspec.architecture": "esrgan"},
        )


def _through(pool: "ModelPool", recipe: Recipe) -> RoundTrip:
    """Pictures as the VAE of a recipe gives them back."""

    def round_trip(pictures: Tensor) -> Tensor:
        off = torch.autocast(pool.device.type, enabled=False)
        with pool.use(recipe) as vae, off:
            latent = autoencoder.encode(vae, pictures.movedim(1, -1))
            return autoencoder.decode(vae, latent).movedim(-1, 1)

    return round_trip


@torch.no_grad()
def side_by_side(net: Esrgan, pairs: list[Pair]) -> Tensor:
    """The middle of each pair: small, enlarged by the net, and the truth, in a row.

    Shapes: (N, H, 3 W, 3) 0..1.
    """
    side = min(_SHOWN_PX, *(min(p.small.shape[1:]) for p in pairs))
    small = torch.stack([_middle(p.small, side) for p in pairs])
    truth = torch.stack([_middle(p.large, side * int(net.scale)) for p in pairs])
    enlarged = net(small.to(net.conv_first.weight.device)).clamp(0, 1).cpu().float()
    plain = interpolate(small, size=truth.shape[-2:], mode="nearest")
    return torch.cat([plain, enlarged, truth], 3).movedim(1, -1)


def _middle(picture: Tensor, side: int) -> Tensor:
    top, left = ((length - side) // 2 for length in picture.shape[1:])
    return picture[:, top : top + side, left : left + side].float() / 255
