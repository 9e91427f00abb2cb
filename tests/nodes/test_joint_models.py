"""SD3 and Flux from a checkpoint file to a picture, through the nodes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.api.errors import ModelError, NodeError, NotThisFamily
from engine.api.types import LatentDict
from engine.config import Config
from engine.diffusion.extra_input import extra_input
from engine.diffusion.latent_space import FLUX
from engine.local import Weft
from nodes.batch import empty_sd3_latent_image
from nodes.conditioning import clip_text_encode
from nodes.joint_text import (
    clip_text_encode_flux,
    clip_text_encode_sd3,
    flux_disable_guidance,
    flux_guidance,
    flux_kontext_image_scale,
    flux_kontext_multi_reference_latent_method,
    reference_latent,
    t5_tokenizer_options,
)
from nodes.layer_guidance import (
    skip_layer_guidance_dit,
    skip_layer_guidance_dit_simple,
    skip_layer_guidance_sd3,
)
from nodes.loaders import load_checkpoint, load_lora, load_lora_model_only
from nodes.model_sampling import model_sampling_flux, model_sampling_sd3
from nodes.parts import load_clip, load_clip_pair, load_clip_triple
from nodes.sampling import ksampler
from nodes.vae import (
    inpaint_model_conditioning,
    instruct_pix_to_pix_conditioning,
    vae_decode,
    vae_encode,
)
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.tiny_transformer import (
    flux_keys,
    save,
    whole_flux_keys,
    whole_sd3_keys,
    write_tokenizer,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("joint")
    models = base / "models"
    save(models / "checkpoints/sd3.safetensors", whole_sd3_keys())
    save(models / "checkpoints/flux.safetensors", whole_flux_keys())
    write_tiny_checkpoint(models / "checkpoints/sd1.safetensors")
    write_tokenizer(models / "text_encoders/t5_tokenizer.json")
    (models / "loras").mkdir()
    return base


@pytest.fixture(scope="module")
def ctx(base: Path) -> Context:
    return context(base)


def test_kept_results_notice_another_tokenizer(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "text_encoders").mkdir(parents=True)
    (folder / "checkpoints").symlink_to(base / "models/checkpoints")
    tokenizer = write_tokenizer(folder / "text_encoders/t5_tokenizer.json")
    prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "flux.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a boat", "clip": ["1", 1]}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }
    with Weft(Config(base_dir=tmp_path, load_packs=False)) as weft:
        states = [weft.load(prompt).run().records["2"].state for _ in range(2)]
        tokenizer.write_text(tokenizer.read_text().replace("boat", "goat"))
        states.append(weft.load(prompt).run().records["2"].state)
    assert states[0] == states[2] == "ran"
    assert states[1] != "ran"


def sampled(ctx: Context, model: Any, positive: Any, negative: Any, cfg: float = 1.0) -> Tensor:
    latent = empty_sd3_latent_image(64, 48, 1)
    out = ksampler(model, 7, 2, cfg, "euler", "simple", positive, negative, latent, 1.0, ctx=ctx)
    return out["samples"]


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_a_checkpoint_gives_a_picture(family: str, ctx: Context):
    model, clip, vae = load_checkpoint(f"{family}.safetensors", ctx=ctx)
    prompts = [clip_text_encode(text, clip, ctx=ctx) for text in ("a red boat", "")]
    latent = sampled(ctx, model, prompts[0], prompts[1], 4.0)
    assert latent.shape == (1, 16, 6, 8)
    picture = vae_decode({"samples": latent}, vae, ctx=ctx)
    assert picture.shape == (1, 48, 64, 3)
    assert picture.std() > 0.01
    back = vae_encode(picture, vae, ctx=ctx)
    assert back["samples"].shape == (1, 16, 6, 8)


def test_prompt_nodes_of_the_families(ctx: Context):
    _, sd3, _ = load_checkpoint("sd3.safetensors", ctx=ctx)
    _, flux, _ = load_checkpoint("flux.safetensors", ctx=ctx)
    plain = clip_text_encode("a boat", sd3, ctx=ctx)
    same = clip_text_encode_sd3(sd3, "a boat", "a boat", "a boat", "none", ctx=ctx)
    assert torch.equal(plain[0][0], same[0][0])
    ((embeds, options),) = clip_text_encode_flux(flux, "a boat", "a red boat", 2.5, ctx=ctx)
    assert options["guidance"] == 2.5
    assert torch.equal(embeds, clip_text_encode("a red boat", flux, ctx=ctx)[0][0])
    short = t5_tokenizer_options(flux, 0, 0)
    assert clip_text_encode("a red boat", short, ctx=ctx)[0][0].shape[1] == 4
    with pytest.raises(NodeError, match="Flux"):
        clip_text_encode_flux(sd3, "a", "a", 2.5, ctx=ctx)


def test_guidance_changes_the_picture_and_can_be_left_out(ctx: Context):
    model, clip, _ = load_checkpoint("flux.safetensors", ctx=ctx)
    prompt = clip_text_encode("a boat", clip, ctx=ctx)
    default = sampled(ctx, model, prompt, prompt)
    assert torch.equal(default, sampled(ctx, model, flux_guidance(prompt, 3.5), prompt))
    others = [flux_guidance(prompt, 9.0), flux_disable_guidance(prompt)]
    for other in others:
        assert not torch.allclose(default, sampled(ctx, model, other, prompt), atol=1e-4)


@pytest.mark.parametrize("kind", ["canny or depth", "fill"])
def test_flux_with_a_picture_beside_the_latent(tmp_path: Path, kind: str) -> None:
    keys = whole_flux_keys()
    flux_keys(keys, inputs=32 if kind != "fill" else 96)
    save(tmp_path / "models/checkpoints/a.safetensors", keys)
    write_tokenizer(tmp_path / "models/text_encoders/t5_tokenizer.json")
    ctx = context(tmp_path)
    model, clip, vae = load_checkpoint("a.safetensors", ctx=ctx)
    text = clip_text_encode("a boat", clip, ctx=ctx)
    mask = torch.zeros(1, 48, 64)
    results = [sampled(ctx, model, text, text)]
    for shade, seen in ((0.2, mask), (0.8, mask), (0.8, mask + 1)):
        pixels = torch.full((1, 48, 64, 3), shade)
        if kind == "fill":
            positive, *_ = inpaint_model_conditioning(text, text, vae, pixels, seen, False, ctx=ctx)
        else:
            positive, *_ = instruct_pix_to_pix_conditioning(text, text, vae, pixels, ctx=ctx)
        results.append(sampled(ctx, model, positive, text))
    assert all(r.shape == (1, 16, 6, 8) and bool(r.isfinite().all()) for r in results)
    different = [(results[i] - results[i + 1]).abs().max() > 1e-4 for i in range(3)]
    assert different == [True, True, kind == "fill"]


def test_the_input_of_flux_fill_is_that_of_diffusers() -> None:
    """The shapes of FluxFillPipeline.prepare_mask_latents, before both pack alike."""
    torch.manual_seed(0)
    latent, picture = torch.zeros(2, 16, 6, 8), torch.randn(1, 16, 6, 8)
    mask = torch.rand(1, 48, 64)
    options = {"concat_latent_image": picture, "concat_mask": mask}
    found = extra_input(options, latent, None, 80, FLUX)
    assert found is not None and found.shape == (2, 80, 6, 8)
    torch.testing.assert_close(found[:1, :16], (picture - 0.1159) * 0.3611)
    wanted = mask.view(1, 6, 8, 8, 8).permute(0, 2, 4, 1, 3).reshape(1, 64, 6, 8)
    assert torch.equal(found[1:, 16:], wanted)
    empty = extra_input({}, latent, None, 80, FLUX)
    assert empty is not None and bool((empty[:, 16:] == 1).all())


def test_references_change_the_picture_by_their_place(ctx: Context):
    model, clip, _ = load_checkpoint("flux.safetensors", ctx=ctx)
    prompt = clip_text_encode("a boat", clip, ctx=ctx)
    assert reference_latent(prompt) == prompt
    pictures: list[LatentDict] = [{"samples": torch.randn(1, 16, 4, size)} for size in (4, 6)]
    shown = reference_latent(reference_latent(prompt, pictures[0]), pictures[1])
    found = [sampled(ctx, model, prompt, prompt)]
    for method in ("offset", "index", "uxo/uno"):
        placed = flux_kontext_multi_reference_latent_method(shown, method)
        found.append(sampled(ctx, model, placed, prompt, 2.0))
    assert torch.equal(found[1], sampled(ctx, model, shown, prompt, 2.0))
    for n, one in enumerate(found):
        assert not any(torch.allclose(one, other, atol=1e-5) for other in found[:n])


def test_a_picture_is_brought_to_a_size_of_kontext():
    assert flux_kontext_image_scale(torch.rand(1, 50, 100, 3)).shape == (1, 720, 1456, 3)


def test_the_shift_is_the_familys_own_unless_set(ctx: Context):
    for name, same, other in (
        ("sd3", lambda m: model_sampling_sd3(m, 3.0), lambda m: model_sampling_sd3(m, 9.0)),
        (
            "flux",
            lambda m: model_sampling_flux(m, 1.15, 0.5, 1024, 1024),
            lambda m: model_sampling_flux(m, 9.0, 0.5, 1024, 1024),
        ),
    ):
        model, clip, _ = load_checkpoint(f"{name}.safetensors", ctx=ctx)
        prompt = clip_text_encode("a boat", clip, ctx=ctx)
        plain = sampled(ctx, model, prompt, prompt)
        assert torch.equal(plain, sampled(ctx, same(model), prompt, prompt))
        assert not torch.allclose(plain, sampled(ctx, other(model), prompt, prompt))


def test_skipped_layers_guide(ctx: Context):
    model, clip, _ = load_checkpoint("sd3.safetensors", ctx=ctx)
    prompt, other = (clip_text_encode(t, clip, ctx=ctx) for t in ("a boat", "a red"))
    plain = sampled(ctx, model, prompt, other, 3.0)

    def run(changed: Any) -> Tensor:
        return sampled(ctx, changed, prompt, other, 3.0)

    guided = run(skip_layer_guidance_sd3(model, "1", 2.0, 0.0, 1.0, ctx=ctx))
    assert not torch.allclose(plain, guided)
    same = skip_layer_guidance_dit(model, "1", "", 2.0, 0.0, 1.0, 0.0, ctx=ctx)
    assert torch.equal(guided, run(same))
    assert torch.equal(plain, run(skip_layer_guidance_sd3(model, "1", 0.0, 0.0, 1.0, ctx=ctx)))
    late = skip_layer_guidance_sd3(model, "1", 2.0, 0.99, 1.0, ctx=ctx)
    assert torch.equal(plain, run(late))
    assert skip_layer_guidance_dit(model, "", "", 2.0, 0.0, 1.0, 0.0, ctx=ctx) is model
    simple = run(skip_layer_guidance_dit_simple(model, "1", "", 0.0, 1.0, ctx=ctx))
    assert not torch.allclose(plain, simple)


# LoRA ---------------------------------------------------------------------------------------------

UP, DOWN = torch.randn(192, 4) * 0.2, torch.randn(4, 64) * 0.2
NAMES = {
    "flux": "double_blocks.0.img_attn.qkv",
    "sd3": "joint_blocks.0.x_block.attn.qkv",
}


def thirds(end_up: str, end_down: str, start: str = "transformer.") -> dict[str, Tensor]:
    """The same change under diffusers' names, a layer each for queries, keys and values."""
    tensors: dict[str, Tensor] = {}
    for n, layer in enumerate(("to_q", "to_k", "to_v")):
        module = f"{start}transformer_blocks.0.attn.{layer}"
        tensors[module + end_up] = UP[n * 64 : n * 64 + 64].clone()
        tensors[module + end_down] = DOWN.clone()
    return tensors


