"""Training a diffusion model on pixels, without latents and prompts.

Source: Ho et al. 2020 (arXiv:2006.11239) algorithm 1 and eq. 14.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.pixel_diffusion import (
    TIMES,
    LoadedPixels,
    PixelSizes,
    linear_alphas,
    new_pixel_unet,
    sample_pixels,
    sizes_metadata,
)
from engine.diffusion.training.data.batches import Batches
from engine.diffusion.training.held_back import over_dataset
from engine.diffusion.training.job import Job, Places, Trainable
from engine.diffusion.training.loop import Loss
from engine.diffusion.training.new_vae import check_picture_sizes, seeded
from engine.diffusion.training.objectives import add_noise

if TYPE_CHECKING:
    from engine.diffusion.residency import ModelPool

_SHOWN, _SHOWN_STEPS = 4, 25


@dataclass(frozen=True, kw_only=True)
class PixelTraining(Job):
    """All that decides a pixel diffusion model; captions are not read."""

    sizes: PixelSizes = field(default_factory=PixelSizes)

    @property
    def title(self) -> str:
        return "pixel diffusion"

    @property
    def folder(self) -> str:
        return "pixel_diffusion"

    def own_identity(self) -> dict[str, Any]:
        return {"method": {"title": self.title, **asdict(self.sizes)}}

    def check(self) -> None:
        super().check()
        check_picture_sizes(self.dataset, self.settings.batches)
        step = 2 ** (len(self.sizes.multiples) - 1)
        if self.sizes.size_px % step:
            raise NodeError(
                f"Pictures of {self.sizes.size_px} pixels do not fit "
                f"{len(self.sizes.multiples)} levels.",
                hint=f"Choose a multiple of {step}, or fewer levels.",
            )

    def prepare(self, pool: "ModelPool", places: Places) -> Trainable:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net: Any = new_pixel_unet(self.sizes)
        net.to(pool.device)
        options = seeded(self.settings.batches, self.seed)
        data = Batches(self.dataset, options)
        alphas = linear_alphas()
        loaded = LoadedPixels(sizes=self.sizes, model=net, device=pool.device, dtype=torch.float32)

        def loss_on(data: Batches) -> Loss:
            def loss(progress: float, generator: torch.Generator) -> Tensor:
                x0 = data.next().pixels
                t = torch.randint(0, TIMES, (len(x0),), generator=generator)
                noise = torch.randn(x0.shape, generator=generator)
                noisy = add_noise(x0, noise, alphas[t]).to(pool.device)
                predicted = net(noisy, t.to(pool.device), return_dict=False)[0]
                return (predicted - noise.to(pool.device)).pow(2).mean()

            return loss

        return Trainable(
            net=net,
            loss=loss_on(data),
            held_back=lambda dataset: over_dataset(loss_on, dataset, options),
            tensors=lambda: {k: v.detach().half().cpu() for k, v in net.state_dict().items()},
            pictures=lambda: sample_pixels(
                loaded, count=_SHOWN, steps=_SHOWN_STEPS, eta=0.0, seed=self.seed
            ),
            data=data,
            metadata=sizes_metadata(self.sizes),
        )
