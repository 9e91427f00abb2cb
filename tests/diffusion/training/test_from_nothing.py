"""Autoencoders and diffusion models from nothing: they learn, and their files work as any other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from engine.api import Latent
from engine.api.errors import NodeError
from engine.diffusion import vae as autoencoder
from engine.diffusion.checkpoint import open_checkpoint, open_vae
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.data.batches import square_pictures
from engine.diffusion.training.data.dataset import Dataset, change
from engine.diffusion.training.job import Job, train
from engine.diffusion.training.new_diffusion import read_multiples
from engine.diffusion.training.new_vae import LATENT_SCALE, critic_loss
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.report import Telling
from engine.diffusion.training.settings import SampleSettings
from nodes.conditioning import clip_text_encode
from nodes.sampling import ksampler
from tests.diffusion.training.tiny_runs import SETTINGS, diffusion_of, places_of, vae_of
from tests.nodes.context import context

pytestmark = pytest.mark.slow

POOL = ModelPool()


def plain_dataset(dataset: Dataset) -> Dataset:
    """Its pictures in plain colours, a square in the middle: easy to learn."""
    colours = ("red", "green", "blue")
    for example, colour in zip(dataset.examples, colours, strict=True):
        picture = Image.new("RGB", (64, 64), colour)
        picture.paste("white", (16, 16, 48, 48))
        picture.save(example.path)
    return change(dataset, lambda e: replace(e, digest=f"plain {e.path.stem}"))


def trained(job: Job, folder: Path, rate: float, every: int) -> tuple[Path, list[Telling]]:
    settings = replace(
        SETTINGS,
        optimizer=OptimizerSettings(lr=rate),
        samples=SampleSettings(every=every, steps=2, cfg=2.0),
        average=0.0,
    )
    told: list[Telling] = []
    path = train(replace(job, settings=settings), POOL, places_of(folder), told.append)
    return path, told


def fall(told: list[Telling]) -> float:
    first, last = (sum(t.loss for t in part) / 5 for part in (told[:5], told[-5:]))
    return last / first


def test_an_autoencoder_learns_and_its_latents_spread_as_a_denoiser_wants(tmp_path: Path) -> None:
    job = vae_of(tmp_path, steps=40)
    data = plain_dataset(job.dataset)
    sizes = replace(job.sizes, critic_weight=0.0, structure_weight=0.0)
    path, told = trained(replace(job, dataset=data, sizes=sizes), tmp_path, 5e-3, 20)
    assert fall(told) < 0.75
    shown = [t.pictures for t in told if t.pictures is not None]
    assert [tuple(p.shape) for p in shown] == [(3, 64, 128, 3)] * 2

    pictures = square_pictures(data, 3, 64).movedim(1, -1)
    with POOL.use(open_vae(path, "made", "made")) as vae:
        latent = autoencoder.encode(vae, pictures)
        back = autoencoder.decode(vae, latent)
    scaled = latent * LATENT_SCALE
    assert torch.allclose(scaled.mean((0, 2, 3)), torch.zeros(4), atol=0.05)
    assert torch.allclose(scaled.std((0, 2, 3)), torch.ones(4), atol=0.05)
    assert torch.allclose(back, shown[-1][:, :, 64:], atol=0.02)  # folding changed no picture


def test_the_critic_teaches_both_sides_in_one_step() -> None:
    critic = nn.Conv2d(3, 1, 1)
    output = torch.full((1, 3, 4, 4), 0.2, requires_grad=True)
    target = torch.full((1, 3, 4, 4), 0.7)

    def gradients(loss: Tensor) -> list[Tensor]:
        return [*torch.autograd.grad(loss, [output, *critic.parameters()], allow_unused=True)]

    both = gradients(critic_loss(critic, output, target, 0.5))
    told = torch.relu(1 - critic(target)).mean() + torch.relu(1 + critic(output.detach())).mean()
    for ours, wanted in zip(both[1:], gradients(told)[1:], strict=True):
        assert torch.allclose(ours, wanted)
    assert torch.allclose(both[0], gradients(-0.5 * critic(output).mean())[0])


@pytest.mark.parametrize("kind", ["given text", "new text", "unconditional"])
def test_a_diffusion_model_learns_and_samples_as_any_checkpoint(tmp_path: Path, kind: str) -> None:
    more: dict[str, Any] = {} if kind == "given text" else {"clip": None}
    job = diffusion_of(tmp_path, steps=30, **more)
    data = plain_dataset(job.dataset)
    if kind == "unconditional":
        data = change(data, lambda e: replace(e, text=""))
    path, told = trained(replace(job, dataset=data), tmp_path, 5e-3, 30)
    assert fall(told) < 0.8
    shown = told[-1].pictures
    assert shown is not None
    assert shown.shape == (1 if kind == "unconditional" else 3, 64, 64, 3)

    parts = open_checkpoint(path, kind, "made")
    assert parts.clip is not None
    ctx = context(tmp_path)
    words = clip_text_encode(text="a photo", clip=parts.clip, ctx=ctx)
    latent: Latent = {"samples": torch.zeros(1, 4, 8, 8)}
    result = ksampler(parts.model, 1, 2, 2.0, "euler", "normal", words, words, latent, 1.0, ctx)
    assert result["samples"].isfinite().all()
    with POOL.use(parts.model) as loaded:
        assert loaded.native_size == 64
        assert loaded.context_dim == (16 if kind == "given text" else 8)


def test_what_does_not_fit_is_told_before_training(tmp_path: Path) -> None:
    places = places_of(tmp_path)
    small = replace(SETTINGS, batches=replace(SETTINGS.batches, size_px=128))
    with pytest.raises(NodeError, match=r"3 of 3 pictures are smaller than 128 pixels"):
        train(vae_of(tmp_path, settings=small), POOL, places)
    job = diffusion_of(tmp_path)
    with pytest.raises(NodeError, match="vae input is empty"):
        train(replace(job, vae=None), POOL, places)
    with pytest.raises(NodeError, match="width of 16 cannot be shared by 3"):
        train(replace(job, sizes=replace(job.sizes, heads=3)), POOL, places)
    odd = replace(SETTINGS, batches=replace(SETTINGS.batches, size_px=40))
    with pytest.raises(NodeError, match="multiple of 16"):
        train(replace(job, settings=odd), POOL, places)
    assert read_multiples("1, 2 4") == (1, 2, 4)
    with pytest.raises(NodeError, match="not one to four numbers"):
        read_multiples("1 x")
