"""The model pool: lazy casts, shared base weights, exact restore, a byte budget."""

import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.api.errors import CorruptFile, ModelError, OutOfMemory
from engine.api.recipe import Recipe, WeightPatch
from engine.diffusion.checkpoint import CheckpointParts, open_checkpoint
from engine.diffusion.lora import add_lora, open_lora
from engine.diffusion.network import LoadedDenoiser
from engine.diffusion.part_weights import BaseWeights
from engine.diffusion.residency import ModelPool
from tests.tiny_checkpoint import (
    TINY_METADATA,
    Keys,
    fill,
    unet_keys,
    write_tiny_checkpoint,
    write_tiny_lora,
)

X = torch.randn(1, 4, 8, 8)
TIME = torch.tensor([500.0])
CONTEXT = torch.randn(1, 77, 16)
TOUCHED = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    write_tiny_checkpoint(folder / "one.safetensors", seed=1)
    write_tiny_checkpoint(folder / "two.safetensors", seed=2)
    write_tiny_lora(folder / "lora.safetensors")
    return folder


@pytest.fixture
def one(folder: Path) -> CheckpointParts:
    return open_checkpoint(folder / "one.safetensors", "one", "one")


@pytest.fixture
def two(folder: Path) -> CheckpointParts:
    return open_checkpoint(folder / "two.safetensors", "two", "two")


def patched(recipe: Recipe, folder: Path, strength: float) -> Recipe:
    return add_lora(recipe, open_lora(folder / "lora.safetensors", "lora", "lora"), strength)


def predict(pool: ModelPool, recipe: Recipe) -> Tensor:
    with pool.use(recipe) as denoiser:
        assert isinstance(denoiser, LoadedDenoiser)
        return denoiser.predict(X, TIME, CONTEXT)


def test_weights_are_read_when_a_layer_first_runs(one: CheckpointParts):
    pool = ModelPool()
    with pool.use(one.model) as denoiser:
        assert all(p.is_meta for p in denoiser.unet.parameters())
        denoiser.predict(X, TIME, CONTEXT)
        parameters = list(denoiser.unet.parameters())
        assert all(p.dtype == torch.float32 and not p.is_meta for p in parameters)
        assert not any(p.requires_grad for p in parameters)
        assert not any(m._forward_pre_hooks for m in denoiser.unet.modules())


def test_the_same_recipe_is_loaded_once(one: CheckpointParts):
    pool = ModelPool()
    with pool.use(one.model) as first, pool.use(one.model.with_option("prediction", "v")) as second:
        assert first.unet is second.unet
        assert (first.parameterization_name, second.parameterization_name) == ("eps", "v")
    assert len(pool.loaded()) == 1


def test_patched_recipe_shares_all_other_weights(one: CheckpointParts, folder: Path):
    pool = ModelPool()
    recipe = patched(one.model, folder, 0.8)
    with pool.use(one.model) as base, pool.use(recipe) as changed:
        base.predict(X, TIME, CONTEXT)
        changed.predict(X, TIME, CONTEXT)
        ours = dict(changed.unet.named_parameters())
        for name, parameter in base.unet.named_parameters():
            is_shared = ours[name].data_ptr() == parameter.data_ptr()
            assert is_shared == (name != f"{TOUCHED}.weight"), name


def test_dropping_a_patch_restores_exactly(one: CheckpointParts, folder: Path):
    pool = ModelPool()
    before = predict(pool, one.model)
    changed = predict(pool, patched(one.model, folder, 1.0))
    assert not torch.equal(before, changed)
    assert torch.equal(predict(pool, one.model), before)
    assert torch.equal(predict(pool, patched(one.model, folder, 1.0)), changed)
    pool.free()
    assert torch.equal(predict(pool, one.model), before)


