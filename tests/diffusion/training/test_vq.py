"""A vector-quantised autoencoder learns, writes pictures as codes of its book, and reads them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from engine.api.errors import NodeError, NotThisFamily
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.data.batches import square_pictures
from engine.diffusion.training.job import train
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.report import Telling
from engine.diffusion.training.settings import SampleSettings
from engine.diffusion.vq_autoencoder import open_vq
from nodes.vq_autoencoder import vq_decode, vq_encode
from tests.diffusion.training.tiny_runs import parts_of, places_of, vq_of
from tests.nodes.context import context

pytestmark = pytest.mark.slow

POOL = ModelPool()


def test_it_learns_and_its_codes_come_out_of_its_book(tmp_path: Path) -> None:
    job = vq_of(tmp_path, steps=40)
    for example, colour in zip(job.dataset.examples, ("red", "green", "blue"), strict=True):
        Image.new("RGB", (64, 64), colour).save(example.path)
    settings = replace(
        job.settings,
        optimizer=OptimizerSettings(lr=5e-3),
        samples=SampleSettings(every=40),
        average=0.0,
    )
    told: list[Telling] = []
    path = train(replace(job, settings=settings), POOL, places_of(tmp_path), told.append)
    first, last = (sum(t.loss for t in part) / 5 for part in (told[:5], told[-5:]))
    assert last < 0.85 * first
    shown = told[-1].pictures
    assert shown is not None
    assert shown.shape == (3, 32, 64, 3)

    model, ctx = open_vq(path, "made", "made"), context(tmp_path)
    pictures = square_pictures(job.dataset, 3, 32).movedim(1, -1)
    latent = vq_encode(pictures, model, ctx)
    codes = latent["samples"]
    assert codes.shape == (3, 4, 16, 16)
    with ctx.models.use(model) as loaded:
        book = loaded.model.quantize.embedding(torch.arange(16)).float()
    distances = torch.cdist(codes.movedim(1, -1).flatten(0, -2), book)
    assert float(distances.min(1).values.max()) < 1e-3
    assert distances.argmin(1).unique().numel() > 1  # more than one code is used
    back = vq_decode(latent, model, ctx)
    assert torch.allclose(back, shown[:, :, 32:], atol=0.05)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    job = vq_of(tmp_path)
    with pytest.raises(NodeError, match="book of one code"):
        train(replace(job, sizes=replace(job.sizes, codes=1)), POOL, places_of(tmp_path))
    other = Path(parts_of(tmp_path).model.files[0].path)
    with pytest.raises(NotThisFamily, match="no vector-quantised autoencoder"):
        open_vq(other, "other", "other")
    path = train(replace(job, steps=1), POOL, places_of(tmp_path))
    model, ctx = open_vq(path, "tiny", "tiny"), context(tmp_path)
    with pytest.raises(NodeError, match="codes have 4 numbers"):
        vq_decode({"samples": torch.zeros(1, 3, 4, 4)}, model, ctx)
    with pytest.raises(NodeError, match="too small"):
        vq_encode(torch.zeros(1, 1, 1, 3), model, ctx)
