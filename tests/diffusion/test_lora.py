"""LoRAs of all kinds and names against textbook formulas; misfits are named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.api.errors import ModelError
from engine.api.recipe import Recipe
from engine.diffusion.checkpoint import CheckpointParts, open_checkpoint
from engine.diffusion.lora import add_lora, open_lora
from engine.diffusion.patches import added, merged, merged_blocks, subtracted
from engine.diffusion.residency import ModelPool
from tests.tiny_checkpoint import write_tiny_checkpoint

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
KOHYA = "lora_unet_" + LAYER.replace(".", "_")
LDM = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
OUT = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"
KOHYA_CONV = "lora_unet_" + CONV.replace(".", "_")
STRENGTH = 0.7


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> CheckpointParts:
    path = write_tiny_checkpoint(tmp_path_factory.mktemp("lora") / "tiny.safetensors")
    return open_checkpoint(path, "tiny", "tiny")


@pytest.fixture(scope="module")
def pool() -> ModelPool:
    return ModelPool()


def weights(pool: ModelPool, recipe: Recipe) -> dict[str, Tensor]:
    """All weights of a recipe's denoiser or text, as the network uses them."""
    with pool.use(recipe) as loaded:
        if recipe.part == "denoiser":
            loaded.predict(torch.zeros(1, 4, 8, 8), torch.zeros(1), torch.zeros(1, 1, 16))
            return dict(loaded.unet.state_dict())
        model = loaded.towers["l"].model
        model(model.look_up(torch.zeros(1, 77, dtype=torch.long)), -1)
        return dict(model.state_dict())


def with_lora(
    recipe: Recipe, tensors: dict[str, Tensor], path: Path, strength: float = STRENGTH, **more: Any
) -> Recipe:
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, path)
    file = open_lora(path, str(path), path.name)
    return add_lora(recipe, file, strength, **more)


