"""A trained upscaler learns, is a file of Real-ESRGAN's layout, and enlarges pictures."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from engine.api.errors import NodeError
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.data.dataset import Dataset, change
from engine.diffusion.training.job import train
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.report import Telling
from engine.diffusion.training.settings import SampleSettings, TrainingSettings
from engine.diffusion.training.upscaling import UpscalerTraining
from engine.diffusion.upscaler import open_upscaler, upscale
from tests.diffusion.training.tiny_runs import places_of, upscaler_of

pytestmark = pytest.mark.slow

POOL = ModelPool()


def smooth_dataset(job: UpscalerTraining) -> Dataset:
    """Pictures of the job as soft ramps: what an upscaler can learn in a few steps."""
    for number, example in enumerate(job.dataset.examples):
        ramp = Image.linear_gradient("L").resize((64, 64)).rotate(90 * number)
        Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180))).save(example.path)
    return job.dataset


@pytest.mark.parametrize("scale", [2, 4])
def test_it_learns_and_its_file_enlarges(tmp_path: Path, scale: int) -> None:
    settings = TrainingSettings(
        optimizer=OptimizerSettings(lr=3e-3), samples=SampleSettings(every=30)
    )
    job = upscaler_of(tmp_path, settings=settings, steps=60, vae=None)
    job = replace(job, dataset=smooth_dataset(job), sizes=replace(job.sizes, scale=scale))
    told: list[Telling] = []
    path = train(job, POOL, places_of(tmp_path), told.append)
    first, last = (sum(t.loss for t in part) / 10 for part in (told[:10], told[-10:]))
    assert last < first / 2

    shown = [t.pictures for t in told if t.pictures is not None]
    side = 64 // scale * scale
    assert [tuple(p.shape) for p in shown] == [(3, side, 3 * side, 3)] * 2

    keys = load_file(path)
    assert keys["conv_first.weight"].shape == (8, 12 if scale == 2 else 3, 3, 3)
    assert {"conv_up1.weight", "conv_up2.weight", "body.0.rdb1.conv5.bias"} <= keys.keys()
    recipe = open_upscaler(path, f"made {scale}", "made")
    assert recipe.family == "esrgan"
    small = torch.rand(1, 10, 14, 3)
    with POOL.use(recipe) as loaded:
        assert upscale(loaded, small).shape == (1, 10 * scale, 14 * scale, 3)


def test_pictures_and_sizes_that_do_not_fit_are_told_before_training(tmp_path: Path) -> None:
    job, places = upscaler_of(tmp_path), places_of(tmp_path)
    with pytest.raises(NodeError, match=r"3 of 3 pictures are too small .* 0.png \(64 × 64\)"):
        train(replace(job, sizes=replace(job.sizes, crop_px=64)), POOL, places)
    with pytest.raises(NodeError, match="scale 3"):
        train(replace(job, sizes=replace(job.sizes, scale=3)), POOL, places)
    with pytest.raises(NodeError, match="even crop_size"):
        train(replace(job, sizes=replace(job.sizes, crop_px=7)), POOL, places)
    lost = change(job.dataset, lambda e: replace(e, path=tmp_path / "lost.png"))
    with pytest.raises(Exception, match=r"lost\.png"):
        train(replace(job, dataset=lost), POOL, places)
