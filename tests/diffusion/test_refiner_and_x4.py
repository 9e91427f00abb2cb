"""The SDXL refiner and the SD x4 upscaler on tiny files; diffusers is the oracle."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from safetensors.torch import load_file

from engine.api.errors import NodeError
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.conditioning_batch import Target, resolve
from engine.diffusion.extra_input import extra_input, noise_level
from engine.diffusion.latent_space import SD_X4, SDXL
from engine.diffusion.network import LoadedDenoiser
from engine.diffusion.parameterization import parameterization
from engine.diffusion.residency import ModelPool
from nodes.conditioning import clip_text_encode, clip_text_encode_sdxl_refiner
from nodes.latent import empty_latent_image
from nodes.loaders import load_checkpoint
from nodes.sampling import ksampler, ksampler_advanced
from nodes.upscale import sd_4x_upscale_conditioning
from nodes.vae import vae_decode
from tests.nodes.context import Context, context
from tests.tiny_families import write_family

pytestmark = pytest.mark.slow


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    for family in ("sdxl", "sdxl_refiner", "sd_x4_upscaler"):
        write_family(tmp_path / f"models/checkpoints/{family}.safetensors", family)
    return context(tmp_path)


def loaded(ctx: Context, family: str) -> LoadedDenoiser:
    path = ctx.files.resolve("checkpoints", f"{family}.safetensors")
    with ModelPool().use(open_checkpoint(path, family, family).model) as found:
        return found


def test_the_x4_network_is_diffusers_own(ctx: Context) -> None:
    ours = loaded(ctx, "sd_x4_upscaler")
    config = {
        "in_channels": 7,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (32, 64, 128),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 16,
        "attention_head_dim": 8,
        "use_linear_projection": True,
        "num_class_embeds": 1000,
        "only_cross_attention": (False, True, False),
    }
    theirs = UNet2DConditionModel(**config)
    tensors = load_file(ctx.files.resolve("checkpoints", "sd_x4_upscaler.safetensors"))
    names: Any = {**config, "class_embed_type": None, "addition_embed_type": None}
    theirs.load_state_dict(convert_ldm_unet_checkpoint(tensors, names))
    torch.manual_seed(0)
    x, text = torch.randn(2, 7, 8, 8), torch.randn(2, 77, 16)
    time, level = torch.tensor([500.0, 20.0]), torch.tensor([[3.0], [300.0]])
    found = ours.predict(x, time, text, y=level)
    with torch.no_grad():
        wanted = theirs(x, time, text, class_labels=level[:, 0].long(), return_dict=False)[0]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert (ours.parameterization_name, ours.latent) == ("v", SD_X4)


def test_the_x4_schedule_and_small_picture_are_those_of_diffusers(ctx: Context) -> None:
    scheduler = DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="scaled_linear")
    alphas = loaded(ctx, "sd_x4_upscaler").alphas_cumprod
    torch.testing.assert_close(alphas.float(), scheduler.alphas_cumprod, atol=1e-6, rtol=1e-5)
    picture = torch.rand(1, 3, 8, 8) * 2 - 1
    options = {"concat_image": picture, "noise_augmentation": 0.5}
    found = extra_input(options, torch.zeros(1, 4, 8, 8), None, 3, SD_X4, 6)
    drawn = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(6 - 10))
    assert noise_level(options) == 175
    wanted = scheduler.add_noise(picture, drawn, torch.IntTensor([175]))
    assert found is not None
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_small_picture_is_enlarged_four_times(ctx: Context) -> None:
    model, clip, vae = load_checkpoint("sd_x4_upscaler.safetensors", ctx=ctx)
    text = clip_text_encode("a boat", clip, ctx=ctx)
    image = torch.rand(1, 16, 24, 3)
    positive, negative, latent = sd_4x_upscale_conditioning(image, text, text, 4.0, 0.1)
    done = ksampler(model, 1, 2, 4.0, "euler", "normal", positive, negative, latent, 1.0, ctx=ctx)
    assert vae_decode(done, vae, ctx=ctx).shape == (1, 64, 96, 3)
    with pytest.raises(NodeError, match="no picture to enlarge"):
        ksampler(model, 1, 2, 4.0, "euler", "normal", text, text, latent, 1.0, ctx=ctx)


@pytest.mark.parametrize("score", [None, 9.5])
def test_the_refiner_is_told_sizes_and_score_as_in_diffusers(score: float | None) -> None:
    """`_get_add_time_ids` of StableDiffusionXLImg2ImgPipeline: height, width, crops, score."""
    pooled = torch.randn(1, 16)
    options = {"pooled_output": pooled} | ({"aesthetic_score": score} if score else {})
    target = Target(
        model=parameterization("eps", torch.linspace(0.99, 0.01, 1000)),
        latent=torch.zeros(1, 4, 8, 16),
        noise_mask=None,
        extra_channels=0,
        context_dim=16,
        adm_channels=16 + 5 * 256,
        space=SDXL,
        vector=("height", "width", "crop_h", "crop_w", "aesthetic_score"),
    )
    groups = resolve([[(torch.zeros(1, 77, 16), options)]] * 2, target)
    for (entry,), default in zip(groups, (6.0, 2.5), strict=True):
        numbers = torch.tensor([64.0, 128.0, 0.0, 0.0, score or default])
        embedded = get_timestep_embedding(
            numbers, 256, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        wanted = torch.cat([pooled, embedded.reshape(1, -1)], dim=1)
        assert entry.y is not None
        torch.testing.assert_close(entry.y, wanted, atol=1e-5, rtol=1e-5)


def test_base_and_refiner_share_a_schedule_to_a_picture(ctx: Context) -> None:
    base, clip, _ = load_checkpoint("sdxl.safetensors", ctx=ctx)
    refiner, refiner_clip, vae = load_checkpoint("sdxl_refiner.safetensors", ctx=ctx)
    text = clip_text_encode("a boat", clip, ctx=ctx)
    latent = empty_latent_image(64, 64, 1)
    begun = ksampler_advanced(
        base, "enable", 1, 4, 3.0, "euler", "normal", text, text, latent, 0, 3, "enable", ctx=ctx
    )
    text = clip_text_encode_sdxl_refiner(6.0, 64, 64, "a boat", refiner_clip, ctx=ctx)
    ended = ksampler_advanced(
        *(refiner, "disable", 1, 4, 3.0, "euler", "normal", text, text, begun),
        *(3, 10000, "disable"),
        ctx=ctx,
    )
    picture = vae_decode(ended, vae, ctx=ctx)
    assert picture.shape == (1, 64, 64, 3)
    assert picture.isfinite().all()
    assert picture.std() > 0.01
