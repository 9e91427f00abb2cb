"""Upscale models on tiny files: every ESRGAN layout, tiles, and what is refused."""

import hashlib
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.api.errors import CorruptFile, ModelError, NodeError
from engine.diffusion import upscaler
from engine.diffusion.residency import ModelPool
from engine.diffusion.upscaler import Esrgan, EsrganLayout, open_upscaler, upscale
from nodes.upscale import image_upscale_with_model, load_upscale_model
from tests.nodes.context import context
from tests.tiny_parts import real_esrgan_names

Weights = dict[str, torch.Tensor]


def layout(**changes: Any) -> EsrganLayout:
    sizes: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "width": 8,
        "growth": 4,
        "blocks": 2,
        "doublings": 2,
    }
    return EsrganLayout(**{**sizes, **changes})


def network(sizes: EsrganLayout) -> Esrgan:
    torch.manual_seed(1)
    return Esrgan(sizes).eval().requires_grad_(False)


def old_names(net: Esrgan) -> Weights:
    """ESRGAN's key layout: layers by number."""
    ups = len(net.conv_up)
    place = {"conv_first": "model.0", "conv_body": f"model.1.sub.{len(net.body)}"}
    place.update({f"conv_up.{n}": f"model.{3 + 3 * n}" for n in range(ups)})
    place.update({"conv_hr": f"model.{2 + 3 * ups}", "conv_last": f"model.{4 + 3 * ups}"})
    named: Weights = {}
    for key, value in net.state_dict().items():
        module, _, end = key.rpartition(".")
        inner = re.sub(r"body\.(\d+)\.rdb(\d)\.(conv\d)", r"model.1.sub.\1.RDB\2.\3.0", module)
        named[f"{place.get(module, inner)}.{end}"] = value
    return named


def trunk_names(net: Esrgan) -> Weights:
    """The key layout between the two."""
    named: Weights = {}
    for key, value in real_esrgan_names(net).items():
        key = re.sub(r"^body\.(\d+)\.rdb(\d)", r"RRDB_trunk.\1.RDB\2", key)
        for ours, theirs in (
            ("conv_body", "trunk_conv"),
            ("conv_up", "upconv"),
            ("conv_hr", "HRconv"),
        ):
            key = key.replace(ours, theirs)
        named[key] = value
    return named


def wrapped_names(net: Esrgan) -> Weights:
    return {f"params_ema.{key}": value for key, value in real_esrgan_names(net).items()}


def written(path: Path, weights: Weights) -> Path:
    save_file({k: v.contiguous() for k, v in weights.items()}, path)
    return path


def run(path: Path, image: torch.Tensor) -> torch.Tensor:
    recipe = open_upscaler(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
    with ModelPool().use(recipe) as loaded:
        return upscale(loaded, image)


def picture(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("names", [real_esrgan_names, old_names, trunk_names, wrapped_names])
@pytest.mark.parametrize("doublings", [0, 1, 2, 3])
def test_every_key_layout_and_scale(tmp_path: Path, names: Any, doublings: int) -> None:
    net = network(layout(doublings=doublings))
    image = picture(2, 5, 6, 3)
    out = run(written(tmp_path / "a.safetensors", names(net)), image)
    want = net(image.movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
    assert out.shape == (2, 5 * 2**doublings, 6 * 2**doublings, 3)
    torch.testing.assert_close(out, want)


@pytest.mark.parametrize(("unshuffle", "scale"), [(2, 2), (4, 1)])
def test_smaller_scales_fold_their_input(tmp_path: Path, unshuffle: int, scale: int) -> None:
    net = network(layout(unshuffle=unshuffle))
    out = run(written(tmp_path / "a.safetensors", real_esrgan_names(net)), picture(1, 7, 9, 3))
    assert out.shape == (1, 7 * scale, 9 * scale, 3)


def test_pickled_files_are_read(tmp_path: Path) -> None:
    net = network(layout())
    torch.save({"params_ema": real_esrgan_names(net)}, tmp_path / "a.pth")
    assert run(tmp_path / "a.pth", picture(1, 4, 4, 4)).shape == (1, 16, 16, 3)


def test_tiles_report_progress_and_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models/upscale_models"
    folder.mkdir(parents=True)
    written(folder / "a.safetensors", real_esrgan_names(network(layout(blocks=1, doublings=1))))
    monkeypatch.setattr(upscaler, "TILE", 48)
    ctx = context(tmp_path)
    model = load_upscale_model("a.safetensors", ctx=ctx)
    image = picture(2, 64, 20, 3)
    out = image_upscale_with_model(model, image, ctx=ctx)
    assert out.shape == (2, 128, 40, 3)
    assert ctx.reports == [(n, 4) for n in (1, 2, 3, 4)]
    monkeypatch.setattr(upscaler, "TILE", 512)
    whole = image_upscale_with_model(model, image, ctx=context(tmp_path))
    torch.testing.assert_close(out, whole, atol=0.02, rtol=0)
    stopping = context(tmp_path, cancel_after=2)
    with pytest.raises(Exception, match="interrupted"):
        image_upscale_with_model(model, image, ctx=stopping)
    assert len(stopping.reports) == 2


def test_short_memory_makes_tiles_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hungry(Esrgan):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[2] > 256:
                raise torch.OutOfMemoryError
            return super().forward(x)

    net = Hungry(layout(blocks=1, doublings=0)).eval()
    cpu = upscaler.LoadedUpscaler(model=net, device=torch.device("cpu"), dtype=torch.float32)
    assert upscale(cpu, picture(1, 300, 8, 3)).shape == (1, 300, 8, 3)


def test_other_kinds_name_the_package(tmp_path: Path) -> None:
    path = written(tmp_path / "swin.safetensors", {"layers.0.weight": torch.ones(2, 2)})
    with pytest.raises(ModelError, match=r"swin\.safetensors.*pip install --no-deps spandrel"):
        open_upscaler(path, "0", "swin.safetensors")


class Descriptor(torch.nn.Module):
    """What the package gives for a file: a network with its scale."""

    scale, input_channels = 2, 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


class Unsupported(Exception):
    pass


class Loader:
    def load_from_state_dict(self, state: Weights) -> Any:
        if "layers.0.weight" not in state:
            raise Unsupported
        return Descriptor()


def test_other_kinds_are_run_by_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = types.ModuleType("spandrel")
    package.__dict__.update(
        ModelLoader=Loader, UnsupportedModelError=Unsupported, ImageModelDescriptor=Descriptor
    )
    monkeypatch.setitem(sys.modules, "spandrel", package)
    image = picture(1, 3, 5, 3)
    out = run(written(tmp_path / "a.safetensors", {"layers.0.weight": torch.ones(2, 2)}), image)
    want = image.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    torch.testing.assert_close(out, want)
    odd = written(tmp_path / "b.safetensors", {"odd": torch.ones(1)})
    with pytest.raises(ModelError, match=r"b\.safetensors is no upscale model"):
        run(odd, image)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    weights = real_esrgan_names(network(layout()))
    del weights["conv_hr.weight"]
    with pytest.raises(CorruptFile, match="conv_hr"):
        run(written(tmp_path / "a.safetensors", weights), picture(1, 4, 4, 3))


def test_a_grey_picture_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", real_esrgan_names(network(layout())))
    with pytest.raises(NodeError, match="reads 3 channels, but the picture has 1"):
        run(path, picture(1, 4, 4, 1))
