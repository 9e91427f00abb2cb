"""Scaling of pictures and latents (B, C, H, W), by the customary methods."""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from PIL import Image
from torch import Tensor

from engine.api.errors import NodeError

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos", "bislerp")


def scale(x: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    """Items scaled to a size; `crop="center"` cuts the longer side first to keep the proportions.

    Shapes: (B, C, H, W) -> (B, C, height, width). Raises: NodeError, for a size of 0.
    """
    if width < 1 or height < 1:
        raise NodeError(
            f"Scaling {x.shape[-1]}x{x.shape[-2]} would give {width}x{height}.",
            hint="Choose a larger size or factor; each side must keep at least 1.",
        )
    if crop == "center":
        x = _centre(x, width / height)
    if method == "lanczos":
        return lanczos(x, width, height)
    if method == "bislerp":
        return bislerp(x, width, height)
    return F.interpolate(x, size=(height, width), mode=method)


def _centre(x: Tensor, wanted: float) -> Tensor:
    """The middle with the wanted proportion of width to height."""
    height, width = x.shape[-2:]
    have = width / height
    left = round((width - width * (wanted / have)) / 2) if have > wanted else 0
    top = round((height - height * (have / wanted)) / 2) if have < wanted else 0
    left, top = min(left, (width - 1) // 2), min(top, (height - 1) // 2)  # something stays
    return x[..., top : height - top, left : width - left]


def lanczos(x: Tensor, width: int, height: int) -> Tensor:
    """Lanczos as PIL does it, through 8 bit. Values 0..1."""
    results = []
    for item in x:
        array = np.clip(255.0 * item.movedim(0, -1).cpu().numpy(), 0, 255).astype(np.uint8)
        squeezed = array[..., 0] if array.shape[-1] == 1 else array
        small = Image.fromarray(squeezed).resize((width, height), Image.Resampling.LANCZOS)
        values = np.asarray(small, dtype=np.float32) / 255.0
        results.append(torch.from_numpy(values.reshape(height, width, -1)).movedim(-1, 0))
    return torch.stack(results).to(x.device, x.dtype)


def bislerp(x: Tensor, width: int, height: int) -> Tensor:
    """Bilinear scaling that turns between vectors of channels and mixes their lengths.

    Source: Shoemake 1985, "Animating rotation with quaternion curves" (slerp), per axis.
    """
    x32 = x.float()
    wide = _slerp_axis(x32, width)
    return _slerp_axis(wide.transpose(-1, -2), height).transpose(-1, -2).to(x.dtype)


def _slerp_axis(x: Tensor, length: int) -> Tensor:
    """Scales the last axis."""
    low, high, share = _neighbours(x.shape[-1], length)
    # (B, C, H, W) -> channels last, one vector for each cell
    a, b = x[..., low].movedim(1, -1), x[..., high].movedim(1, -1)
    return _slerp(a, b, share[:, None]).movedim(-1, 1)


def _neighbours(have: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two source cells of each target cell, and the share of the second one."""
    place = torch.arange(have, dtype=torch.float32).reshape(1, 1, 1, -1)
    exact = F.interpolate(place, size=(1, length), mode="bilinear")
    low = exact.floor().long()
    share = exact - exact.floor()
    following = (torch.arange(have) + 1).float().reshape(1, 1, 1, -1)
    following[..., -1] -= 1
    high = F.interpolate(following, size=(1, length), mode="bilinear").floor().long()
    return low.reshape(-1), high.reshape(-1), share.reshape(-1)


def _slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Shapes: a, b (..., C), share broadcast."""
    length_a, length_b = (v.norm(dim=-1, keepdim=True) for v in (a, b))
    unit_a, unit_b = a / length_a, b / length_b
    unit_a = torch.where(length_a == 0.0, 0.0, unit_a)
    unit_b = torch.where(length_b == 0.0, 0.0, unit_b)
    cosine = (unit_a * unit_b).sum(-1, keepdim=True)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    turned = (torch.sin((1.0 - share) * angle) / sine) * unit_a
    turned = turned + (torch.sin(share * angle) / sine) * unit_b
    turned = turned * (length_a * (1.0 - share) + length_b * share)
    straight = a * (1.0 - share) + b * share
    turned = torch.where(cosine > 1 - 1e-5, a, turned)
    return torch.where(cosine < 1e-5 - 1, straight, turned)
