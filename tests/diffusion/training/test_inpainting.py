"""A plain model becomes an inpainting model: it learns, and its file works in the inpaint nodes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.api.errors import NodeError
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.base import open_base
from engine.diffusion.training.data.dataset import change
from engine.diffusion.training.inpainting import Inpainting, random_masks, widened
from engine.diffusion.training.job import train
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.report import Telling
from engine.diffusion.training.settings import SampleSettings
from nodes.sampling import ksampler
from nodes.vae import inpaint_model_conditioning
from tests.diffusion.training.tiny_runs import SETTINGS, inpainting_of, places_of
from tests.nodes.context import context

pytestmark = pytest.mark.slow

POOL = ModelPool()


def test_widening_changes_nothing_at_first(tmp_path: Path) -> None:
    job = inpainting_of(tmp_path)
    base = open_base(POOL, job.model, job.clip, job.vae)
    x, t, words = torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.ones(1, 77, 16)
    before = base.predict(x, t, words, None)
    wide = widened(base)
    after = wide.predict(torch.cat([x, torch.randn(1, 5, 8, 8)], 1), t, words, None)
    assert wide.denoiser.in_channels == 9
    assert torch.allclose(before, after, atol=1e-6)


def test_random_masks_follow_their_generator() -> None:
    masks = random_masks(200, 32, 48, torch.Generator().manual_seed(1))
    assert masks.shape == (200, 1, 32, 48)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    shares = masks.mean((1, 2, 3))
    assert 0.15 < float((shares == 1).float().mean()) < 0.35
    assert float(shares.min()) > 0
    assert torch.equal(masks, random_masks(200, 32, 48, torch.Generator().manual_seed(1)))


@pytest.mark.slow
def test_it_learns_and_its_file_fills_holes(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS,
        optimizer=OptimizerSettings(lr=3e-3),
        samples=SampleSettings(every=15, steps=2, cfg=2.0),
        average=0.0,
    )
    job = inpainting_of(tmp_path, settings=settings, steps=30)
    told: list[Telling] = []
    path = train(job, POOL, places_of(tmp_path), told.append)
    first, last = (sum(t.loss for t in part) / 10 for part in (told[:10], told[-10:]))
    assert last < 0.8 * first
    shown = [t.pictures for t in told if t.pictures is not None]
    assert [tuple(p.shape) for p in shown] == [(3, 64, 128, 3)] * 2

    conv = load_file(path)["model.diffusion_model.input_blocks.0.0.weight"]
    assert conv.shape == (32, 9, 3, 3)
    assert float(conv[:, 4:].abs().max()) > 0
    parts = open_checkpoint(path, "made", "made")
    assert parts.vae is not None
    ctx = context(tmp_path)
    pixels, mask = torch.rand(1, 64, 64, 3), torch.zeros(1, 64, 64)
    mask[:, 16:48, 16:48] = 1
    words = [(torch.ones(1, 77, 16), {})]
    positive, negative, latent = inpaint_model_conditioning(
        words, words, parts.vae, pixels, mask, True, ctx
    )
    result = ksampler(
        parts.model, 1, 2, 2.0, "euler", "normal", positive, negative, latent, 1.0, ctx
    )
    assert result["samples"].isfinite().all()

    more = replace(job, model=parts.model, vae=parts.vae, clip=parts.clip, steps=1)
    again = train(more, POOL, places_of(tmp_path / "more"))  # it can be trained further
    key = "model.diffusion_model.input_blocks.0.0.weight"
    assert load_file(again)[key].shape == (32, 9, 3, 3)


def test_the_masks_of_the_pictures(tmp_path: Path) -> None:
    job = inpainting_of(tmp_path, method=Inpainting(masks="of the pictures"), steps=1)
    with pytest.raises(NodeError, match=r"3 of 3 pictures have no mask, such as 0.png"):
        train(job, POOL, places_of(tmp_path))
    masked = change(job.dataset, lambda e: replace(e, mask_path=e.path, mask_digest=e.digest))
    random = replace(job, method=Inpainting(), dataset=masked)
    own = load_file(train(replace(job, dataset=masked), POOL, places_of(tmp_path)))
    other = load_file(train(random, POOL, places_of(tmp_path / "random")))
    key = "model.diffusion_model.input_blocks.0.0.weight"
    assert not torch.equal(own[key], other[key])
