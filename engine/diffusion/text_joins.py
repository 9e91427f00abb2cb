"""How the outputs of several text towers become one conditioning, by family."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

T5 = "t5xxl"
JOINT_WIDTH = 4096  # of T5-XXL, where there is none to ask
WIDTHS = {"l": 768, "g": 1280}  # of the towers that may be missing


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerOutput:
    """What one tower gives. Shapes: embeds (1, T, D), pooled (1, P)."""

    embeds: Tensor
    pooled: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What text gives the denoiser. Shapes: embeds (1, T, D), pooled (1, P)."""

    embeds: Tensor
    pooled: Tensor


Parts = Mapping[str, TowerOutput]


def side_by_side(parts: Parts) -> Encoded:
    """Towers side by side, the pooled output of the last (SD1, SD2, SDXL).

    Source: Podell et al. 2023 (SDXL, arXiv 2307.01952), section 2.1.
    """
    embeds = torch.cat([part.embeds for part in parts.values()], dim=-1)  # (1, T, D1 + D2)
    return Encoded(embeds=embeds, pooled=_pooled(parts, tuple(parts)[-1]))


def one_after_the_other(parts: Parts) -> Encoded:
    """CLIP-L and CLIP-G side by side, filled up with zeros to T5's width; then T5's tokens (SD3).

    A tower that is missing leaves zeros, a missing T5 nothing.
    Source: Esser et al. 2024 (arXiv 2403.03206), figure 2 and section 5.3.
    """
    t5 = parts.get(T5)
    width = JOINT_WIDTH if t5 is None else t5.embeds.shape[-1]
    rows = [] if t5 is None else [t5.embeds]
    clips = [part.embeds for name, part in parts.items() if name != T5]
    if clips:
        left = 0 if "l" in parts else WIDTHS["l"]
        both = torch.cat(clips, dim=-1)
        rows.insert(0, F.pad(both, (left, width - left - both.shape[-1])))
    if not rows:
        rows = [torch.zeros(1, 77, width)]
    pooled = [_pooled(parts, name) for name in ("l", "g")]
    return Encoded(embeds=torch.cat(rows, dim=1), pooled=torch.cat(pooled, dim=-1))


def t5_with_pooled_clip(parts: Parts) -> Encoded:
    """T5's tokens, and the pooled output of CLIP-L (Flux)."""
    t5 = parts.get(T5)
    embeds = torch.zeros(1, 256, JOINT_WIDTH) if t5 is None else t5.embeds
    return Encoded(embeds=embeds, pooled=_pooled(parts, "l"))


def _pooled(parts: Parts, name: str) -> Tensor:
    found = parts[name].pooled if name in parts else None
    return torch.zeros(1, WIDTHS.get(name, 0)) if found is None else found


JOINS: Mapping[str, Callable[[Parts], Encoded]] = {
    "sd3": one_after_the_other,
    "flux": t5_with_pooled_clip,
}
