"""Weights that are kept smaller than they are computed with: fp8, scaled fp8, GGUF, streaming."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.api.errors import CorruptFile, ModelError
from engine.api.recipe import Recipe
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.lora import add_lora, open_lora
from engine.diffusion.residency import ModelPool
from engine.diffusion.weightfile import open_weights
from tests.tiny_checkpoint import (
    Keys,
    fill,
    write_tiny_checkpoint,
    write_tiny_lora,
)
from tests.tiny_transformer import METADATA, flux_keys

pytestmark = pytest.mark.slow

X, CONTEXT = torch.randn(1, 16, 4, 4), torch.randn(1, 3, 32)
TIME = torch.tensor([0.5])


def flux_tensors() -> dict[str, Tensor]:
    keys = Keys()
    flux_keys(keys, "", has_guidance=False)
    return fill(keys, dtype=torch.float32)


def write(path: Path, tensors: dict[str, Tensor]) -> Recipe:
    save_file(tensors, path, metadata=METADATA)
    return recipe(path)


def recipe(path: Path) -> Recipe:
    return open_checkpoint(path, str(path), path.name).model


def predict(model: Recipe, pool: ModelPool | None = None) -> Tensor:
    with (pool or ModelPool()).use(model) as loaded:
        return loaded.predict(X, TIME, CONTEXT)


def same(found: Tensor, wanted: Tensor) -> None:
    """Equal but for the order in which products are added, which depends on where weights lie."""
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)


def is_matrix(key: str, tensor: Tensor) -> bool:
    return key.endswith(".weight") and tensor.ndim == 2


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_an_fp8_file_computes_with_its_rounded_weights(dtype: torch.dtype, tmp_path: Path):
    tensors = flux_tensors()
    small = {k: t.to(dtype) if is_matrix(k, t) else t for k, t in tensors.items()}
    rounded = {k: t.float() for k, t in small.items()}
    found = predict(write(tmp_path / "fp8.safetensors", small))
    same(found, predict(write(tmp_path / "fp32.safetensors", rounded)))


@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
def test_scaled_fp8_weights_are_multiplied_by_their_scale(name: str, tmp_path: Path):
    tensors, small = flux_tensors(), {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}
    wanted: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        wanted[key] = small[key] = tensor
        if is_matrix(key, tensor):
            scale = tensor.abs().max() / 448
            small[key] = (tensor / scale).to(torch.float8_e4m3fn)
            small[key.removesuffix("weight") + name] = scale
            wanted[key] = small[key].float() * scale
    found = predict(write(tmp_path / "scaled.safetensors", small))
    same(found, predict(write(tmp_path / "fp32.safetensors", wanted)))


def test_fp8_storage_takes_a_quarter_and_rounds(tmp_path: Path):
    tensors = flux_tensors()
    model = write(tmp_path / "a.safetensors", {k: t.half() for k, t in tensors.items()})
    stored = model.with_option("storage", "fp8_e4m3fn")
    plain, small = ModelPool(), ModelPool()
    predict(model, plain)
    found = predict(stored, small)
    assert small.loaded()[0].size_bytes < 0.28 * plain.loaded()[0].size_bytes
    rounded = {
        k: t.half().to(torch.float8_e4m3fn).float() if is_matrix(k, t) else t.half().float()
        for k, t in tensors.items()
    }
    same(found, predict(write(tmp_path / "b.safetensors", rounded)))
    same(found, predict(stored, small))
    assert not torch.allclose(found, predict(model, small), atol=1e-3)


# GGUF ---------------------------------------------------------------------------------------------


def write_gguf(path: Path, kind: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Writes matrices in blocks of a kind; gives back what they unpack to."""
    writer = gguf.GGUFWriter(str(path), "flux")
    writer.add_string("weft.native_size", "64")
    wanted: dict[str, Tensor] = {}
    wanted_kind = gguf.GGMLQuantizationType[kind]
    block, _ = gguf.GGML_QUANT_SIZES[wanted_kind]
    for key, tensor in tensors.items():
        if is_matrix(key, tensor) and tensor.shape[1] % block == 0:
            packed = _packed(tensor.numpy(), wanted_kind)
            writer.add_tensor(key, packed, raw_dtype=wanted_kind)
            values = gguf.quants.dequantize(packed, wanted_kind)
            wanted[key] = torch.from_numpy(values).reshape(tensor.shape).clone()
        else:
            writer.add_tensor(key, tensor.numpy())
            wanted[key] = tensor
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return wanted


