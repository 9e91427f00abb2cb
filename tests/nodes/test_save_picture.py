"""`SavePicture`: every format with every choice of metadata, read back by Pillow and by us."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from engine.api.context import Saving
from engine.api.errors import NodeError
from engine.diffusion.image_writing import FORMATS
from engine.run.picture_texts import read_picture_texts
from nodes.image_files import save_image, save_picture
from nodes.picture_texts import METADATA
from tests.nodes.context import Context, context

WORKFLOW = {"nodes": [], "title": "ä猫"}
GRAPH: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cät", "clip": ["1", 1]}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
    "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 24, "height": 16}},
    "5": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0],
            "seed": 7, "steps": 20, "cfg": 7.5, "sampler_name": "euler_ancestral",
            "scheduler": "karras", "denoise": 1.0,
        },
    },
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
    "9": {"class_type": "SavePicture", "inputs": {"images": ["6", 0]}},
}  # fmt: skip


def smooth(height: int = 16, width: int = 24) -> Tensor:
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None]
    return torch.stack([rows.expand(-1, width), columns.expand(height, -1), rows * columns], -1)[
        None
    ]


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return context(tmp_path, prompt=GRAPH, extra_pnginfo={"workflow": WORKFLOW}, node_id="9")


def saved(ctx: Context, image: Tensor, file_format: str, metadata: str = "workflow") -> Path:
    shown = save_picture(image, "a", file_format, 90, metadata, ctx).ui
    assert shown is not None
    return ctx.files.base / "output" / shown["images"][0]["filename"]


@pytest.mark.parametrize("metadata", METADATA)
@pytest.mark.parametrize("file_format", FORMATS)
def test_pixels_and_texts_come_back(ctx: Context, file_format: str, metadata: str) -> None:
    image = smooth()
    path = saved(ctx, image, file_format, metadata)
    with Image.open(path) as picture:
        assert picture.size == (24, 16)
        found = np.asarray(picture.convert("RGB"), np.float32) / 255
        is_exact = file_format.startswith("PNG") or "lossless" in file_format
        assert np.abs(found - image[0].numpy()).max() < (1 / 250 if is_exact else 0.08)
        assert b"trainedAlgorithmicMedia" in picture.info["xmp"]
    texts = read_picture_texts(path)
    assert ("workflow" in metadata) == ("prompt" in texts) == ("workflow" in texts)
    assert ("parameters" in metadata) == ("parameters" in texts)
    if "workflow" in metadata:
        assert json.loads(texts["prompt"]) == GRAPH
        assert json.loads(texts["workflow"]) == WORKFLOW
    if "parameters" in metadata:
        first, last = texts["parameters"].splitlines()
        assert first == "a cät"
        assert last.startswith("Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7.5")


def test_a_share_copy_tells_nothing_but_its_origin(ctx: Context) -> None:
    for file_format in FORMATS:
        data = saved(ctx, smooth(), file_format, "none").read_bytes()
        assert b"KSampler" not in data and b"a.safetensors" not in data
        assert b"trainedAlgorithmicMedia" in data


def test_the_settings_keep_texts_and_origin_out(ctx: Context) -> None:
    ctx.saving = Saving(writes_metadata=False, marks_origin=False)
    for file_format in FORMATS:
        data = saved(ctx, smooth(), file_format, "workflow and parameters").read_bytes()
        assert b"prompt" not in data and b"lgorithmicMedia" not in data
    shown: Any = save_image(smooth(), "b", ctx=ctx).ui
    with Image.open(ctx.files.base / "output" / shown["images"][0]["filename"]) as picture:
        assert not picture.info


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_really_has_sixteen_bits(ctx: Context, channels: int) -> None:
    values = np.random.default_rng(3).integers(0, 65536, (9, 7, channels))
    values[2] = 30000 + np.arange(7)[:, None]  # smooth rows, which are stored as differences
    values[3] = values[2] + 1
    image = torch.from_numpy(values / 65535.0).float()[None]
    path = saved(ctx, image, "PNG 16 bit")
    assert np.array_equal(_decoded(path.read_bytes()), values)
    with Image.open(path) as picture:
        picture.load()  # an independent reader agrees on the upper bytes
        if channels > 1:
            assert np.abs(np.asarray(picture).astype(int) - (values >> 8)).max() <= 1


def _decoded(data: bytes) -> np.ndarray:
    """A plain PNG reader, for the two kinds of rows that are written."""
    import zlib

    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    assert data[24] == 16
    channels = {0: 1, 2: 3, 6: 4}[data[25]]
    start = data.index(b"IDAT")
    size = int.from_bytes(data[start - 4 : start], "big")
    rows = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + size]), np.uint8)
    rows = rows.reshape(height, -1)
    out = np.zeros((height, rows.shape[1] - 1), np.uint8)
    for y, row in enumerate(rows):
        if row[0] == 2:
            out[y] = row[1:] + (out[y - 1] if y else 0)
        else:
            assert row[0] == 1
            out[y] = np.cumsum(row[1:].reshape(width, -1), axis=0, dtype=np.uint8).reshape(-1)
    return out.view(">u2").reshape(height, width, channels)


def test_a_workflow_too_long_for_a_jpeg_block_is_kept(ctx: Context) -> None:
    long = {"nodes": [], "note": "x" * 200_000}
    ctx.extra_pnginfo = {"workflow": long}
    path = saved(ctx, smooth(), "JPEG")
    texts = read_picture_texts(path)
    assert json.loads(texts["workflow"]) == long
    assert json.loads(texts["prompt"]) == GRAPH
    assert path.read_bytes()[6:10] == b"JFIF"  # which readers want first


def test_transparency_in_a_jpeg_is_refused(ctx: Context) -> None:
    with pytest.raises(NodeError, match="no transparency"):
        saved(ctx, torch.rand(1, 4, 4, 4), "JPEG")


def test_several_pictures_get_several_files(ctx: Context) -> None:
    shown = save_picture(torch.rand(3, 8, 8, 3), "a", "WebP", 50, "none", ctx).ui
    assert shown is not None and len({i["filename"] for i in shown["images"]}) == 3
