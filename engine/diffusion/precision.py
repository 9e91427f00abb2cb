"""Which number type a network part computes in, by device and the user's wish."""

from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def compute_dtype(part: str, device: torch.device, precision: Precision = "auto") -> torch.dtype:
    """The type a part computes in.

    `auto` means fp32 on a CPU, where it gives the same picture everywhere and fp16 is slow; on a
    GPU fp16 for the denoiser and ControlNets, bf16 for the VAE, whose activations overflow fp16.
    Text is always fp32: it is small, and its rounding would show in every picture.
    """
    if part == "text":
        return torch.float32
    if precision != "auto":
        if part == "vae" and precision == "fp16":
            return torch.float32
        return DTYPES[precision]
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if part == "vae" else torch.float16
