"""A trained ControlNet starts from nothing, learns, and is a file that works here and elsewhere."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from safetensors.torch import load_file
from torch.nn.functional import silu

from engine.api.errors import NodeError
from engine.diffusion.checkpoint import open_controlnet
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.base import open_base
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.job import train
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.report import Telling
from engine.diffusion.training.settings import SampleSettings
from tests.diffusion.training.tiny_runs import SETTINGS, control_of, places_of

pytestmark = pytest.mark.slow

POOL = ModelPool()
X, T, CONTEXT = torch.ones(1, 4, 8, 8), torch.tensor([500]), torch.ones(1, 77, 16)
HINT = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_it_starts_as_the_encoder_and_adds_nothing(tmp_path: Path) -> None:
    job = control_of(tmp_path)
    base = open_base(POOL, job.model, job.clip, job.vae)
    prepared = job.method.prepare(base, torch.Generator().manual_seed(1))
    own, unet = prepared.net.state_dict(), base.unet.state_dict()
    shared = own.keys() & unet.keys()
    assert {"conv_in.weight", "mid_block.resnets.1.conv2.weight"} <= shared
    assert all(torch.equal(own[name], unet[name]) for name in shared)
    with torch.no_grad():
        down, middle = prepared.net(X, T, CONTEXT, HINT, return_dict=False)
    assert all(float(part.abs().max()) == 0 for part in (*down, middle))


def test_the_hint_network_tells_edge_maps_apart_from_the_start(tmp_path: Path) -> None:
    job = control_of(tmp_path)
    base = open_base(POOL, job.model, job.clip, job.vae)
    made = job.method.prepare(base, torch.Generator().manual_seed(1))
    hints: Any = made.net.controlnet_cond_embedding
    lines = torch.zeros(8, 3, 64, 64)
    for n, picture in enumerate(lines):
        picture[:, 4 * n + 8] = 1
    with torch.no_grad():
        features = silu(hints.conv_in(lines))
        for layer in hints.blocks:
            features = silu(layer(features))
    assert 0.2 < float(features.std(0).mean()) < 5


@pytest.mark.slow
def test_it_learns_and_its_file_works_here_and_in_diffusers(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS,
        optimizer=OptimizerSettings(lr=3e-3),
        samples=SampleSettings(every=20, steps=2, cfg=2.0),
        average=0.0,
    )
    job = control_of(tmp_path, settings=settings, steps=40)
    told: list[Telling] = []
    path = train(job, POOL, places_of(tmp_path), told.append)
    first, last = (sum(t.loss for t in part) / 10 for part in (told[:10], told[-10:]))
    assert last < 0.8 * first
    shown = [t.pictures for t in told if t.pictures is not None]
    assert [tuple(p.shape) for p in shown] == [(3, 64, 128, 3)] * 2
    assert not torch.equal(shown[0][:, :, 64:], shown[1][:, :, 64:])

    with POOL.use(open_controlnet(path, "made", "made")) as loaded:
        found = loaded.residuals(X, T, CONTEXT, HINT)
        black = loaded.residuals(X, T, CONTEXT, torch.zeros_like(HINT))
        ours = loaded.model.state_dict()
    assert found["middle"][0] is not None and black["middle"][0] is not None
    assert not torch.equal(found["middle"][0], black["middle"][0])  # it reads the picture

    config = {"layers_per_block": 1, "block_out_channels": (32, 64), "class_embed_type": None}
    config |= {"addition_embed_type": None, "cross_attention_dim": 16}
    config |= {"down_block_types": ("CrossAttnDownBlock2D",) * 2}
    theirs = convert_controlnet_checkpoint(load_file(path), config)
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name].float(), ours[name].float()) for name in ours)


def test_pictures_without_conditions_are_told_before_training(tmp_path: Path) -> None:
    job = control_of(tmp_path)
    first, *others = job.dataset.examples
    some = Dataset(examples=(*others, replace(first, condition_path=None)))
    with pytest.raises(NodeError, match=r"1 of 3 pictures .* such as 0.png"):
        train(replace(job, dataset=some), POOL, places_of(tmp_path))


def test_gradient_checkpointing_covers_both_networks_and_changes_no_loss(tmp_path: Path) -> None:
    losses: list[list[float]] = []
    for saves in (False, True):
        settings = replace(SETTINGS, gradient_checkpointing=saves)
        job = control_of(tmp_path, settings=settings, steps=2)
        told: list[float] = []
        train(job, POOL, places_of(tmp_path), lambda t, told=told: told.append(t.loss))
        losses.append(told)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    job = control_of(tmp_path, settings=replace(SETTINGS, gradient_checkpointing=True))
    net = job.prepare(POOL, places_of(tmp_path)).net
    blocks = [m for m in net.modules() if getattr(m, "gradient_checkpointing", False)]
    assert len(blocks) >= 2
    assert net.training