def loras(family: str) -> dict[str, dict[str, Tensor]]:
    name = NAMES[family]
    flat = "lora_unet_" + name.replace(".", "_")
    return {
        "kohya": {f"{flat}.lora_up.weight": UP, f"{flat}.lora_down.weight": DOWN},
        "bfl": {f"{name}.lora_B.weight": UP, f"{name}.lora_A.weight": DOWN},
        "comfy": {
            f"diffusion_model.{name}.lora_B.weight": UP,
            f"diffusion_model.{name}.lora_A.weight": DOWN,
        },
        "peft": thirds(".lora_B.weight", ".lora_A.weight"),
        "bare": thirds(".lora_up.weight", ".lora_down.weight", ""),
    }


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_a_lora_is_the_same_under_all_customary_names(family: str, ctx: Context):
    model, clip, _ = load_checkpoint(f"{family}.safetensors", ctx=ctx)
    prompt = clip_text_encode("a boat", clip, ctx=ctx)
    found: dict[str, Tensor] = {}
    for kind, tensors in loras(family).items():
        save_file(tensors, ctx.files.base / f"models/loras/{family}_{kind}.safetensors")
        changed = load_lora_model_only(model, f"{family}_{kind}.safetensors", 0.7, ctx=ctx)
        found[kind] = sampled(ctx, changed, prompt, prompt)
    assert not torch.allclose(found["kohya"], sampled(ctx, model, prompt, prompt), atol=1e-3)
    for other in found.values():
        torch.testing.assert_close(other, found["kohya"], rtol=0, atol=1e-5)


