"""Tiny trainings of every kind, for tests: a random base model and a few noise pictures."""

import hashlib
import importlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.diffusion.checkpoint import CheckpointParts, open_checkpoint
from engine.diffusion.pixel_diffusion import PixelSizes
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.adapters import AdapterSettings
from engine.diffusion.training.control import Control
from engine.diffusion.training.data.batches import BatchOptions
from engine.diffusion.training.data.dataset import Dataset, Example, change
from engine.diffusion.training.finetune import FineTune
from engine.diffusion.training.inpainting import Inpainting
from engine.diffusion.training.job import Job, Places
from engine.diffusion.training.methods import FullTraining, Lora, Method, TextualInversion
from engine.diffusion.training.new_diffusion import DiffusionSizes, DiffusionTraining
from engine.diffusion.training.new_vae import VaeSizes, VaeTraining
from engine.diffusion.training.objectives import ObjectiveSettings
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.pixels import PixelTraining
from engine.diffusion.training.settings import TrainingSettings
from engine.diffusion.training.upscaling import UpscalerSettings, UpscalerTraining
from engine.diffusion.training.vq import VqTraining
from engine.diffusion.vq_autoencoder import VqSizes
from tests.tiny_checkpoint import write_tiny_checkpoint

METHODS: dict[str, Method] = {
    "lora": Lora(shape=AdapterSettings(rank=2, alpha=2.0)),
    "lora_text": Lora(shape=AdapterSettings(rank=2, alpha=1.0), trains_text=True),
    "locon_dora": Lora(
        shape=AdapterSettings(rank=2, alpha=2.0, conv_rank=1, dora="input"), targets="all"
    ),
    "textual_inversion": TextualInversion(word="<thing>", initializer="dog", vectors=2),
    "full": FullTraining(trains_text=True),
}


def parts_of(folder: Path, **more: Any) -> CheckpointParts:
    path = folder / "tiny.safetensors"
    if not path.exists():
        write_tiny_checkpoint(path, **more)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return open_checkpoint(path, digest, "tiny")


def dataset_of(folder: Path, count: int = 3, text: str = "a photo of <thing>") -> Dataset:
    """Noise pictures of 64 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    examples: list[Example] = []
    for n in range(count):
        path = folder / f"{n}.png"
        pixels = np.random.default_rng(n).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        examples.append(
            Example(
                path=path, digest=f"picture {n}", text=f"{text}, {n}", width_px=64, height_px=64
            )
        )
    return Dataset(examples=tuple(examples), name="noise")


SETTINGS = TrainingSettings(
    optimizer=OptimizerSettings(lr=1e-3),
    batches=BatchOptions(size_px=64, batch_size=2, flip=True, caption_dropout=0.2),
    objective=ObjectiveSettings(min_snr=5.0, offset_noise=0.05),
    average=0.9,
    checkpoint_every_s=1e9,
)


def job_of(folder: Path, method: Method, **more: Any) -> FineTune:
    parts = parts_of(folder)
    job = FineTune(
        method=method,
        model=parts.model,
        clip=parts.clip,
        vae=parts.vae,
        dataset=dataset_of(folder / "pictures"),
        steps=3,
        seed=5,
        settings=SETTINGS,
    )
    return replace(job, **more)


def upscaler_of(folder: Path, **more: Any) -> UpscalerTraining:
    job = UpscalerTraining(
        dataset=dataset_of(folder / "pictures"),
        steps=3,
        seed=5,
        settings=SETTINGS,
        vae=parts_of(folder).vae,
        sizes=UpscalerSettings(width=8, growth=4, blocks=1, crop_px=8, batch_size=2),
    )
    return replace(job, **more)


def with_conditions(dataset: Dataset) -> Dataset:
    """Each picture as its own condition."""
    return change(
        dataset, lambda e: replace(e, condition_path=e.path, condition_digest=f"of {e.digest}")
    )


def control_of(folder: Path, **more: Any) -> FineTune:
    job = job_of(folder, Control(condition_dropout=0.3))
    return replace(job, dataset=with_conditions(job.dataset), **more)


def inpainting_of(folder: Path, **more: Any) -> FineTune:
    return replace(job_of(folder, Inpainting()), **more)


def vae_of(folder: Path, **more: Any) -> VaeTraining:
    job = VaeTraining(
        dataset=dataset_of(folder / "pictures"),
        steps=3,
        seed=5,
        settings=SETTINGS,
        sizes=VaeSizes(width=8, critic_weight=0.1, structure_weight=0.5),
    )
    return replace(job, **more)


def diffusion_of(folder: Path, **more: Any) -> DiffusionTraining:
    parts = parts_of(folder)
    job = DiffusionTraining(
        dataset=dataset_of(folder / "pictures"),
        steps=3,
        seed=5,
        settings=SETTINGS,
        vae=parts.vae,
        clip=parts.clip,
        sizes=DiffusionSizes(width=16, heads=2, text_width=8, text_layers=1),
    )
    return replace(job, **more)


def pixels_of(folder: Path, **more: Any) -> PixelTraining:
    job = PixelTraining(
        dataset=dataset_of(folder / "pictures"),
        steps=3,
        seed=5,
        settings=replace(SETTINGS, batches=replace(SETTINGS.batches, size_px=16)),
        sizes=PixelSizes(size_px=16, width=16, multiples=(1, 1), groups=4),
    )
    return replace(job, **more)


def vq_of(folder: Path, **more: Any) -> VqTraining:
    job = VqTraining(
        dataset=dataset_of(folder / "pictures"),
        steps=3,
        seed=5,
        settings=replace(SETTINGS, batches=replace(SETTINGS.batches, size_px=32)),
        sizes=VqSizes(width=8, multiples=(1, 2), codes=16, groups=2),
    )
    return replace(job, **more)


JOBS: dict[str, Callable[[Path], Job]] = {
    **{name: partial(job_of, method=method) for name, method in METHODS.items()},
    "upscaler": upscaler_of,
    "controlnet": control_of,
    "inpainting": inpainting_of,
    "vae": vae_of,
    "vq": vq_of,
    "pixels": pixels_of,
    "diffusion": diffusion_of,
    "diffusion_text": partial(diffusion_of, clip=None),
}


def places_of(folder: Path) -> Places:
    return Places(
        result=folder / "results/result.safetensors",
        runs=folder / "runs",
        latents=folder / "latents",
    )


def killing(number: int) -> Callable[[Any], None]:
    """A watch that ends the process at a step as the out-of-memory killer would."""

    def watch(telling: Any) -> None:
        if telling.step == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return watch


def main(folder: Path) -> None:
    """Starts every kind in a process of its own and kills it at its second step."""
    from engine.diffusion.training.job import train

    for name in ("autoencoders.autoencoder_kl", "unets.unet_2d_condition"):
        importlib.import_module(f"diffusers.models.{name}")  # before forking: it takes seconds
    for name, make in JOBS.items():
        if os.fork() == 0:  # all torch work in the child: its threads do not survive a fork
            job = make(folder)
            job = replace(job, settings=replace(job.settings, checkpoint_every_s=0.0))
            train(job, ModelPool(), places_of(folder / name), killing(2))
            os._exit(1)  # it should have been killed
        _, status = os.wait()
        assert os.WTERMSIG(status) == signal.SIGKILL, name


if __name__ == "__main__":
    main(Path(sys.argv[1]))
