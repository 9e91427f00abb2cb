"""Operations on CONDITIONING values, lists of (embeds, options). Never changes its inputs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

from engine.api.errors import NodeError

if TYPE_CHECKING:
    from engine.api.types import Conditioning


def with_options(conditioning: "Conditioning", options: Mapping[str, Any]) -> "Conditioning":
    """Every entry with options added or replaced."""
    return [(embeds, {**old, **options}) for embeds, old in conditioning]


def _first(conditioning: "Conditioning", name: str) -> tuple[Tensor, dict[str, Any]]:
    if not conditioning:
        raise NodeError(f"The {name} input holds no conditioning.")
    embeds, options = conditioning[0]
    return embeds, options


def _check_alike(to: Tensor, other: Tensor) -> None:
    """Raises: NodeError, for embeds of two kinds of text encoders."""
    if to.shape[-1] != other.shape[-1]:
        raise NodeError(
            f"The conditionings have {to.shape[-1]} and {other.shape[-1]} channels: their shapes "
            f"are {list(to.shape)} and {list(other.shape)}.",
            hint="Encode both texts with the same CLIP.",
        )


def concat(to: "Conditioning", other: "Conditioning") -> "Conditioning":
    """Every entry's embeds, followed by those of the other's first entry."""
    added, _ = _first(other, "conditioning_from")
    for embeds, _ in to:
        _check_alike(embeds, added)
    return [(torch.cat([embeds, added], dim=1), dict(old)) for embeds, old in to]


def average(to: "Conditioning", other: "Conditioning", share: float) -> "Conditioning":
    """Every entry mixed with the other's first one; at a share of 1 it stays."""
    source, source_options = _first(other, "conditioning_from")
    pooled_source = source_options.get("pooled_output")
    result: Conditioning = []
    for embeds, old in to:
        _check_alike(embeds, source)
        length = embeds.shape[1]
        fitted = F.pad(source[:, :length], (0, 0, 0, max(0, length - source.shape[1])))
        options = dict(old)
        pooled = old.get("pooled_output", pooled_source)
        if pooled is not None and pooled_source is not None:
            options["pooled_output"] = pooled * share + pooled_source * (1.0 - share)
        result.append((embeds * share + fitted * (1.0 - share), options))
    return result


def zeroed(conditioning: "Conditioning") -> "Conditioning":
    """Every entry with zeros for embeds and pooled output."""
    result: Conditioning = []
    for embeds, old in conditioning:
        options = dict(old)
        if options.get("pooled_output") is not None:
            options["pooled_output"] = torch.zeros_like(options["pooled_output"])
        result.append((torch.zeros_like(embeds), options))
    return result


def masked(
    conditioning: "Conditioning", mask: Tensor, strength: float, *, sets_area: bool
) -> "Conditioning":
    """Every entry limited to a mask; `sets_area` also limits it to the mask's bounds."""
    mask = mask[None] if mask.ndim < 3 else mask
    return with_options(
        conditioning,
        {"mask": mask, "set_area_to_bounds": sets_area, "mask_strength": strength},
    )
