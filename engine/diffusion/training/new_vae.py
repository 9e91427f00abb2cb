"""Training an autoencoder from nothing: reconstruction, KL, and a small critic on request.

Source: Kingma & Welling 2014 (arXiv:1312.6114); Rombach et al. 2022 (arXiv:2112.10752) section 3.1
and appendix G: a light KL; Esser et al. 2021 (arXiv:2012.09841) section 3.1: a critic of patches.
"""

import copy
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor, nn
from torch.func import functional_call

from engine.api.errors import NodeError
from engine.diffusion import vae as autoencoder
from engine.diffusion.families.base import VaeLayout
from engine.diffusion.keymap import to_ldm
from engine.diffusion.training.autoencoder import decode, fold_latent_scale, moments
from engine.diffusion.training.data.batches import Batches, BatchOptions, square_pictures
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.held_back import over_dataset
from engine.diffusion.training.job import Job, Places, Trainable
from engine.diffusion.training.loop import Loss
from engine.diffusion.training.objectives import (
    kl_to_normal,
    reconstruction_loss,
    structure_loss,
)

if TYPE_CHECKING:
    from engine.diffusion.residency import ModelPool

MULTIPLES = {"1 1 2 2": (1, 1, 2, 2), "1 2 4 4": (1, 2, 4, 4)}
LATENT_SCALE = 0.18215  # what a denoiser of Stable Diffusion 1.x multiplies latents by
_LATENT_CHANNELS = 4
_START_LOGVAR = -4.0
_CRITIC_START = 0.3  # share of the run without it: it is of no use on blurred pictures
_SHOWN, _MEASURED = 4, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeSizes:
    """Sizes of the network and weights of the loss's terms."""

    width: int = 32
    multiples: str = "1 1 2 2"
    blocks: int = 1
    kl_weight: float = 1e-4
    structure_weight: float = 0.0
    critic_weight: float = 0.0


def groups_for(width: int) -> int:
    """The groups of a network's norms: at most 32, four channels or more in each."""
    return next(g for g in (32, 16, 8, 4, 2, 1) if width % g == 0 and width >= 4 * g)


def vae_sizes_layout(sizes: VaeSizes) -> VaeLayout:
    return VaeLayout(
        prefix="",
        width=sizes.width,
        mult=MULTIPLES[sizes.multiples],
        blocks=sizes.blocks,
        latent_channels=_LATENT_CHANNELS,
        groups=groups_for(sizes.width),
    )


class Critic(nn.Sequential):
    """Says of each patch how real it looks. Shapes: (B, 3, H, W) → (B, 1, H / 4, W / 4).

    Source: Isola et al. 2017 (arXiv:1611.07004) section 3.2.2, with two strides.
    """

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.GroupNorm(groups_for(2 * width), 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, 1, 1),
        )


def critic_loss(critic: nn.Module, output: Tensor, target: Tensor, weight: float) -> Tensor:
    """One loss for both sides: the critic learns from it to tell, the output to be taken for real.

    Source: hinge loss of Lim & Ye 2017 (arXiv:1705.02894).
    """
    frozen = {name: value.detach() for name, value in critic.named_parameters()}
    fooled = -functional_call(critic, frozen, (output,)).mean()
    told = F.relu(1 - critic(target)).mean() + F.relu(1 + critic(output.detach())).mean()
    return weight * fooled + told


