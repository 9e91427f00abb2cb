"""unCLIP: the vector input against diffusers' scheduler, and a picture from a tiny checkpoint."""

from pathlib import Path

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from safetensors.torch import save_file

from engine.api.errors import NodeError
from engine.diffusion.clip_vision import ClipVisionOutput
from engine.diffusion.conditioning_batch import Target, resolve
from engine.diffusion.latent_space import SDXL
from engine.diffusion.parameterization import parameterization
from engine.diffusion.unclip import EmbedStatistics, unclip_vector, with_picture
from nodes.clip_vision import clip_vision_encode, load_unclip_checkpoint, unclip_conditioning
from nodes.conditioning import clip_text_encode
from nodes.sampling import ksampler
from nodes.vae import vae_decode
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import TINY_METADATA, fill
from tests.tiny_families import sd2_unclip_keys

STATISTICS = EmbedStatistics(mean=torch.full((1, 8), 0.2), spread=torch.full((1, 8), 1.5))


def picture(embeds: torch.Tensor) -> ClipVisionOutput:
    hidden = torch.zeros(1, 2, 8)
    return ClipVisionOutput(
        image_embeds=embeds, last_hidden_state=hidden, penultimate_hidden_states=hidden
    )


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_noised_embeds_are_those_of_diffusers(noise: float) -> None:
    embeds, level = torch.arange(8.0)[None], round(999 * noise)
    steered = with_picture([(torch.zeros(1, 77, 16), {})], picture(embeds), 1.0, noise)
    found = unclip_vector(steered[0][1]["unclip_conditioning"], STATISTICS, 7)
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    drawn = torch.randn(1, 8, generator=torch.Generator().manual_seed(7 - 10))
    noised = scheduler.add_noise((embeds - 0.2) / 1.5, drawn, torch.IntTensor([level]))
    torch.testing.assert_close(found[:, :8], noised * 1.5 + 0.2, atol=1e-4, rtol=1e-4)
    assert found.shape == (1, 16)
    assert found[0, 8].item() == pytest.approx(torch.tensor(float(level)).cos().item(), abs=1e-4)


def test_no_picture_is_zeros_and_other_widths_are_named() -> None:
    assert not unclip_vector((), STATISTICS, 0).any()
    plain = [(torch.zeros(1, 77, 16), {})]
    assert with_picture(plain, picture(torch.ones(1, 8)), 0.0, 0.0) is plain
    two = with_picture(plain, picture(torch.ones(2, 8)), 0.5, 0.0)
    assert unclip_vector(two[0][1]["unclip_conditioning"], STATISTICS, 0).shape == (1, 16)
    wide = with_picture(plain, picture(torch.ones(1, 4)), 1.0, 0.0)
    with pytest.raises(NodeError, match="have 4 channels, but the unCLIP model expects 8"):
        unclip_vector(wide[0][1]["unclip_conditioning"], STATISTICS, 0)


def test_sdxl_is_told_a_picture_in_place_of_the_pooled_text() -> None:
    """The sizes stay; the embeds stand where the text's did, nearly without noise at level 0."""
    target = Target(
        model=parameterization("eps", torch.linspace(0.99, 0.01, 1000)),
        latent=torch.zeros(1, 4, 8, 8),
        noise_mask=None,
        extra_channels=0,
        context_dim=16,
        adm_channels=8 + 2 * 256,
        space=SDXL,
        vector=("height", "width"),
    )
    text = [(torch.zeros(1, 77, 16), {"pooled_output": torch.ones(1, 8)})]
    embeds = torch.linspace(-1, 1, 8)[None]
    one = with_picture(text, picture(embeds), 0.5, 0.0)
    for steered, share in ((one, 0.5), (with_picture(one, picture(embeds), 0.25, 0.0), 0.75)):
        plain, told = (resolve([c], target)[0][0].y for c in (text, steered))
        assert plain is not None and told is not None
        assert torch.equal(told[:, 8:], plain[:, 8:])
        torch.testing.assert_close(told[:, :8], embeds * share, atol=0.05, rtol=0)
    wide = with_picture(text, picture(torch.ones(1, 4)), 1.0, 0.0)
    with pytest.raises(NodeError, match="have 4 channels, but the unCLIP model expects 8"):
        resolve([wide], target)


def vision_weights() -> dict[str, torch.Tensor]:
    """An OpenCLIP vision tower inside a checkpoint."""
    torch.manual_seed(2)
    start, width = "embedder.model.visual.", 16
    shapes = {"class_embedding": (width,), "conv1.weight": (width, 3, 7, 7), "proj": (width, 8)}
    shapes["positional_embedding"] = (17, width)
    for name in (
        "ln_pre",
        "ln_post",
        "transformer.resblocks.0.ln_1",
        "transformer.resblocks.0.ln_2",
    ):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for name, out, into in (
        ("attn.in_proj_", 48, 16),
        ("attn.out_proj.", 16, 16),
        ("mlp.c_fc.", 32, 16),
        ("mlp.c_proj.", 16, 32),
    ):
        place = f"transformer.resblocks.0.{name}"
        shapes |= {f"{place}weight": (out, into), f"{place}bias": (out,)}
    return {start + name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}


def test_a_picture_follows_a_picture(tmp_path: Path) -> None:
    (tmp_path / "models/checkpoints").mkdir(parents=True)
    weights = fill(sd2_unclip_keys()) | vision_weights()
    metadata = TINY_METADATA | {"weft.vision.heads": "2", "weft.unet.head_width": "8"}
    save_file(weights, tmp_path / "models/checkpoints/a.safetensors", metadata=metadata)
    ctx: Context = context(tmp_path)
    model, clip, vae, vision = load_unclip_checkpoint("a.safetensors", ctx=ctx)
    text, empty = (clip_text_encode(t, clip, ctx=ctx) for t in ("a boat", ""))
    results = [_sampled(ctx, model, text, empty)]
    for shade in (0.1, 0.9):
        seen = clip_vision_encode(vision, torch.full((1, 40, 30, 3), shade), "center", ctx=ctx)
        steered = unclip_conditioning(text, seen, 1.0, 0.1)
        results.append(_sampled(ctx, model, steered, empty))
    assert all(bool(torch.isfinite(r).all()) for r in results)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (results[i] - results[j]).abs().max() > 1e-4
    assert vae_decode({"samples": results[1]}, vae, ctx=ctx).shape == (1, 64, 64, 3)


def _sampled(ctx: Context, model: object, positive: object, negative: object) -> torch.Tensor:
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    call = (model, 1, 2, 3.0, "euler", "normal", positive, negative, latent, 1.0)
    return ksampler(*call, ctx=ctx)["samples"]  # pyright: ignore[reportArgumentType]
