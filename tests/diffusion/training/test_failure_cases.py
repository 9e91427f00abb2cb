"""DreamBooth's usual failures, provoked by short trainings of the built-in model.

The subject is a red drop, a shape that the model never saw, called "a sks circle". That it fails in
other styles cannot be provoked here: this model hears no word that it was not trained with.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.config import ROOT
from engine.diffusion.checkpoint import CheckpointParts, open_checkpoint
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.advice import Subject
from engine.diffusion.training.data.batches import BatchOptions
from engine.diffusion.training.data.cache import ContentStore
from engine.diffusion.training.data.captions import with_texts
from engine.diffusion.training.data.dataset import Dataset, change
from engine.diffusion.training.finetune import FineTune
from engine.diffusion.training.job import Places, train
from engine.diffusion.training.methods import FullTraining
from engine.diffusion.training.objectives import ObjectiveSettings
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.rates import RateSettings
from engine.diffusion.training.report import Telling
from engine.diffusion.training.settings import SampleSettings, TrainingSettings
from engine.diffusion.training.shapes_world.pictures import ShapesWish, shapes_dataset

pytestmark = pytest.mark.slow
BUILTIN = ROOT / "models/checkpoints/weft-builtin.safetensors"
SUBJECT = Subject(prompt="a sks circle", class_prompt="a circle")
FALLING = RateSettings(kind="cosine")


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """The base model, and what all runs share."""

    folder: Path
    parts: CheckpointParts
    pool: ModelPool

    def pictures(self, number: int, **more: Any) -> Dataset:
        """Red drops, if not told otherwise, each with a caption of its own."""
        wish: dict[str, Any] = {
            "number": number, "shape": "drop", "colour": "red", "seed": 3
        }  # fmt: skip
        return shapes_dataset(
            ShapesWish(**wish | more), ContentStore(self.folder / "pictures", 1 << 30)
        )

    def told(self, dataset: Dataset, lr: float, **more: Any) -> list[str]:
        """The advice at the end of a training, that on words and numbers left out."""
        given = {"steps": 40, "every": 40, "rate": FALLING, "batch": 2, "sampled": 8} | more
        settings = TrainingSettings(
            optimizer=OptimizerSettings(lr=lr),
            rate=given["rate"],
            objective=ObjectiveSettings(min_snr=5, snr_floor=1),
            batches=BatchOptions(size_px=64, batch_size=given["batch"]),
            samples=SampleSettings(
                prompts=(SUBJECT.prompt,), every=given["every"], steps=given["sampled"], cfg=2
            ),
        )
        job = FineTune(
            method=FullTraining(),
            model=self.parts.model,
            clip=self.parts.clip,
            vae=self.parts.vae,
            dataset=dataset,
            steps=given["steps"],
            seed=0,
            settings=settings,
            subject=SUBJECT,
        )
        places = Places(
            result=self.folder / "result.safetensors",
            runs=self.folder / "runs",
            latents=self.folder / "latents",
        )
        tellings: list[Telling] = []
        card = train(job, self.pool, places, tellings.append).with_suffix(".md").read_text()
        notes = tellings[-1].notes
        assert all(note in card for note in notes)
        return [note for note in notes if "pictures of a subject" not in note]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    digest = hashlib.sha256(BUILTIN.read_bytes()).hexdigest()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Workshop(
        folder=tmp_path_factory.mktemp("workshop"),
        parts=open_checkpoint(BUILTIN, digest, BUILTIN.name),
        pool=ModelPool(),
    )
    torch.set_num_threads(before)


def test_a_training_that_goes_well_is_told_nothing(workshop: Workshop) -> None:
    drops = workshop.pictures(12)
    named = change(drops, lambda e: replace(e, text=e.text.replace("a drop", SUBJECT.prompt)))
    assert workshop.told(named, 5e-4, batch=4) == []


def test_a_rate_that_is_too_low_does_not_look_like_the_subject(workshop: Workshop) -> None:
    (found,) = workshop.told(with_texts(workshop.pictures(8), [SUBJECT.prompt]), 1e-7, steps=20)
    assert "will not look like it. Write the class name after the identifier" in found


def test_one_picture_alone_is_copied(workshop: Workshop) -> None:
    alone = with_texts(workshop.pictures(1, background="blue"), [SUBJECT.prompt])
    (found,) = workshop.told(alone, 5e-4)
    assert "copy the training pictures. Train fewer steps" in found


def test_a_rate_that_breaks_the_model_gives_noise(workshop: Workshop) -> None:
    subject = with_texts(workshop.pictures(8), [SUBJECT.prompt])
    (found,) = workshop.told(subject, 3e-2, rate=RateSettings(), steps=20)
    assert "samples are noise: the model is over-fitted. Take an earlier snapshot" in found
    assert "DDIM and about 100 steps" in found


def test_a_rate_that_stays_too_high_asks_for_other_parameters(workshop: Workshop) -> None:
    """It learns while the rate is warming up, and loses it again."""
    subject = with_texts(workshop.pictures(8), [SUBJECT.prompt])
    climbing = RateSettings(warmup_steps=40)
    (found,) = workshop.told(subject, 2e-3, rate=climbing, every=10, sampled=1)
    assert "polynomial schedule instead of a constant one, 10 to 30 pictures" in found
