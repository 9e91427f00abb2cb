"""Losses equal those of diffusers' own training loops, step by step, with the same seeds."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.diffusion.residency import ModelPool
from engine.diffusion.training.adapters import Adapter, AdapterSettings
from engine.diffusion.training.base import open_base
from engine.diffusion.training.data.batches import Batches, BatchOptions
from engine.diffusion.training.dreambooth import dreambooth_dataset
from engine.diffusion.training.finetune import FineTune
from engine.diffusion.training.job import train
from engine.diffusion.training.methods import Lora, Method, TextualInversion
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.settings import TrainingSettings
from engine.text.tokenizer import load_tokenizer
from tests.diffusion.training.parity import (
    Textbook,
    dreambooth_lora,
    text_to_image_lora,
    textual_inversion,
    transformers_text,
)
from tests.diffusion.training.tiny_runs import dataset_of, job_of, places_of

STEPS = 50
LORA = Lora(shape=AdapterSettings(rank=4, alpha=4.0))
OPTIONS = BatchOptions(size_px=64, batch_size=1, seed=5)


def job_for(folder: Path, method: Method, lr: float, clip_norm: float = 1.0) -> FineTune:
    settings = TrainingSettings(
        optimizer=OptimizerSettings(lr=lr), batches=OPTIONS, clip_norm=clip_norm
    )
    return job_of(folder, method, steps=STEPS, settings=settings)


def our_losses(job: FineTune, folder: Path) -> list[float]:
    losses: list[float] = []
    train(job, ModelPool(), places_of(folder), lambda telling: losses.append(telling.loss))
    return losses


def textbook_of(job: FineTune) -> Textbook:
    pool = ModelPool()
    base = open_base(pool, job.model, job.clip, job.vae)
    assert job.vae is not None
    return Textbook(
        unet=base.unet,
        vae=pool.own_copy(job.vae).model,
        text=transformers_text(base.towers["l"].model),
        data=Batches(job.dataset, OPTIONS),
        seed=job.seed,
    )


def starting_matrices(job: FineTune) -> dict[str, Tensor]:
    """The down matrices with which our adapters start, by layer."""
    base = open_base(ModelPool(), job.model, job.clip, job.vae)
    net = job.method.prepare(base, torch.Generator().manual_seed(job.seed)).net
    named = {n: m for n, m in net.named_modules() if isinstance(m, Adapter)}
    return {n.partition("/")[2].replace("/", "."): m.down.detach() for n, m in named.items()}


def assert_close(ours: list[float], theirs: list[float]) -> None:
    assert len(ours) == STEPS
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert len({round(loss, 3) for loss in ours}) > STEPS // 2  # it is no constant


@pytest.mark.slow
def test_text_to_image_lora_equals_diffusers_loop(tmp_path: Path) -> None:
    job = job_for(tmp_path, LORA, 1e-3)
    theirs = text_to_image_lora(textbook_of(job), STEPS, 1e-3, 4, starting_matrices(job))
    assert_close(our_losses(job, tmp_path), theirs)


@pytest.mark.slow
def test_dreambooth_lora_equals_diffusers_loop(tmp_path: Path) -> None:
    method = replace(LORA, trains_text=True, text_factor=1.0)
    job = job_for(tmp_path, method, 1e-3)
    subject = dataset_of(tmp_path / "subject")
    of_class = dataset_of(tmp_path / "class", count=5)
    of_class = replace(
        of_class,
        examples=tuple(replace(e, digest=f"class {n}") for n, e in enumerate(of_class.examples)),
    )
    data = dreambooth_dataset(subject, "a photo of sks dog", of_class, "a photo of a dog")
    objective = replace(job.settings.objective, prior_weight=0.7)
    job = replace(job, dataset=data, settings=replace(job.settings, objective=objective))
    theirs = dreambooth_lora(textbook_of(job), STEPS, 1e-3, 4, starting_matrices(job), 0.7)
    assert_close(our_losses(job, tmp_path), theirs)


@pytest.mark.slow
def test_textual_inversion_equals_diffusers_loop(tmp_path: Path) -> None:
    method = TextualInversion(word="<thing>", initializer="dog")
    job = job_for(tmp_path, method, 5e-3, clip_norm=0.0)
    (initializer,) = load_tokenizer().encode("dog")
    theirs = textual_inversion(textbook_of(job), STEPS, 5e-3, "<thing>", initializer)
    assert_close(our_losses(job, tmp_path), theirs)
