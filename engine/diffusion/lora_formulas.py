"""What each kind of LoRA adds to a weight, from its tensors; every formula in fp32.

Source: Hu et al. 2021 (LoRA); Yeh et al. 2023, "Navigating Text-To-Image Customization", section 3
(LoCon, LoHa, LoKr); Liu et al. 2024 (DoRA, equation 5).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

EPSILON = torch.finfo(torch.float32).eps

Tensors = Mapping[str, Tensor]  # role -> tensor of one module, in fp32


def lora_delta(t: Tensors) -> Tensor:
    """Up times down, scaled by alpha / rank; with a middle kernel (Tucker form) too."""
    down, up = t["down"], t["up"]
    scale = _scale(t, rank=down.shape[0])
    if "mid" in t:
        kernel = torch.einsum("or,rshw,si->oihw", up.flatten(1), t["mid"], down.flatten(1))
        return kernel * scale
    return (up.flatten(1) @ down.flatten(1)) * scale


def loha_delta(t: Tensors) -> Tensor:
    """The elementwise product of two low-rank matrices (or of two Tucker kernels)."""
    scale = _scale(t, rank=t["w1_b"].shape[0])
    if "t1" in t:
        one, two = (
            torch.einsum("rskl,ro,si->oikl", t[f"t{n}"], t[f"w{n}_a"], t[f"w{n}_b"]) for n in (1, 2)
        )
        return one * two * scale
    return (t["w1_a"] @ t["w1_b"]) * (t["w2_a"] @ t["w2_b"]) * scale


def lokr_delta(t: Tensors) -> Tensor:
    """The Kronecker product of two small matrices, each whole or of low rank."""
    one = t["k1"] if "k1" in t else t["k1_a"] @ t["k1_b"]
    rank = t["k1_b"].shape[0] if "k1_b" in t else None
    if "k2" in t:
        two = t["k2"]
    elif "kt2" in t:
        two = torch.einsum("rskl,ro,si->oikl", t["kt2"], t["k2_a"], t["k2_b"])
        rank = t["k2_b"].shape[0]
    else:
        two = t["k2_a"] @ t["k2_b"].flatten(1)
        rank = t["k2_b"].shape[0]
    scale = _scale(t, rank) if rank else 1.0
    if two.dim() == 4:
        one = one[:, :, None, None]
    return torch.kron(one, two.contiguous()) * scale


def glora_change(t: Tensors, weight: Tensor, strength: float) -> Tensor:
    """W + W A + B with A and B of low rank."""
    scale = _scale(t, rank=t["a2"].shape[0]) if "alpha" in t else 1.0
    flat = weight.flatten(1)
    change = flat @ (t["a2"].flatten(1) @ t["a1"].flatten(1)) + t["b2"].flatten(1) @ t[
        "b1"
    ].flatten(1)
    return weight + (change * scale * strength).reshape(weight.shape)


def full_delta(t: Tensors) -> Tensor:
    """The difference itself."""
    return t["diff"]


def dora_change(scale: Tensor, weight: Tensor, delta: Tensor, strength: float) -> Tensor:
    """The changed weight with its magnitude replaced, then mixed in by `strength`.

    The magnitude belongs to the output channels or to the input channels, as `scale` is shaped.
    """
    changed = weight + delta
    axis = 0 if scale.shape[0] == weight.shape[0] else 1
    others = [d for d in range(weight.dim()) if d != axis]
    # Per output channel the customary norm is the unchanged weight's, unlike the paper's.
    measured = weight if axis == 0 else changed
    norm = torch.linalg.vector_norm(measured, dim=others, keepdim=True)
    shape = [1] * weight.dim()
    shape[axis] = weight.shape[axis]
    return weight + (changed * (scale.reshape(shape) / (norm + EPSILON)) - weight) * strength


def peft_dora_change(magnitude: Tensor, weight: Tensor, delta: Tensor, strength: float) -> Tensor:
    """The same as peft does it: one magnitude for each output, measured on the changed weight."""
    changed = weight + delta
    shape = (-1, *(1,) * (weight.dim() - 1))
    norm = torch.linalg.vector_norm(changed.flatten(1), dim=1).view(shape)
    return weight + (changed * (magnitude.reshape(shape) / norm) - weight) * strength


def _scale(t: Tensors, rank: int) -> float:
    return float(t["alpha"]) / rank if "alpha" in t else 1.0


# Which roles make which kind; the first kind whose roles are all there is taken.
DELTAS: tuple[tuple[tuple[str, ...], Callable[[Tensors], Tensor]], ...] = (
    (("down", "up"), lora_delta),
    (("w1_a", "w1_b", "w2_a", "w2_b"), loha_delta),
    (("k1", "k2"), lokr_delta),
    (("k1", "k2_a", "k2_b"), lokr_delta),
    (("k1_a", "k1_b", "k2"), lokr_delta),
    (("k1_a", "k1_b", "k2_a", "k2_b"), lokr_delta),
    (("diff",), full_delta),
)
