"""A fine-tuning: a method on a base model and a captioned dataset."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.api.recipe import Recipe
from engine.diffusion.training.base import Base, open_base
from engine.diffusion.training.data.batches import Batches, BatchOptions
from engine.diffusion.training.denoising import DenoisingLoss, Latents
from engine.diffusion.training.job import Job, Places, Trainable
from engine.diffusion.training.methods import Method, Prepared
from engine.diffusion.training.samples import sample_pictures
from engine.diffusion.training.settings import TrainingSettings

if TYPE_CHECKING:
    from engine.diffusion.residency import ModelPool


@dataclass(frozen=True, kw_only=True)
class FineTune(Job):
    """All that decides a fine-tuning."""

    method: Method
    model: Recipe
    clip: Recipe | None
    vae: Recipe | None

    @property
    def title(self) -> str:
        return self.method.title

    @property
    def folder(self) -> str:
        return self.method.folder

    def own_identity(self) -> dict[str, Any]:
        return {
            "method": {"title": self.title, **asdict(self.method)},  # pyright: ignore[reportArgumentType] - methods are dataclasses
            "base": base_identity(self.model, self.clip, self.vae),
        }

    def facts(self) -> dict[str, str]:
        return base_facts(self.model)

    def check(self) -> None:
        super().check()
        self.method.check(self.dataset)

    def prepare(self, pool: "ModelPool", places: Places) -> Trainable:
        extra = self.method.extra_channels
        base = open_base(pool, self.model, self.clip, self.vae, extra)
        data = Batches(self.dataset, batch_options(self.settings, base, self.seed))
        prepared = self.method.prepare(base, torch.Generator().manual_seed(self.seed))
        if self.settings.gradient_checkpointing:
            save_memory(base)
        loss = DenoisingLoss(
            base=base,
            data=data,
            latents=Latents(base, data, places.latents),
            settings=self.settings.objective,
            encode=prepared.encode,
            predict=prepared.predict,
        )
        return Trainable(
            net=prepared.net,
            loss=loss,
            tensors=prepared.tensors,
            pictures=lambda: self._pictures(base, prepared),
            data=data,
            metadata=prepared.metadata,
            factors=self.method.factors,
            release=prepared.release,
        )

    def _pictures(self, base: Base, prepared: Prepared) -> Tensor | None:
        samples = self.settings.samples
        if prepared.pictures is not None:
            return prepared.pictures(self.dataset, samples)
        return sample_pictures(base, prepared.encode, samples) if samples.prompts else None


def base_identity(*parts: Recipe | None) -> list[str]:
    """What decides the numbers of a base model's parts."""
    return [repr((p.weights_identity, p.options)) for p in parts if p is not None]


def base_facts(model: Recipe) -> dict[str, str]:
    """What a card says of a base model."""
    file = model.files[0]
    return {"base": file.name or Path(file.path).name, "base digest": file.digest}


def batch_options(settings: TrainingSettings, base: Base, seed: int) -> BatchOptions:
    """How a dataset is drawn for a base: at its own size, where none is set."""
    options = settings.batches
    return replace(options, size_px=options.size_px or base.denoiser.native_size, seed=seed)


def save_memory(base: Base) -> None:
    """Activations are computed again on the way back instead of kept."""
    base.unet.train()
    base.unet.enable_gradient_checkpointing()  # pyright: ignore[reportCallIssue]
