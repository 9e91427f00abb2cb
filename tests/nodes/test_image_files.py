"""Reading and writing picture files, damaged ones included."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.api.errors import CorruptFile, NodeError
from engine.diffusion import image_reading
from nodes.image_files import (
    load_image,
    load_image_mask,
    mask_preview,
    preview_image,
    save_image,
)
from tests.nodes.context import Context, context


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    (tmp_path / "input").mkdir()
    return context(tmp_path, prompt={"1": {"inputs": {}}}, extra_pnginfo={"workflow": {"a": "ä"}})


def put(ctx: Context, name: str, picture: Image.Image, **options: Any) -> str:
    picture.save(ctx.files.base / "input" / name, **options)
    return name


def colours(*, mode: str = "RGB") -> Image.Image:
    """2 x 3 pixels, all different."""
    values = np.arange(18, dtype=np.uint8).reshape(3, 2, 3) * 14
    return Image.fromarray(values).convert(mode)


def test_rgb_is_exact_and_has_an_empty_mask(ctx: Context) -> None:
    image, mask = load_image(put(ctx, "a.png", colours()), ctx=ctx)
    assert image.shape == (1, 3, 2, 3) and image.dtype == torch.float32
    assert torch.equal(image[0], torch.from_numpy(np.asarray(colours()).astype(np.float32) / 255))
    assert mask.shape == (1, 64, 64) and not mask.any()


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "P"])
def test_other_modes_become_rgb(ctx: Context, mode: str) -> None:
    name = put(ctx, "a.tif" if mode == "CMYK" else "a.png", colours(mode=mode))
    image, _ = load_image(name, ctx=ctx)
    assert image.shape == (1, 3, 2, 3)


def test_alpha_becomes_a_mask_turned_round(ctx: Context) -> None:
    picture = colours(mode="RGBA")
    picture.putalpha(Image.fromarray(np.array([[0, 255], [51, 255], [255, 255]], np.uint8)))
    image, mask = load_image(put(ctx, "a.png", picture), ctx=ctx)
    assert image.shape[-1] == 3
    torch.testing.assert_close(mask[0, :, 0], torch.tensor([1.0, 0.8, 0.0]))


def test_transparent_palette_colour_becomes_a_mask(ctx: Context) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    _, mask = load_image(put(ctx, "a.png", picture, transparency=1), ctx=ctx)
    assert mask.tolist() == [[[0.0, 1.0]]]


def test_sixteen_bit_grey_keeps_its_depth(ctx: Context) -> None:
    values = np.array([[0, 65535], [257, 32768]], dtype=np.uint16)
    image, _ = load_image(put(ctx, "a.png", Image.fromarray(values)), ctx=ctx)
    torch.testing.assert_close(
        image[0, ..., 0].double().numpy(), values / 65535.0, atol=1e-7, rtol=0
    )


def test_exif_orientation_is_applied(ctx: Context) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture = Image.new("RGB", (8, 16), "red")
    image, _ = load_image(put(ctx, "a.jpg", picture, exif=exif), ctx=ctx)
    assert image.shape == (1, 8, 16, 3)


def test_frames_become_a_batch(ctx: Context) -> None:
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "green", "blue")]
    name = put(ctx, "a.webp", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    image, mask = load_image(name, ctx=ctx)
    assert image.shape == (3, 4, 4, 3) and mask.shape[0] == 3
    assert image[2, 0, 0].tolist() == [0.0, 0.0, 1.0]


def test_mask_channels(ctx: Context) -> None:
    picture = colours(mode="RGBA")
    picture.putalpha(Image.new("L", (2, 3), 51))
    name = put(ctx, "a.png", picture)
    torch.testing.assert_close(load_image_mask(name, "alpha", ctx=ctx), torch.full((1, 3, 2), 0.8))
    green = torch.from_numpy(np.asarray(colours())[..., 1].astype(np.float32) / 255)
    assert torch.equal(load_image_mask(name, "green", ctx=ctx)[0], green)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "gif", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_named(ctx: Context, kind: str, share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = ctx.files.base / "input" / put(ctx, f"cut.{kind}", Image.fromarray(noise))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CorruptFile, match=f"cut.{kind}"):
        load_image(path.name, ctx=ctx)


def test_a_file_of_another_kind_is_named(ctx: Context) -> None:
    (ctx.files.base / "input" / "a.png").write_text("hello")
    with pytest.raises(CorruptFile, match=r"a\.png"):
        load_image("a.png", ctx=ctx)


def test_a_decompression_bomb_is_refused(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    name = put(ctx, "bomb.png", Image.new("L", (40, 40)))
    monkeypatch.setattr(image_reading, "MAX_PIXELS", 1000)
    with pytest.raises(NodeError, match=r"bomb\.png"):
        load_image(name, ctx=ctx)
    with pytest.raises(NodeError, match=r"bomb\.png"):
        load_image_mask(name, "red", ctx=ctx)


def test_saved_picture_carries_prompt_and_workflow(ctx: Context) -> None:
    images = torch.rand(2, 4, 6, 3, generator=torch.Generator().manual_seed(1))
    saved = save_image(images, "out", ctx=ctx).ui
    assert saved is not None and len(saved["images"]) == 2
    first = saved["images"][0]
    assert first["filename"] == "out_00001_.png" and first["type"] == "output"
    with Image.open(ctx.files.base / "output" / first["filename"]) as picture:
        assert json.loads(picture.info["prompt"]) == {"1": {"inputs": {}}}
        assert json.loads(picture.info["workflow"]) == {"a": "ä"}
        wanted = (images[0].numpy() * 255).astype(np.uint8)
        assert np.array_equal(np.asarray(picture), wanted)


def test_previews_go_to_the_temp_folder(ctx: Context) -> None:
    shown = preview_image(torch.rand(1, 4, 4, 3), ctx=ctx).ui
    mask = mask_preview(torch.rand(4, 4), ctx=ctx).ui
    assert shown and mask
    assert {i["type"] for i in (*shown["images"], *mask["images"])} == {"temp"}
