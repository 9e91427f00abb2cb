"""LoRAs made of others, against the closed forms: sums, and the nearest matrix of a rank."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin as Loader
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.api.errors import ModelError, NodeError
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.lora import add_lora, open_lora
from engine.diffusion.lora_tools import LowRank, merged, resized
from nodes import lora_tools as nodes
from nodes.loaders import load_lora
from tests.nodes.context import Context, context
from tests.tiny_checkpoint import Keys, fill, write_tiny_checkpoint, write_tiny_lora
from tests.tiny_families import write_family

UNET = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
TEXT = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


def change(rank: int, seed: int, kernel: tuple[int, ...] = ()) -> LowRank:
    torch.manual_seed(seed)
    return LowRank(up=torch.randn(10, rank), down=torch.randn(rank, 6, *kernel))


def matrix(change: LowRank) -> Tensor:
    return change.up @ change.down.flatten(1)


@pytest.mark.parametrize("kernel", [(), (3, 3)])
@pytest.mark.parametrize("rank", [1, 2, 5])
def test_a_smaller_rank_is_the_nearest_one(rank: int, kernel: tuple[int, ...]) -> None:
    """Eckart and Young: what is lost is the root of the smaller singular values' squares."""
    whole = change(5, seed=1, kernel=kernel)
    small, kept = resized(whole, rank)
    assert small.rank == rank
    assert small.down.shape[1:] == whole.down.shape[1:]
    power = torch.linalg.svdvals(matrix(whole)).square()
    lost = (matrix(whole) - matrix(small)).square().sum()
    torch.testing.assert_close(lost, power[rank:].sum(), atol=1e-4, rtol=1e-4)
    assert kept == pytest.approx(float(power[:rank].sum() / power.sum()), abs=1e-6)


def test_a_share_takes_as_few_ranks_as_keep_it() -> None:
    up, down = torch.eye(4), torch.diag(torch.tensor([4.0, 2.0, 1.0, 0.0]))
    whole = LowRank(up=up, down=down)  # squares 16, 4, 1, 0: shares 0.762, 0.952, 1
    for share, rank in ((0.7, 1), (0.8, 2), (0.96, 3), (1.0, 3)):
        assert resized(whole, 4, share)[0].rank == rank


def test_a_merge_is_the_sum() -> None:
    one, two, other = change(2, 1), change(3, 2), change(1, 3)
    made = merged([({"a": one}, 0.5), ({"a": two, "b": other}, -2.0)])
    torch.testing.assert_close(matrix(made["a"]), 0.5 * matrix(one) - 2 * matrix(two))
    torch.testing.assert_close(matrix(made["b"]), -2 * matrix(other))
    assert made["a"].rank == 5
    with pytest.raises(NodeError, match="another size"):
        merged([({"a": one}, 1.0), ({"a": change(2, 1, kernel=(3, 3))}, 1.0)])


# As nodes -----------------------------------------------------------------------------------------


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    folder = tmp_path / "models" / "loras"
    folder.mkdir(parents=True)
    for seed, name in enumerate(("one", "two")):
        write_tiny_lora(folder / f"{name}.safetensors", seed)
    return context(tmp_path)


def loras(ctx: Context) -> Path:
    return ctx.files.base / "models" / "loras"


def deltas(path: Path) -> dict[str, Tensor]:
    tensors: Mapping[str, Tensor] = {k: v.float() for k, v in load_file(path).items()}
    return {
        m: tensors[f"{m}.lora_up.weight"]
        @ tensors[f"{m}.lora_down.weight"]
        * (tensors[f"{m}.alpha"] / len(tensors[f"{m}.lora_down.weight"]))
        for m in (UNET, TEXT)
    }


def made(output: Any) -> str:
    (name,) = output.result
    return name


def merge(ctx: Context, rank: int = 0, **more: Any) -> Any:
    given = {"strength_3": 0.0, "lora_3": "one.safetensors", "strength_4": 0.0} | more
    return nodes.merge_loras(
        lora_1="one.safetensors", strength_1=0.75, lora_2="two.safetensors", strength_2=-0.5,
        lora_4="two.safetensors", name="both", rank=rank, ctx=ctx, **given,
    )  # fmt: skip


def test_merged_and_resized_files_hold_the_sum(ctx: Context) -> None:
    one, two = (deltas(loras(ctx) / f"{name}.safetensors") for name in ("one", "two"))
    whole = deltas(loras(ctx) / made(merge(ctx)))
    for module in (UNET, TEXT):
        expected = 0.75 * one[module] - 0.5 * two[module]
        torch.testing.assert_close(whole[module], expected, atol=2e-3, rtol=2e-3)  # fp16 file
    assert made(merge(ctx)) == "both.safetensors"  # not made twice
    assert made(merge(ctx, rank=3)) == "both-2.safetensors"
    name = nodes.resize_lora("both.safetensors", "small", 1, 1.0, ctx=ctx)
    small = deltas(loras(ctx) / made(name))
    for module in (UNET, TEXT):
        left = torch.linalg.svdvals(whole[module])[1:].square().sum().sqrt()
        assert float((small[module] - whole[module]).norm()) == pytest.approx(float(left), abs=5e-3)


