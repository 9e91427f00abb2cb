"""Moving pictures and latents are written with their workflow, and read again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from engine.api.errors import CorruptFile
from nodes.animation import save_animated_png, save_animated_webp
from nodes.latent_files import load_latent, save_latent
from tests.nodes.context import Context, context

FRAMES = torch.rand(3, 8, 12, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return context(tmp_path, prompt={"1": {}}, extra_pnginfo={"workflow": {"nodes": []}})


def picture(ctx: Context, output: Any) -> Image.Image:
    assert output.ui["animated"] == (True,)
    return Image.open(ctx.files.base / "output" / output.ui["images"][0]["filename"])


def test_a_moving_webp(ctx: Context) -> None:
    with picture(ctx, save_animated_webp(FRAMES, "a", 4.0, True, 80, "fastest", ctx)) as found:
        assert (found.n_frames, found.size) == (3, (12, 8))  # pyright: ignore[reportAttributeAccessIssue]
        exif = found.getexif()
        assert exif[0x0110] == 'prompt:{"1": {}}' and exif[0x010F] == 'workflow:{"nodes": []}'
        found.seek(1)
        found.load()
        assert found.info["duration"] == 250


def test_a_moving_png(ctx: Context) -> None:
    with picture(ctx, save_animated_png(FRAMES, "a", 10.0, 4, ctx)) as found:
        assert (found.n_frames, found.info["duration"]) == (3, 100)  # pyright: ignore[reportAttributeAccessIssue]
        assert json.loads(found.text["prompt"]) == {"1": {}}  # pyright: ignore[reportAttributeAccessIssue]


def test_a_latent_comes_back(ctx: Context, tmp_path: Path) -> None:
    samples = torch.randn(2, 4, 3, 5)
    output: Any = save_latent({"samples": samples[:, :, :, :4]}, "z", ctx)
    name = output.ui["latents"][0]["filename"]
    (tmp_path / "output").rename(tmp_path / "input")
    assert torch.equal(load_latent(name, ctx)["samples"], samples[:, :, :, :4])
    with safe_open(tmp_path / "input" / name, "pt") as file:
        assert file.metadata() == {"prompt": '{"1": {}}', "workflow": '{"nodes": []}'}


def test_old_latents_are_scaled_and_others_refused(ctx: Context, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    save_file({"latent_tensor": torch.full((1, 4, 1, 1), 0.18215)}, tmp_path / "input/old.latent")
    torch.testing.assert_close(load_latent("old.latent", ctx)["samples"], torch.ones(1, 4, 1, 1))
    (tmp_path / "input/bad.latent").write_bytes(b"no")
    save_file({"other": torch.zeros(1)}, tmp_path / "input/other.latent")
    for name in ("bad.latent", "other.latent"):
        with pytest.raises(CorruptFile, match=name):
            load_latent(name, ctx)