def test_another_strength_reads_no_base_weight_again(
    one: CheckpointParts, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    pool = ModelPool()
    predict(pool, patched(one.model, folder, 0.5))
    read: list[str] = []
    raw = BaseWeights.raw
    monkeypatch.setattr(
        BaseWeights, "raw", lambda self, name: (read.append(name), raw(self, name))[1]
    )
    predict(pool, patched(one.model, folder, 0.6))
    assert read == [f"{TOUCHED}.weight"]


def test_least_recently_used_part_goes_first(one: CheckpointParts, two: CheckpointParts):
    pool = ModelPool()
    predict(pool, one.model)
    size = pool.loaded()[0].size_bytes
    pool.budget_bytes = int(size * 2.5)
    predict(pool, two.model)
    assert one.vae is not None
    predict(pool, one.model)
    pool.budget_bytes = int(size * 1.5)
    with pool.use(one.vae):
        pass
    assert [(s.name, s.part) for s in pool.loaded()] == [("one", "denoiser"), ("one", "vae")]


def test_what_patched_parts_share_counts_once(one: CheckpointParts, folder: Path):
    pool = ModelPool()
    predict(pool, one.model)
    pool.budget_bytes = int(pool.loaded()[0].size_bytes * 1.1)
    for strength in (0.2, 0.4, 0.6):
        predict(pool, patched(one.model, folder, strength))
    assert len(pool.loaded()) == 4


def test_a_part_in_use_is_never_dropped(one: CheckpointParts, two: CheckpointParts):
    pool = ModelPool(budget_bytes=1)
    with pool.use(one.model) as denoiser:
        predict(pool, two.model)
        pool.free()
        assert [s.name for s in pool.loaded()] == ["one"]
        denoiser.predict(X, TIME, CONTEXT)
    pool.free()
    assert pool.loaded() == ()


def test_freed_memory_is_given_back_at_once(one: CheckpointParts):
    pool = ModelPool()
    with pool.use(one.model) as denoiser:
        denoiser.predict(X, TIME, CONTEXT)
        weight = weakref.ref(next(denoiser.unet.parameters()))
    del denoiser
    pool.free()
    assert weight() is None


def test_text_stays_as_the_file_holds_it(one: CheckpointParts):
    pool = ModelPool()
    assert one.clip is not None
    with pool.use(one.clip):
        (status,) = pool.loaded()
        assert status.size_bytes == 0
        assert status.mapped_bytes > 1_000_000


def test_weights_that_are_not_read_yet_leave_less_room_for_a_batch(one: CheckpointParts):
    free = 40_000_000
    pool = ModelPool(free_bytes=lambda: free)
    with pool.use(one.model) as denoiser:
        before = denoiser.most_cells
        denoiser.predict(X, TIME, CONTEXT)
        weights = sum(p.numel() for p in denoiser.unet.parameters())
        each = 50 * denoiser.layout.width
        assert denoiser.most_cells == free // 4 // each
        assert before == (free // 4 - weights) // each
    with ModelPool().use(one.model) as denoiser:
        assert denoiser.most_cells is None


def test_precision_is_the_users(one: CheckpointParts):
    pool = ModelPool(precision="bf16")
    with pool.use(one.model) as denoiser:
        assert denoiser.dtype == torch.bfloat16
        assert denoiser.predict(X, TIME, CONTEXT).dtype == torch.float32


def test_ckpt_is_sampled_like_any_other_file(tmp_path: Path):
    keys = Keys()  # 32 groups and 8 heads: a pickled file has no metadata that says otherwise
    unet_keys(keys, width=32, mult=(1, 1))
    tensors = fill(keys)
    torch.save({"state_dict": tensors, "global_step": 3}, tmp_path / "a.ckpt")
    save_file(tensors, tmp_path / "a.safetensors")
    found = [
        predict(ModelPool(), open_checkpoint(tmp_path / name, name, name).model)
        for name in ("a.ckpt", "a.safetensors")
    ]
    assert torch.equal(*found)


def test_incomplete_checkpoint_names_what_is_missing(folder: Path, tmp_path: Path):
    tensors = load_file(folder / "one.safetensors")
    del tensors["model.diffusion_model.out.2.weight"]
    save_file(tensors, tmp_path / "less.safetensors", metadata=TINY_METADATA)
    parts = open_checkpoint(tmp_path / "less.safetensors", "less", "less")
    with pytest.raises(CorruptFile, match=r"conv_out\.weight"), ModelPool().use(parts.model):
        pass


def test_unknown_part_and_patch_are_errors(one: CheckpointParts):
    with (
        pytest.raises(ModelError, match="mystery"),
        ModelPool().use(replace(one.model, part="mystery")),
    ):
        pass
    recipe = one.model.with_patch(WeightPatch(kind="mystery"))
    with pytest.raises(ModelError, match="mystery"), ModelPool().use(recipe):
        pass


def test_lack_of_memory_is_named_and_frees_the_rest(one: CheckpointParts, two: CheckpointParts):
    pool = ModelPool()
    predict(pool, two.model)
    with pytest.raises(OutOfMemory, match="one"), pool.use(one.model):
        torch.empty(2**60)
    assert [s.name for s in pool.loaded()] == ["one"]
    with pytest.raises(RuntimeError, match="other"), pool.use(one.model):
        raise RuntimeError("other")


def test_large_loads_are_announced(one: CheckpointParts, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.diffusion.residency.LARGE_BYTES", 1000)
    lines: list[str] = []
    predict(ModelPool(announce=lines.append), one.model)
    assert lines == ["Loading one (denoiser, 0.0 GB)"]
