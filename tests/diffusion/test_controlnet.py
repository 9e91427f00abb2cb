"""ControlNets add to the skip connections."""

from pathlib import Path

import pytest
import torch

from engine.diffusion.checkpoint import open_checkpoint, open_controlnet
from engine.diffusion.controlnet import LoadedControl, add_residuals, fit_hint
from engine.diffusion.network import LoadedDenoiser
from engine.diffusion.residency import ModelPool
from tests.tiny_checkpoint import write_tiny_checkpoint, write_tiny_control

X, TIME, CONTEXT = torch.randn(2, 4, 8, 8), torch.full((2,), 300.0), torch.randn(2, 77, 16)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedControl, LoadedDenoiser]:
    folder: Path = tmp_path_factory.mktemp("control")
    control = open_controlnet(write_tiny_control(folder / "c.safetensors"), "c", "c")
    model = open_checkpoint(write_tiny_checkpoint(folder / "m.safetensors"), "m", "m").model
    pool = ModelPool()
    with pool.use(control) as loaded, pool.use(model) as denoiser:
        return loaded, denoiser


def test_residuals_fit_the_denoiser(nets: tuple[LoadedControl, LoadedDenoiser]):
    control, denoiser = nets
    hint = fit_hint(torch.rand(1, 100, 70, 3), 8, 8)
    found = control.residuals(X, TIME, CONTEXT, hint, strength=0.5)
    assert len(found["input"]) == 4
    assert len(found["middle"]) == 1
    plain = denoiser.predict(X, TIME, CONTEXT)
    assert not torch.equal(denoiser.predict(X, TIME, CONTEXT, control=found), plain)
    nothing = {name: [None] * len(items) for name, items in found.items()}
    assert torch.equal(denoiser.predict(X, TIME, CONTEXT, control=nothing), plain)


def test_strength_scales_and_two_add_up(nets: tuple[LoadedControl, LoadedDenoiser]):
    control, _ = nets
    hint = fit_hint(torch.rand(2, 64, 64, 3), 8, 8)
    full = control.residuals(X, TIME, CONTEXT, hint)
    half = control.residuals(X, TIME, CONTEXT, hint, strength=0.5)
    both = add_residuals(half, half)
    for name in full:
        for a, b in zip(full[name], both[name], strict=True):
            assert a is not None
            torch.testing.assert_close(a, b)
    none = {name: [None] * len(items) for name, items in full.items()}
    assert add_residuals(none, full)["middle"][0] is full["middle"][0]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (100, 30), (30, 100), (8, 8)])
def test_hint_takes_the_latents_shape(height: int, width: int):
    image = torch.rand(1, height, width, 3)
    assert fit_hint(image, 8, 6).shape == (1, 3, 64, 48)
    assert torch.equal(
        fit_hint(torch.rand(1, 64, 48, 3) * 0 + 0.5, 8, 6).unique(), torch.tensor([0.5])
    )