def _packed(values: Any, kind: Any) -> Any:
    """Blocks of the kind; K-quants, which the package only unpacks, from small random bytes."""
    try:
        return gguf.quants.quantize(values, kind)
    except NotImplementedError:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows = np.random.default_rng(values.size).integers(
            0, 30, (values.shape[0], values.shape[1] // block, size), dtype=np.uint8
        )
        rows[..., -2:] = (0, 20)  # a small half-precision scale, where the kind has it at the end
        rows[..., :4] = (0, 20, 0, 20)  # and where it has it at the start
        return rows.reshape(values.shape[0], -1)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_1", "Q4_K", "Q6_K", "BF16", "F16"])
def test_a_gguf_file_computes_with_what_it_unpacks_to(kind: str, tmp_path: Path):
    wanted = write_gguf(tmp_path / "flux.gguf", kind, flux_tensors())
    found = predict(recipe(tmp_path / "flux.gguf"))
    assert bool(found.isfinite().all())
    other = predict(write(tmp_path / "fp32.safetensors", wanted))
    torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-4)


def test_a_gguf_model_takes_loras(tmp_path: Path):
    wanted = write_gguf(tmp_path / "flux.gguf", "Q8_0", flux_tensors())
    name = "double_blocks.0.img_attn.qkv"
    lora = {
        f"{name}.lora_B.weight": torch.randn(192, 2),
        f"{name}.lora_A.weight": torch.randn(2, 64),
    }
    save_file(lora, tmp_path / "lora.safetensors")
    file = open_lora(tmp_path / "lora.safetensors", "l", "l")
    plain = write(tmp_path / "fp32.safetensors", wanted)
    found, other = (
        predict(add_lora(m, file, 0.5)) for m in (recipe(tmp_path / "flux.gguf"), plain)
    )
    torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, predict(plain), atol=1e-3)


def test_a_damaged_gguf_file_is_named(tmp_path: Path):
    write_gguf(tmp_path / "flux.gguf", "Q8_0", flux_tensors())
    data = (tmp_path / "flux.gguf").read_bytes()
    for size in (10, 200, len(data) // 2):
        (tmp_path / "cut.gguf").write_bytes(data[:size])
        with pytest.raises(CorruptFile, match=r"cut\.gguf"):
            open_weights(tmp_path / "cut.gguf")


def test_without_the_package_the_error_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_gguf(tmp_path / "flux.gguf", "Q8_0", flux_tensors())
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError) as caught:
        open_weights(tmp_path / "flux.gguf")
    assert "pip install gguf" in str(caught.value.hint)


# Streaming ----------------------------------------------------------------------------------------


def live_bytes(module: nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters() if not p.is_meta)


def watched(pool: ModelPool, model: Recipe, run: Callable[[Any], Tensor]) -> tuple[Tensor, int]:
    """What a run gives, and the most bytes of weights that any of its layers saw."""
    most = 0
    with pool.use(model) as loaded:
        module: nn.Module = getattr(loaded, "unet", None) or loaded.model

        def look(*_: Any) -> None:
            nonlocal most
            most = max(most, live_bytes(module))

        for layer in module.modules():
            layer.register_forward_hook(look, prepend=True)
        return run(loaded), most


def test_a_model_larger_than_the_budget_runs_the_same_within_it(tmp_path: Path):
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    write_tiny_lora(tmp_path / "lora.safetensors")
    plain = open_checkpoint(path, "tiny", "tiny").model
    changed = add_lora(plain, open_lora(tmp_path / "lora.safetensors", "l", "l"), 0.8)
    call = (torch.randn(1, 4, 8, 8), torch.tensor([500.0]), torch.randn(1, 77, 16))
    for model in (plain, changed):
        wanted, all_bytes = watched(ModelPool(), model, lambda m: m.predict(*call))
        budget = all_bytes // 3
        lines: list[str] = []
        pool = ModelPool(budget_bytes=budget, announce=lines.append)
        found, most = watched(pool, model, lambda m: m.predict(*call))
        same(found, wanted)
        assert most < budget
        assert pool.loaded()[0].size_bytes == 0
        assert any("as it runs" in line for line in lines)
        with pool.use(model) as again:
            same(again.predict(*call), wanted)
            assert live_bytes(again.unet) == 0


def test_a_layer_that_fails_lets_its_weights_go(tmp_path: Path):
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    model = open_checkpoint(path, "tiny", "tiny").model
    with ModelPool(budget_bytes=1).use(model) as loaded:
        with pytest.raises(RuntimeError):
            loaded.predict(torch.randn(1, 4, 8, 8), torch.tensor([500.0]), torch.randn(1, 77, 5))
        assert live_bytes(loaded.unet) == 0