def test_a_lora_changes_exactly_the_weights_of_its_rows(ctx: Context):
    model, _, _ = load_checkpoint("flux.safetensors", ctx=ctx)
    name = "single_blocks.1.linear1"
    up = torch.randn(7 * 64, 4)
    tensors = {f"{name}.lora_B.weight": up, f"{name}.lora_A.weight": DOWN}
    save_file(tensors, ctx.files.base / "models/loras/rows.safetensors")
    changed = load_lora_model_only(model, "rows.safetensors", 1.0, ctx=ctx)
    prefix = "single_transformer_blocks.1"
    layers = {"attn.to_q": (0, 64), "attn.to_v": (128, 192), "proj_mlp": (192, 448)}
    call = (torch.randn(1, 16, 4, 4), torch.tensor([0.5]), torch.randn(1, 3, 32))
    with ctx.models.use(model) as plain, ctx.models.use(changed) as patched:
        for loaded in (plain, patched):
            loaded.predict(*call)
        for layer, (start, end) in layers.items():
            before, after = (
                m.model.get_submodule(f"{prefix}.{layer}").weight for m in (plain, patched)
            )
            torch.testing.assert_close(after - before, (up @ DOWN)[start:end], rtol=0, atol=1e-5)


def test_a_lora_for_text_encoders(ctx: Context):
    model, clip, _ = load_checkpoint("sd3.safetensors", ctx=ctx)
    up, down = torch.randn(32, 2), torch.randn(2, 32)
    t5 = "lora_te3_encoder_block_0_layer_0_SelfAttention_q"
    save_file(
        {f"{t5}.lora_up.weight": up, f"{t5}.lora_down.weight": down},
        ctx.files.base / "models/loras/text.safetensors",
    )
    _, changed = load_lora(model, clip, "text.safetensors", 1.0, 1.0, ctx=ctx)
    before, after = (clip_text_encode("a boat", c, ctx=ctx)[0][0] for c in (clip, changed))
    assert torch.equal(before[:, :77], after[:, :77])
    assert not torch.allclose(before[:, 77:], after[:, 77:])