def r(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


DOWN, UP = r(2, 32), r(32, 2)
A1, B1, A2, B2 = r(32, 3), r(3, 32), r(32, 4), r(4, 32)
PLAIN = UP @ DOWN

# name -> (tensors, what the weight of LAYER gains at strength 1)
LINEAR: dict[str, tuple[dict[str, Tensor], Tensor]] = {
    "kohya": (
        {".lora_down.weight": DOWN, ".lora_up.weight": UP, ".alpha": torch.tensor(1.0)},
        PLAIN / 2,
    ),
    "no_alpha": ({".lora_down.weight": DOWN, ".lora_up.weight": UP}, PLAIN),
    "loha": (
        {".hada_w1_a": A1, ".hada_w1_b": B1, ".hada_w2_a": A2[:, :3], ".hada_w2_b": B2[:3]},
        (A1 @ B1) * (A2[:, :3] @ B2[:3]),
    ),
    "lokr": (
        {".lokr_w1": r(4, 4), ".lokr_w2": r(8, 8)},
        torch.kron(r(4, 4), r(8, 8)),
    ),
    "lokr_low_rank": (
        {
            ".lokr_w1_a": r(4, 2),
            ".lokr_w1_b": r(2, 4),
            ".lokr_w2_a": r(8, 2),
            ".lokr_w2_b": r(2, 8),
            ".alpha": torch.tensor(4.0),
        },
        torch.kron(r(4, 2) @ r(2, 4), r(8, 2) @ r(2, 8)) * 2,
    ),
    "diff": ({".diff": r(32, 32)}, r(32, 32)),
}


@pytest.mark.parametrize("kind", LINEAR)
def test_linear_kinds_are_their_textbook_formula(
    kind: str, parts: CheckpointParts, pool: ModelPool, tmp_path: Path
):
    tensors, gain = LINEAR[kind]
    recipe = with_lora(
        parts.model, {KOHYA + end: t for end, t in tensors.items()}, tmp_path / "l.safetensors"
    )
    before, after = weights(pool, parts.model), weights(pool, recipe)
    wanted = before[f"{LAYER}.weight"] + STRENGTH * gain
    torch.testing.assert_close(after[f"{LAYER}.weight"], wanted, atol=1e-5, rtol=1e-5)
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {f"{LAYER}.weight"}


MODULES: dict[str, str] = {
    f"{KOHYA}.lora_%s.weight": "down up",
    f"lora_unet_{LDM.replace('.', '_')}.lora_%s.weight": "down up",
    f"diffusion_model.{LDM}.lora_%s.weight": "A B",
    f"unet.{LAYER}.lora_%s.weight": "A B",
    f"base_model.model.{LAYER}.lora_%s.weight": "A B",
    f"unet.{LAYER.removesuffix('.to_q')}.processor.to_q_lora.%s.weight": "down up",
}


@pytest.mark.parametrize("pattern", MODULES)
def test_all_customary_names_are_known(
    pattern: str, parts: CheckpointParts, pool: ModelPool, tmp_path: Path
):
    down, up = MODULES[pattern].split()
    tensors = {pattern % down: DOWN, pattern % up: UP}
    after = weights(pool, with_lora(parts.model, tensors, tmp_path / "l.safetensors"))
    wanted = weights(pool, parts.model)[f"{LAYER}.weight"] + STRENGTH * PLAIN
    torch.testing.assert_close(after[f"{LAYER}.weight"], wanted)


def test_old_diffusers_output_projection(parts: CheckpointParts, pool: ModelPool, tmp_path: Path):
    module = "unet." + OUT.removesuffix(".to_out.0") + ".processor.to_out_lora"
    tensors = {f"{module}.down.weight": DOWN, f"{module}.up.weight": UP}
    after = weights(pool, with_lora(parts.model, tensors, tmp_path / "l.safetensors"))
    wanted = weights(pool, parts.model)[f"{OUT}.weight"] + STRENGTH * PLAIN
    torch.testing.assert_close(after[f"{OUT}.weight"], wanted)


def test_convolutions(parts: CheckpointParts, pool: ModelPool, tmp_path: Path):
    before = weights(pool, parts.model)[f"{CONV}.weight"]
    down, mid, up = r(2, 32, 1, 1), r(2, 2, 3, 3), r(32, 2, 1, 1)
    locon = {".lora_down.weight": r(2, 32, 3, 3), ".lora_up.weight": up}
    tucker = {".lora_down.weight": down, ".lora_mid.weight": mid, ".lora_up.weight": up}
    plain = torch.einsum("or,rikl->oikl", up[:, :, 0, 0], r(2, 32, 3, 3))
    middle = torch.einsum("or,rskl,si->oikl", up[:, :, 0, 0], mid, down[:, :, 0, 0])
    for number, (tensors, gain) in enumerate(((locon, plain), (tucker, middle))):
        named = {KOHYA_CONV + end: t for end, t in tensors.items()}
        recipe = with_lora(parts.model, named, tmp_path / f"{number}.safetensors")
        after = weights(pool, recipe)[f"{CONV}.weight"]
        torch.testing.assert_close(after, before + STRENGTH * gain, atol=1e-5, rtol=1e-5)


def test_difference_of_a_bias(parts: CheckpointParts, pool: ModelPool, tmp_path: Path):
    recipe = with_lora(parts.model, {f"{KOHYA_CONV}.diff_b": r(32)}, tmp_path / "l.safetensors")
    before, after = weights(pool, parts.model), weights(pool, recipe)
    torch.testing.assert_close(after[f"{CONV}.bias"], before[f"{CONV}.bias"] + STRENGTH * r(32))
    assert torch.equal(after[f"{CONV}.weight"], before[f"{CONV}.weight"])


def test_dora_sets_the_magnitude_of_each_input_channel(
    parts: CheckpointParts, pool: ModelPool, tmp_path: Path
):
    tensors = {".lora_down.weight": DOWN, ".lora_up.weight": UP, ".dora_scale": r(1, 32).abs()}
    named = {KOHYA + end: t for end, t in tensors.items()}
    recipe = with_lora(parts.model, named, tmp_path / "l.safetensors", strength=1.0)
    after = weights(pool, recipe)[f"{LAYER}.weight"]
    torch.testing.assert_close(after.norm(dim=0), r(1, 32).abs()[0], atol=1e-5, rtol=1e-5)


def test_text_is_patched_in_the_files_own_type(
    parts: CheckpointParts, pool: ModelPool, tmp_path: Path
):
    layer = "encoder.layers.0.self_attn.q_proj"
    module = "lora_te_text_model_" + layer.replace(".", "_")
    down, up = r(2, 16), r(16, 2)
    tensors = {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up}
    assert parts.clip is not None
    path = tmp_path / "l.safetensors"
    after = weights(pool, with_lora(parts.clip, tensors, path))[f"{layer}.weight"]
    before = weights(pool, parts.clip)[f"{layer}.weight"]
    assert torch.equal(after, (before.float() + STRENGTH * (up @ down)).half())
    assert add_lora(parts.model, open_lora(path, "l", "l"), 1.0) is parts.model


def test_stack_adds_up_and_zero_strength_changes_nothing(
    parts: CheckpointParts, pool: ModelPool, tmp_path: Path
):
    tensors = {f"{KOHYA}.lora_down.weight": DOWN, f"{KOHYA}.lora_up.weight": UP}
    assert with_lora(parts.model, tensors, tmp_path / "a.safetensors", 0.0) is parts.model
    once = with_lora(parts.model, tensors, tmp_path / "a.safetensors", 0.5)
    twice = with_lora(once, tensors, tmp_path / "b.safetensors", -0.5)
    after, before = weights(pool, twice), weights(pool, parts.model)
    torch.testing.assert_close(after[f"{LAYER}.weight"], before[f"{LAYER}.weight"])


def test_lora_of_another_family_is_an_error_that_names_both(parts: CheckpointParts, tmp_path: Path):
    module = KOHYA.replace("attn1_to_q", "attn2_to_k")
    tensors = {
        f"{module}.lora_down.weight": r(2, 2048),
        f"{module}.lora_up.weight": UP,
        f"{KOHYA}.lora_down.weight": DOWN,
        f"{KOHYA}.lora_up.weight": UP,
    }
    with pytest.raises(ModelError, match=r"SDXL.*Stable Diffusion 1\.x.*1 fit \(50%\)"):
        with_lora(parts.model, tensors, tmp_path / "l.safetensors")


def test_single_misfits_are_left_out_and_told(
    parts: CheckpointParts, pool: ModelPool, tmp_path: Path
):
    lines: list[str] = []
    tensors = {
        f"{KOHYA}.lora_down.weight": DOWN,
        f"{KOHYA}.lora_up.weight": UP,
        f"{KOHYA_CONV}.lora_down.weight": r(2, 99),
        f"{KOHYA_CONV}.lora_up.weight": UP,
        "lora_unet_unknown.lora_down.weight": DOWN,
        "lora_unet_unknown.lora_up.weight": UP,
    }
    recipe = with_lora(parts.model, tensors, tmp_path / "l.safetensors", log=lines.append)
    assert "2 of 3" in lines[0]
    before, after = weights(pool, parts.model), weights(pool, recipe)
    assert torch.equal(before[f"{CONV}.weight"], after[f"{CONV}.weight"])


def test_file_without_lora_is_an_error(tmp_path: Path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="holds no LoRA"):
        open_lora(tmp_path / "x.safetensors", "x", "x")


# Merges -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> CheckpointParts:
    path = write_tiny_checkpoint(tmp_path_factory.mktemp("merge") / "b.safetensors", seed=5)
    return open_checkpoint(path, "other", "other")


def test_merges_are_weighted_sums(parts: CheckpointParts, other: CheckpointParts, pool: ModelPool):
    a, b = weights(pool, parts.model), weights(pool, other.model)
    cases = (
        (merged(parts.model, other.model, 0.25), 0.25, 0.75),
        (added(parts.model, other.model), 1.0, 1.0),
        (subtracted(parts.model, other.model, 0.5), 0.5, -0.5),
    )
    for recipe, own, share in cases:
        for name, weight in weights(pool, recipe).items():
            torch.testing.assert_close(weight, a[name] * own + b[name] * share)


def test_merge_by_blocks(parts: CheckpointParts, other: CheckpointParts, pool: ModelPool):
    ratios = {"input": 1.0, "middle": 0.0, "out": 0.5}
    found = weights(pool, merged_blocks(parts.model, other.model, ratios))
    a, b = weights(pool, parts.model), weights(pool, other.model)
    for name, own in (("conv_in", 1.0), ("mid_block.resnets.0.conv1", 0.0), ("conv_out", 0.5)):
        key = f"{name}.weight"
        torch.testing.assert_close(found[key], a[key] * own + b[key] * (1 - own))
    torch.testing.assert_close(
        found["time_embedding.linear_1.weight"], a["time_embedding.linear_1.weight"]
    )


def test_merge_of_unlike_parts_is_an_error(parts: CheckpointParts):
    assert parts.clip is not None
    with pytest.raises(ModelError, match="merged"):
        merged(parts.model, parts.clip, 0.5)