@dataclass(frozen=True, kw_only=True)
class VaeTraining(Job):
    """All that decides an autoencoder in the latent space of Stable Diffusion 1.x."""

    sizes: VaeSizes = field(default_factory=VaeSizes)

    @property
    def title(self) -> str:
        return "VAE"

    @property
    def folder(self) -> str:
        return "vae"

    def own_identity(self) -> dict[str, Any]:
        return {"method": {"title": self.title, **asdict(self.sizes)}}

    def check(self) -> None:
        super().check()
        check_picture_sizes(self.dataset, self.settings.batches)
        if self.sizes.multiples not in MULTIPLES:
            raise NodeError(
                f"The level widths {self.sizes.multiples!r} are not known.",
                hint=f"Choose one of {', '.join(MULTIPLES)}.",
            )
        if self.sizes.width < 4:
            raise NodeError("An autoencoder needs a width of 4 or more.", hint="32 is small.")

    def prepare(self, pool: "ModelPool", places: Places) -> Trainable:
        net = self._networks().to(pool.device)
        vae: Any = net["vae"]
        options = seeded(self.settings.batches, self.seed)
        data = Batches(self.dataset, options)

        def loss_on(data: Batches) -> Loss:
            def loss(progress: float, generator: torch.Generator) -> Tensor:
                pictures = data.next().pixels.to(pool.device)
                mean, logvar = moments(vae, pictures)
                noise = torch.randn(mean.shape, generator=generator).to(mean.device)
                output = decode(vae, mean + noise * (0.5 * logvar).exp())
                total = reconstruction_loss(output, pictures)
                total = total + self.sizes.kl_weight * kl_to_normal(mean, logvar)
                if self.sizes.structure_weight:
                    total = total + self.sizes.structure_weight * structure_loss(output, pictures)
                if "critic" in net and progress >= _CRITIC_START:
                    weight = self.sizes.critic_weight
                    total = total + critic_loss(net["critic"], output, pictures, weight)
                return total

            return loss

        return Trainable(
            net=net,
            loss=loss_on(data),
            held_back=lambda dataset: over_dataset(loss_on, dataset, options),
            tensors=lambda: vae_tensors(vae, self._measured(_MEASURED, pool)),
            pictures=lambda: _shown(vae, self._measured(_SHOWN, pool)),
            data=data,
            metadata={"weft.vae.norm_num_groups": str(groups_for(self.sizes.width))},
        )

    def _networks(self) -> nn.ModuleDict:
        """Networks to start from: the autoencoder nearly a plain one, for its noise is small."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            vae: Any = autoencoder.new_vae(vae_sizes_layout(self.sizes))
            with torch.no_grad():
                vae.quant_conv.weight[_LATENT_CHANNELS:].zero_()
                vae.quant_conv.bias[_LATENT_CHANNELS:] = _START_LOGVAR
            parts: dict[str, nn.Module] = {"vae": vae}
            if self.sizes.critic_weight:
                parts["critic"] = Critic(max(16, self.sizes.width))
        return nn.ModuleDict(parts)

    def _measured(self, count: int, pool: "ModelPool") -> Tensor:
        side = self.settings.batches.size_px
        return square_pictures(self.dataset, count, side).to(pool.device) * 2 - 1


def check_picture_sizes(dataset: Dataset, options: BatchOptions) -> None:
    """Raises: NodeError, where pictures are smaller than they are trained at."""
    size = options.size_px
    if size < 16 or size % 8:
        raise NodeError(
            f"Pictures cannot be trained at {size} pixels.", hint="Use a multiple of 8, from 16 up."
        )
    small = [e for e in dataset.examples if min(e.width_px, e.height_px) < size]
    if small:
        first = small[0]
        raise NodeError(
            f"{len(small)} of {len(dataset)} pictures are smaller than {size} pixels, such as "
            f"{first.path.name} ({first.width_px} × {first.height_px}): "
            "the model would learn blur.",
            hint="Train at a smaller size, or take these pictures out.",
        )


def seeded(options: BatchOptions, seed: int) -> BatchOptions:
    """Options whose order follows the training's seed."""
    return BatchOptions(**{**asdict(options), "seed": seed})


@torch.no_grad()
def vae_tensors(vae: Any, pictures: Tensor) -> dict[str, Tensor]:
    """The weights in the single-file layout, as fp16, so that scaled latents spread as N(0, 1).

    Shapes: pictures (N, 3, H, W) -1..1, to measure the spread on.
    """
    latents = torch.cat([moments(vae, part)[0] for part in pictures.split(8)]).float()
    own = copy.deepcopy(vae)
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3)).clamp(min=1e-4)
    fold_latent_scale(own, mean, std, LATENT_SCALE)
    tensors = to_ldm("vae", own.state_dict(), prefix="")
    return {key: value.detach().half().cpu() for key, value in tensors.items()}


@torch.no_grad()
def _shown(vae: Any, pictures: Tensor) -> Tensor:
    return before_and_after(pictures, decode(vae, moments(vae, pictures)[0]))


def before_and_after(pictures: Tensor, back: Tensor) -> Tensor:
    """Pictures and what comes back, side by side. Shapes: (N, 3, H, W) -1..1 → (N, H, 2 W, 3)."""
    both = torch.cat([pictures, back.float().clamp(-1, 1)], 3)
    return ((both + 1) / 2).movedim(1, -1).cpu()
