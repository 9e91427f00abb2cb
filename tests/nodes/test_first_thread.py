"""The seven nodes from a tiny checkpoint to a PNG, called as plain functions."""

import json
from pathlib import Path

from PIL import Image

from nodes.conditioning import clip_text_encode
from nodes.image_files import save_image
from nodes.latent import empty_latent_image
from nodes.loaders import load_checkpoint
from nodes.sampling import ksampler
from nodes.vae import vae_decode
from tests.nodes.context import context
from tests.tiny_checkpoint import write_tiny_checkpoint


def test_text_becomes_a_png_with_its_prompt(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path / "models/checkpoints/tiny.safetensors")
    ctx = context(tmp_path, prompt={"1": {"class_type": "KSampler", "inputs": {}}})
    model, clip, vae = load_checkpoint("tiny.safetensors", ctx=ctx)
    latent = ksampler(
        model,
        seed=1,
        steps=2,
        cfg=5.0,
        sampler_name="euler",
        scheduler="normal",
        positive=clip_text_encode("a boat", clip, ctx=ctx),
        negative=clip_text_encode("", clip, ctx=ctx),
        latent_image=empty_latent_image(64, 48, 1),
        denoise=1.0,
        ctx=ctx,
    )
    saved = save_image(vae_decode(latent, vae, ctx=ctx), "ComfyUI", ctx=ctx)
    assert saved.ui is not None
    with Image.open(tmp_path / "output" / saved.ui["images"][0]["filename"]) as picture:
        assert picture.size == (64, 48)
        assert json.loads(picture.info["prompt"])["1"]["class_type"] == "KSampler"
    assert ctx.reports == [(1, 2), (2, 2)]
