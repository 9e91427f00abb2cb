"""What `--precision` means on a CPU with and without units for bf16, and how kernels lie then."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.precision import compute_dtype, precision_words
from engine.diffusion.residency import ModelPool
from tests.tiny_checkpoint import write_tiny_checkpoint

CPU = torch.device("cpu")


def has(monkeypatch: pytest.MonkeyPatch, *units: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(units, True))


def test_auto_takes_bf16_where_the_cpu_multiplies_it(monkeypatch: pytest.MonkeyPatch):
    has(monkeypatch, "avx512_f", "avx512_bf16", "amx_bf16")
    assert compute_dtype("denoiser", CPU) == compute_dtype("vae", CPU) == torch.bfloat16
    assert compute_dtype("text", CPU) == torch.float32
    words = precision_words(CPU)
    assert words == (
        "Computing in bfloat16 on cpu (this CPU has amx_bf16; fp32 gives the reference picture)."
    )


def test_auto_stays_fp32_elsewhere(monkeypatch: pytest.MonkeyPatch):
    has(monkeypatch, "avx2", "avx512_f")
    assert compute_dtype("denoiser", CPU) == torch.float32
    lacks = "this CPU has neither amx_bf16 nor avx512_bf16"
    assert precision_words(CPU) == f"Computing in float32 on cpu ({lacks})."
    assert f"asked for by --precision, slower than fp32: {lacks}" in precision_words(CPU, "bf16")
    assert "slower than fp32 on a CPU" in precision_words(CPU, "fp16")


def test_kernels_of_half_types_have_their_channels_last(tmp_path: Path):
    file = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    parts = open_checkpoint(file, "tiny", "tiny")
    x, time, text = torch.randn(1, 4, 8, 8), torch.tensor([500.0]), torch.randn(1, 77, 16)
    found: dict[Any, torch.Tensor] = {}
    for precision in ("fp32", "bf16", "fp16"):
        with ModelPool(precision=precision).use(parts.model) as loaded:
            found[precision] = loaded.predict(x, time, text)
            kernel = loaded.unet.conv_in.weight
        is_last = kernel.is_contiguous(memory_format=torch.channels_last)
        assert is_last == (precision != "fp32")
    scale = found["fp32"].std()
    assert (found["bf16"] - found["fp32"]).abs().max() < 0.1 * scale
    assert (found["fp16"] - found["fp32"]).abs().max() < 0.02 * scale
