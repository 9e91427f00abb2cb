"""Which number type a network part computes in, by device and the user's wish, and why."""

from collections.abc import Sequence
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Units that multiply bf16 itself; without them torch converts each number and is slower than fp32.
BF16_UNITS = ("amx_bf16", "avx512_bf16")


def compute_dtype(part: str, device: torch.device, precision: Precision = "auto") -> torch.dtype:
    """The type a part computes in.

    `auto` means on a CPU bf16 where it multiplies that fast, else fp32; on a GPU fp16 for the
    denoiser and ControlNets, bf16 for the VAE, whose activations overflow fp16.
    Text is always fp32: it is small, and its rounding would show in every picture.
    """
    if part == "text":
        return torch.float32
    if precision != "auto":
        if part == "vae" and precision == "fp16":
            return torch.float32
        return DTYPES[precision]
    if device.type == "cpu":
        return torch.bfloat16 if bf16_unit() else torch.float32
    return torch.bfloat16 if part == "vae" else torch.float16


def bf16_unit() -> str | None:
    """The unit with which this CPU multiplies bf16, if it has one."""
    found = torch.cpu.get_capabilities()
    return next((unit for unit in BF16_UNITS if found.get(unit)), None)


def precision_words(device: torch.device, precision: Precision = "auto") -> str:
    """What the denoiser computes in and why, in one line for people."""
    dtype = compute_dtype("denoiser", device, precision)
    unit = bf16_unit() if device.type == "cpu" else None
    lacks = f"this CPU has neither {' nor '.join(BF16_UNITS)}"
    if precision == "auto":
        reason = "the rule for GPUs"
        if device.type == "cpu":
            reason = f"this CPU has {unit}; fp32 gives the reference picture" if unit else lacks
    else:
        reason = "asked for by --precision"
        if precision == "bf16" and device.type == "cpu" and not unit:
            reason += f", slower than fp32: {lacks}"
        if precision == "fp16" and device.type == "cpu":
            reason += ", slower than fp32 on a CPU"
    return f"Computing in {str(dtype).removeprefix('torch.')} on {device} ({reason})."


def is_channels_last(dtype: torch.dtype | None, shape: Sequence[int]) -> bool:
    """Whether a weight is a kernel to be kept with its channels last, as half types want it."""
    return dtype in (torch.bfloat16, torch.float16) and len(shape) == 4
