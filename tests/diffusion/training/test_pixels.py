"""Pixel diffusion: it learns, its file is diffusers' network, and sampling follows its papers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from safetensors.torch import load_file

from engine.api.errors import NodeError, NotThisFamily
from engine.diffusion.pixel_diffusion import (
    LoadedPixels,
    PixelSizes,
    linear_alphas,
    new_pixel_unet,
    open_pixel_model,
    sample_pixels,
)
from engine.diffusion.precision import Precision
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.job import train
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.report import Telling
from engine.diffusion.training.settings import SampleSettings
from tests.diffusion.training.tiny_runs import parts_of, pixels_of, places_of

pytestmark = pytest.mark.slow

POOL = ModelPool()


def test_it_learns_and_its_file_draws(tmp_path: Path) -> None:
    job = pixels_of(tmp_path, steps=40)
    settings = replace(
        job.settings,
        optimizer=OptimizerSettings(lr=5e-3),
        samples=SampleSettings(every=40),
        average=0.0,
    )
    told: list[Telling] = []
    path = train(replace(job, settings=settings), POOL, places_of(tmp_path), told.append)
    first, last = (sum(t.loss for t in part) / 5 for part in (told[:5], told[-5:]))
    assert last < 0.8 * first
    assert told[-1].pictures is not None
    assert told[-1].pictures.shape == (4, 16, 16, 3)

    new_pixel_unet(job.sizes).load_state_dict(load_file(path))
    with POOL.use(open_pixel_model(path, "made", "made")) as loaded:
        pictures = sample_pixels(loaded, count=2, steps=3, eta=1.0, seed=4)
        second = sample_pixels(loaded, count=1, steps=3, eta=1.0, seed=5)
    assert pictures.shape == (2, 16, 16, 3)
    assert torch.allclose(pictures[1:], second, atol=1e-5)  # its noise is its own


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_it_draws_in_half_precision_what_it_draws_in_full(
    tmp_path: Path, precision: Precision
) -> None:
    path = train(pixels_of(tmp_path, steps=2), POOL, places_of(tmp_path), lambda _: None)
    recipe = open_pixel_model(path, f"for {precision}", "made")
    drawn: list[torch.Tensor] = []
    for pool in (POOL, ModelPool(precision=precision)):
        with pool.use(recipe) as loaded:
            drawn.append(sample_pixels(loaded, count=2, steps=3, eta=0.0, seed=4))
    assert float((drawn[0] - drawn[1]).abs().mean()) < 0.02


def test_sampling_equals_diffusers() -> None:
    torch.manual_seed(1)
    sizes = PixelSizes(size_px=16, width=16, multiples=(1, 1), groups=4)
    model = new_pixel_unet(sizes).eval()
    loaded = LoadedPixels(sizes=sizes, model=model, device=torch.device("cpu"), dtype=torch.float32)
    ours = sample_pixels(loaded, count=1, steps=5, eta=1.0, seed=3)
    scheduler = DDPMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    assert torch.allclose(scheduler.alphas_cumprod, linear_alphas(), atol=1e-5)
    scheduler.set_timesteps(timesteps=[999, 749, 500, 250, 0])
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 3, 16, 16, generator=generator)
    for t in scheduler.timesteps:
        with torch.no_grad():
            eps = model(x, t).sample
        x = scheduler.step(eps, int(t), x, generator=generator, return_dict=False)[0]
    wanted = ((x + 1) / 2).clamp(0, 1).movedim(1, -1)
    assert torch.allclose(ours, wanted, atol=1e-3)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    job = pixels_of(tmp_path)
    sizes = replace(job.sizes, size_px=24, multiples=(1, 1, 1, 1, 1))
    with pytest.raises(NodeError, match="do not fit 5 levels"):
        train(replace(job, sizes=sizes), POOL, places_of(tmp_path))
    other = Path(parts_of(tmp_path).model.files[0].path)
    with pytest.raises(NotThisFamily, match="no pixel diffusion model"):
        open_pixel_model(other, "other", "other")
