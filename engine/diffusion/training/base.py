"""The model that a training starts from: networks of its own, and what must be known of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engine.api.errors import ModelError, NodeError
from engine.api.recipe import Recipe
from engine.diffusion.conditioning_batch import embedded_number
from engine.diffusion.families import FAMILIES
from engine.diffusion.network import LoadedDenoiser
from engine.diffusion.parameterization import Parameterization
from engine.diffusion.sample import parameterization_of
from engine.diffusion.text import LoadedText, TextTower
from engine.diffusion.training.objectives import PREDICTIONS
from engine.diffusion.weightfile import open_weights

if TYPE_CHECKING:
    from engine.diffusion.residency import ModelPool

TRAINABLE = ("sd1", "sd2", "sdxl")
WHOLE = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class Base:
    """A model's parts, with weights that belong to this training alone.

    `alphas` are the cumulative alphas of its noise schedule. Shapes: (steps,) float32.
    """

    model: Recipe
    clip: Recipe
    vae: Recipe
    pool: "ModelPool"
    denoiser: LoadedDenoiser
    text: LoadedText
    parameterization: Parameterization
    alphas: Tensor

    @property
    def towers(self) -> dict[str, TextTower]:
        """The text encoders by name; only CLIP's are trained."""
        return {n: t for n, t in self.text.towers.items() if isinstance(t, TextTower)}

    @property
    def unet(self) -> nn.Module:
        return self.denoiser.unet

    @property
    def device(self) -> torch.device:
        return self.denoiser.device

    @property
    def prediction(self) -> str:
        return self.parameterization.kind

    @property
    def identity(self) -> tuple[object, ...]:
        """What decides the run's numbers: weights and options."""
        parts = (self.model, self.clip, self.vae)
        return tuple((p.weights_identity, p.options) for p in parts)

    def moments(self, pixels: Tensor) -> Tensor:
        """Mean and log-variance of the scaled latents.

        Shapes: (B, 3, H, W) -1..1 → (B, 2 C, H / 8, W / 8) float32 on the CPU.
        """
        off = torch.autocast(self.device.type, enabled=False)
        with self.pool.use(self.vae) as vae, torch.no_grad(), off:
            encoded = vae.model.encode(pixels.to(vae.device, vae.dtype), return_dict=False)[0]
            return torch.cat([encoded.mean, encoded.logvar], 1).float().cpu()

    def predict(
        self,
        noisy: Tensor,
        t: Tensor,
        context: Tensor,
        y: Tensor | None,
        residuals: tuple[Sequence[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The network's raw output, with gradients. Shapes: as `LoadedDenoiser.predict`.

        `residuals` are what a ControlNet adds to the skip connections and to the middle.
        """
        down, middle = residuals or (None, None)
        return self.denoiser.unet(
            noisy.to(self.device),
            t.to(self.device),
            encoder_hidden_states=context,
            class_labels=y,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]

    def vector(self, pooled: Tensor, sizes: Tensor) -> Tensor | None:
        """The vector input: pooled text and embedded sizes. Shapes: (B, P), (B, 6) → (B, adm).

        Source: Podell et al. 2023 (SDXL, arXiv 2307.01952), section 2.2.
        """
        if self.denoiser.adm_channels is None:
            return None
        rows = [torch.cat([embedded_number(float(n)) for n in row]) for row in sizes.tolist()]
        return torch.cat([pooled, torch.stack(rows).to(pooled)], 1)


def open_base(
    pool: "ModelPool",
    model: Recipe,
    clip: Recipe | None,
    vae: Recipe | None,
    extra_channels: tuple[int, ...] = (0,),
) -> Base:
    """Networks of a training's own, for models that it can train; each frozen as yet.

    `extra_channels` are the numbers of channels that a model may take beside its latent.

    Raises: NodeError, ModelError, CorruptFile.
    """
    clip, vae = _present(clip, "CLIP"), _present(vae, "VAE")
    for recipe in (model, clip):
        _check_recipe(recipe)
    denoiser = pool.own_copy(model)
    parameterization = parameterization_of(denoiser, model)
    if parameterization.kind not in PREDICTIONS:
        raise NodeError(
            f"A model that samples as {parameterization.kind} cannot be trained here.",
            hint="Take out the ModelSampling node before the training node.",
        )
    if denoiser.in_channels - denoiser.latent.channels not in extra_channels:
        wanted = " or ".join(str(denoiser.latent.channels + n) for n in extra_channels)
        raise NodeError(
            f"The model takes {denoiser.in_channels} channels, as inpainting models do; this "
            f"method trains models that take {wanted}.",
            hint="Load the plain checkpoint of the same family.",
        )
    text = pool.own_copy(clip)
    _check_text(denoiser, text)
    sigmas = parameterization.sigmas.double()
    return Base(
        model=model,
        clip=clip,
        vae=vae,
        pool=pool,
        denoiser=denoiser,
        text=text,
        parameterization=parameterization,
        alphas=(1 / (1 + sigmas**2)).float(),
    )


def _present(recipe: Recipe | None, name: str) -> Recipe:
    if recipe is None:
        raise NodeError(
            f"The {name} input is empty: the checkpoint has no {name}.",
            hint=f"Load the {name} from a file of its own, or use a complete checkpoint.",
        )
    return recipe


def _check_recipe(recipe: Recipe) -> None:
    """Raises: NodeError, ModelError for what cannot be trained."""
    name = recipe.files[0].name or recipe.files[0].path
    if recipe.family not in TRAINABLE:
        titles = ", ".join(f.title for f in FAMILIES if f.name in TRAINABLE)
        raise ModelError(
            f"{name} is of the family {recipe.family}, which cannot be trained yet.",
            hint=f"Families that can be trained: {titles}.",
        )
    if recipe.hooks:
        raise NodeError(
            f"The {recipe.part} has changes inside its network ({recipe.hooks[0].slot}), which "
            "training would not know of.",
            hint="Connect the training node before the node that patches the model.",
        )
    file = open_weights(Path(recipe.files[0].path))
    kinds = {info.dtype for info in file.infos.values() if len(info.shape) > 1}
    if odd := [k for k in kinds if k not in WHOLE]:
        raise ModelError(
            f"{name} holds weights of the type {str(odd[0]).removeprefix('torch.')}, "
            "which are too coarse to train.",
            hint="Use the fp16, bf16 or fp32 file of the same model.",
        )


def _check_text(denoiser: LoadedDenoiser, text: LoadedText) -> None:
    width = sum(tower.layout.width for tower in text.towers.values())
    if width != denoiser.context_dim:
        raise ModelError(
            f"The CLIP gives {width} channels, but the model reads {denoiser.context_dim}: they "
            "are of different families.",
            hint="Connect model and CLIP of the same checkpoint.",
        )
