"""A fine-tuning: a method on a base model and a captioned dataset."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engine.api.recipe import Recipe
from engine.diffusion.training.advice import Signs, Subject, advise_on_subject
from engine.diffusion.training.base import Base, open_base
from engine.diffusion.training.data.batches import Batches, BatchOptions
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.denoising import DenoisingLoss, Latents
from engine.diffusion.training.held_back import over_dataset
from engine.diffusion.training.job import Job, Places, Trainable
from engine.diffusion.training.methods import Method, Prepared
from engine.diffusion.training.probing import PictureSigns, WordSigns
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
    subject: Subject | None = None  # of DreamBooth, for advice; the dataset has the captions

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

    def notes(self) -> list[str]:
        own = sum(not e.is_class for e in self.dataset.examples)
        return [] if self.subject is None else advise_on_subject(self.subject, own)

    def check(self) -> None:
        super().check()
        self.method.check(self.dataset)
        if self.settings.validation.dataset is not None:
            self.method.check(self.settings.validation.dataset)

    def prepare(self, pool: "ModelPool", places: Places) -> Trainable:
        extra = self.method.extra_channels
        base = open_base(pool, self.model, self.clip, self.vae, extra)
        options = batch_options(self.settings, base, self.seed)
        data = Batches(self.dataset, options)
        prepared = self.method.prepare(base, torch.Generator().manual_seed(self.seed))
        if self.settings.gradient_checkpointing:
            save_memory(base.unet, prepared.net)

        def loss_on(data: Batches) -> DenoisingLoss:
            return DenoisingLoss(
                base=base,
                data=data,
                latents=Latents(base, data, places.latents),
                settings=self.settings.objective,
                encode=prepared.encode,
                predict=prepared.predict,
            )

        return Trainable(
            net=prepared.net,
            loss=loss_on(data),
            held_back=lambda dataset: over_dataset(loss_on, dataset, options),
            tensors=prepared.tensors,
            pictures=lambda: self._pictures(base, prepared),
            signs=self._signs(base, prepared),
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

    def _signs(self, base: Base, prepared: Prepared) -> Callable[[Signs, Tensor | None], Signs]:
        """What the samples and the words of a subject show, as signs of advice."""
        subject = self.subject
        if subject is None or prepared.pictures is not None:
            return lambda signs, _: signs
        own = Dataset(examples=tuple(e for e in self.dataset.examples if not e.is_class))
        seen = PictureSigns(dataset=own)
        words = WordSigns(base=base, encode=prepared.encode, subject=subject)

        def look(signs: Signs, samples: Tensor | None) -> Signs:
            signs = replace(signs, is_subject=True)
            signs = replace(signs, styles=words.styles(self.settings.samples.prompts))
            if samples is None:
                return signs
            return replace(signs, copies=seen.copies(samples), noise=seen.noise(samples))

        return look


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


def save_memory(*nets: nn.Module) -> None:
    """Activations of diffusers' networks are computed again on the way back instead of kept."""
    from diffusers.models.modeling_utils import ModelMixin  # it takes seconds: only where needed

    for net in nets:
        if isinstance(net, ModelMixin):
            net.train()
            net.enable_gradient_checkpointing()