def test_a_lora_of_another_family_names_both(ctx: Context):
    flux, _, _ = load_checkpoint("flux.safetensors", ctx=ctx)
    sd1, _, _ = load_checkpoint("sd1.safetensors", ctx=ctx)
    save_file(loras("sd3")["kohya"], ctx.files.base / "models/loras/of_sd3.safetensors")
    for model, title in ((flux, "Flux"), (sd1, "Stable Diffusion 1")):
        with pytest.raises(ModelError, match=rf"made for Stable Diffusion 3.*is {title}"):
            load_lora_model_only(model, "of_sd3.safetensors", 1.0, ctx=ctx)


def _alone(base: Path, family: str) -> dict[str, str]:
    """The text encoders of a checkpoint as files of their own, by tower."""
    names: dict[str, str] = {}
    with safe_open(base / f"models/checkpoints/{family}.safetensors", "pt") as whole:
        for tower in ("clip_l", "clip_g", "t5xxl"):
            start = f"text_encoders.{tower}.transformer."
            keys = [k for k in list(whole.keys()) if k.startswith(start)]
            tensors = {k.removeprefix(start): whole.get_tensor(k) for k in keys}
            if tensors:
                names[tower] = f"{family}_{tower}.safetensors"
                metadata = {**whole.metadata(), "weft.text.tower": tower.removeprefix("clip_")}
                save_file(tensors, base / "models/text_encoders" / names[tower], metadata)
    return names


def test_text_encoders_alone_are_those_of_the_checkpoint(base: Path, ctx: Context):
    for family in ("sd3", "flux"):
        names = _alone(base, family)
        _, whole, _ = load_checkpoint(f"{family}.safetensors", ctx=ctx)
        expected = clip_text_encode("a red boat", whole, ctx=ctx)[0]
        if family == "sd3":
            alone = load_clip_triple(names["t5xxl"], names["clip_l"], names["clip_g"], ctx=ctx)
        else:
            alone = load_clip_pair(names["t5xxl"], names["clip_l"], family, ctx=ctx)
        found = clip_text_encode("a red boat", alone, ctx=ctx)[0]
        torch.testing.assert_close(found[0], expected[0])
        torch.testing.assert_close(found[1]["pooled_output"], expected[1]["pooled_output"])
    names = _alone(base, "sd3")
    small = clip_text_encode("a red boat", load_clip(names["clip_l"], "sd3", ctx=ctx), ctx=ctx)
    assert small[0][0].isfinite().all()
    with pytest.raises(NotThisFamily, match="CLIP-G, but flux takes one each of l, t5xxl"):
        load_clip_pair(names["clip_g"], names["t5xxl"], "flux", ctx=ctx)
    with pytest.raises(NotThisFamily, match="as another file is"):
        load_clip_pair(names["clip_l"], names["clip_l"], "sd3", ctx=ctx)
