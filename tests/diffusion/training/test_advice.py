"""What signs of a training are told with which remedy; real trainings: test_failure_cases.py."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.diffusion.residency import ModelPool
from engine.diffusion.training.advice import Signs, Subject, advise, advise_on_subject
from engine.diffusion.training.base import open_base
from engine.diffusion.training.data.cache import ContentStore
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.probing import PictureSigns, WordSigns, noise_of
from engine.diffusion.training.shapes_world.pictures import ShapesWish, shapes_dataset
from engine.diffusion.training.text_context import Context, encode_captions
from tests.diffusion.training.tiny_runs import METHODS, job_of

LEARNED = ((0, 1.0), (50, 0.7), (100, 0.6))
SKS = Subject(prompt="a photo of sks dog", class_prompt="a photo of a dog")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    wish: dict[str, Any] = {
        "number": 8, "size_px": 64, "content": "one object", "style": "plain", "shape": "any",
        "colour": "any", "background": "any", "edges": False, "seed": 3,
    }  # fmt: skip
    store = ContentStore(tmp_path_factory.mktemp("shapes"), 1 << 30)
    return shapes_dataset(ShapesWish(**wish), store)


def pictures_of(dataset: Dataset) -> torch.Tensor:
    """Shapes: (N, 64, 64, 3) 0..1."""
    return PictureSigns(dataset=dataset)._pictures(64).movedim(1, -1)  # pyright: ignore[reportPrivateUsage]


def halves(dataset: Dataset) -> tuple[Dataset, Dataset]:
    return tuple(replace(dataset, examples=dataset.examples[k : k + 4]) for k in (0, 4))  # pyright: ignore[reportReturnType]


def test_noisy_samples_are_noise_and_clean_ones_are_not(shapes: Dataset) -> None:
    own, others = halves(shapes)
    signs, clean = PictureSigns(dataset=own), pictures_of(others)
    noisy = (clean + 0.3 * torch.randn(clean.shape)).clamp(0, 1)
    assert signs.noise(clean) < 1.5
    assert signs.noise(noisy) > 10
    (found,) = advise(Signs(progress=1.0, own=LEARNED, noise=signs.noise(noisy), copies=1.0))
    assert "earlier snapshot" in found


def test_the_noise_of_a_picture_is_measured_as_it_is() -> None:
    """Closed form: the deviation of what was added to a smooth picture."""
    ramp = torch.linspace(0, 1, 128).expand(1, 3, 128, 128)
    assert float(noise_of(ramp)) == pytest.approx(0, abs=1e-5)
    grey = 0.1 * torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(1))
    assert float(noise_of(ramp + grey)) == pytest.approx(0.1, rel=0.05)


def test_samples_that_repeat_the_pictures_are_copies(shapes: Dataset) -> None:
    own, others = halves(shapes)
    signs = PictureSigns(dataset=own)
    repeated = (pictures_of(own) * 0.9 + 0.05).roll(1, 1)
    assert signs.copies(repeated) == 1.0
    assert signs.copies(pictures_of(others)) == 0.0
    (found,) = advise(Signs(progress=1.0, own=LEARNED, copies=signs.copies(repeated)))
    assert "copy the training pictures. Train fewer steps" in found


def test_an_identifier_that_does_nothing_in_other_prompts_fails_in_other_styles(
    tmp_path: Path,
) -> None:
    """The text encoder is made deaf to the identifier in paintings."""
    job = job_of(tmp_path, METHODS["lora"])
    base = open_base(ModelPool(), job.model, job.clip, job.vae)

    def encode(texts: Sequence[str]) -> Context:
        heard = [t.replace("sks ", "") if "painting" in t else t for t in texts]
        return encode_captions(base.text, heard)

    hearing = WordSigns(base=base, encode=partial(encode_captions, base.text), subject=SKS)
    deaf = replace(hearing, encode=encode)
    prompts = ["a painting of sks dog", "a cat"]
    before, after = hearing.styles(prompts), deaf.styles(prompts)
    assert before is not None and before > 0.1
    assert after == 0
    assert hearing.styles(["a cat", SKS.prompt]) is None
    (found,) = advise(Signs(progress=1.0, own=LEARNED, styles=after / before))
    assert "Train longer, or repeat the subject in the prompt" in found


@pytest.mark.parametrize("last", [0.9, 1.2])
def test_a_loss_that_rises_again_asks_for_other_parameters(last: float) -> None:
    """Also above where it began: the subject was learned once, so that a higher rate is no help."""
    signs = Signs(progress=0.8, own=(*LEARNED, (120, last)), is_subject=True)
    (found,) = advise(signs)
    assert "polynomial schedule instead of a constant one, 10 to 30 pictures" in found
    (found,) = advise(replace(signs, is_subject=False))  # such as an autoencoder
    assert "a polynomial schedule instead of a constant one." in found


def test_a_validation_loss_that_rises_is_told_with_its_best_step() -> None:
    validation = ((0, 1.0), (50, 0.8), (100, 0.85), (150, 0.9), (200, 1.0))
    (found,) = advise(Signs(progress=0.5, own=LEARNED, validation=validation))
    assert "risen since step 50" in found
    assert advise(Signs(progress=0.5, own=LEARNED, validation=validation[:3])) == []


def test_nothing_is_told_of_a_training_that_goes_well_or_has_just_begun() -> None:
    well = Signs(progress=1.0, own=LEARNED, copies=0.25, noise=1.2, styles=0.8, is_subject=True)
    assert advise(well) == []
    assert advise(Signs(progress=0.1, own=((0, 1.0), (10, 1.0)))) == []
    assert len(advise(Signs(progress=0.6, own=((0, 1.0), (60, 1.0))))) == 1


@pytest.mark.parametrize(
    ("prompt", "of_class", "pictures", "expected"),
    [
        ("a photo of sks dog", "a photo of a dog", 12, None),
        ("a photo of sks", "a photo of a dog", 12, "Write sks dog"),
        ("a photo of a dog", "a photo of a dog", 12, "the subject has no name"),
        ("a photo of luna dog", "a photo of a dog", 12, "knows the word luna already"),
        ("a photo of sks dog", "a photo of a dog", 3, "3 pictures of a subject: 10 to 30"),
        ("", "", 12, None),
    ],
)
def test_words_and_numbers_of_a_subject(
    prompt: str, of_class: str, pictures: int, expected: str | None
) -> None:
    found = advise_on_subject(Subject(prompt=prompt, class_prompt=of_class), pictures)
    assert (len(found), expected is None or expected in found[0]) == (int(bool(expected)), True)