def test_a_converted_file_does_the_same_here_and_in_diffusers(ctx: Context, tmp_path: Path) -> None:
    parts = open_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors"), "tiny", "tiny")
    assert parts.clip is not None
    given = (parts.model, parts.clip)
    there = nodes.convert_lora(*given, "one.safetensors", "there", "diffusers", ctx)
    keys = set(load_file(loras(ctx) / made(there)))
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    assert f"unet.{layer}.lora_A.weight" in keys
    tensors, alphas, *_ = Loader.lora_state_dict(str(loras(ctx) / made(there)))
    assert set(tensors) == keys
    unet = ctx.models.own_copy(parts.model).unet
    x, t, words = torch.ones(1, 4, 8, 8), torch.tensor([300]), torch.ones(1, 77, 16)
    Loader.load_lora_into_unet(tensors, alphas, unet)
    patched, _ = load_lora(parts.model, parts.clip, "one.safetensors", 1.0, 1.0, ctx)
    with torch.no_grad(), ctx.models.use(patched) as ours:
        theirs = unet(x, t, encoder_hidden_states=words, return_dict=False)[0]
        mine = ours.unet(x, t, encoder_hidden_states=words, return_dict=False)[0]
    torch.testing.assert_close(theirs, mine, atol=2e-3, rtol=2e-3)

    back = nodes.convert_lora(*given, made(there), "back", "kohya", ctx)
    first, last = (deltas(loras(ctx) / name) for name in ("one.safetensors", made(back)))
    for module in (UNET, TEXT):
        torch.testing.assert_close(last[module], first[module], atol=1e-3, rtol=2e-3)


def test_a_lora_extracted_from_two_checkpoints_turns_one_into_the_other(
    ctx: Context, tmp_path: Path
) -> None:
    base = open_checkpoint(write_tiny_checkpoint(tmp_path / "a.safetensors"), "a", "a")
    tuned = open_checkpoint(write_tiny_checkpoint(tmp_path / "b.safetensors", seed=1), "b", "b")
    clips = {"trained_clip": tuned.clip, "original_clip": base.clip}
    output = nodes.extract_lora(tuned.model, base.model, "difference", 4096, ctx, **clips)
    path = loras(ctx) / made(output)
    whole = add_lora(base.model, open_lora(path, "made", "made"), 1.0)
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    with ctx.models.use(whole) as ours, ctx.models.use(tuned.model) as theirs:
        mine, wanted = (m.unet.get_submodule(layer).weight for m in (ours, theirs))
        torch.testing.assert_close(mine.float(), wanted.float(), atol=4e-3, rtol=1e-2)
    assert any(key.startswith("lora_te_") for key in load_file(path))
    with pytest.raises(NodeError, match="no difference to extract"):
        nodes.extract_lora(base.model, base.model, "nothing", 4, ctx)
    with pytest.raises(NodeError, match="Only one of"):
        nodes.extract_lora(tuned.model, base.model, "x", 4, ctx, trained_clip=tuned.clip)


def test_files_that_do_not_go_together_are_refused(ctx: Context, tmp_path: Path) -> None:
    parts = open_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors"), "tiny", "tiny")
    sdxl = open_checkpoint(write_family(tmp_path / "xl.safetensors", "sdxl"), "xl", "xl")
    assert parts.clip is not None and sdxl.clip is not None
    nodes.convert_lora(parts.model, parts.clip, "two.safetensors", "other", "diffusers", ctx)
    with pytest.raises(NodeError, match="kohya's way and diffusers' way"):
        merge(ctx, lora_3="other.safetensors", strength_3=1.0)
    with pytest.raises(ModelError, match="are not in this model"):
        nodes.convert_lora(sdxl.model, sdxl.clip, "one.safetensors", "x", "diffusers", ctx)
    keys = Keys()
    keys.weight(f"{UNET}.lora_down.weight", 2, 32)
    keys.weight(f"{UNET}.lora_up.weight", 32, 2)
    keys.weight(f"{UNET}.dora_scale", 1, 32)
    save_file(fill(keys, 1), loras(ctx) / "dora.safetensors")
    with pytest.raises(ModelError, match="DoRA or GLoRA"):
        nodes.resize_lora("dora.safetensors", "x", 1, 1.0, ctx)
