"""Guidance by a second, worse prediction, as `sampler_post_cfg_function` hooks.

`evaluate(group, x, hooks)` in the hooks' values predicts once more: 0 is the positive prompt, -1
the negative one, `hooks` act inside the network for this call.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

from engine.api.recipe import Hook
from engine.diffusion.attention_patches import token_grid

MIDDLE_ATTENTION = "attn1_replace/middle/0"
BLUR_RADIUS = 4
UNCOND = 1


def perturbed_attention(scale: float) -> Hook:
    """Away from what the network sees when its middle attends to each place alone.

    Source: Ahn et al. 2024 (PAG, arXiv 2403.17377), equations 12 and 13.
    """
    # The first layer also by its own name, which goes before that of the block.
    places = (MIDDLE_ATTENTION, f"{MIDDLE_ATTENTION}/0")
    identity = tuple(Hook(slot=place, function=lambda q, k, v, extra: v) for place in places)

    def guide(values: Mapping[str, Any]) -> Tensor:
        if scale == 0:
            return values["denoised"]
        perturbed: Tensor = values["evaluate"](0, values["input"], identity)
        return values["denoised"] + (values["cond_denoised"] - perturbed) * scale

    return Hook(slot="sampler_post_cfg_function", function=guide, key=f"pag:{scale}")


class SelfAttentionGuidance:
    """Away from the prediction for a latent that is blurred where the network looks.

    Keeps the attention of the last call without the prompt, from the network to the guidance.
    Source: Hong et al. 2023 (SAG, arXiv 2210.00939), algorithm 1.
    """

    def __init__(self, scale: float, blur_sigma: float) -> None:
        self._scale, self._sigma = scale, blur_sigma
        self._seen: Tensor | None = None

    def hooks(self) -> tuple[Hook, Hook]:
        """Where the network is watched, and where its prediction is changed."""
        key = f"sag:{self._scale}:{self._sigma}"
        watch = Hook(slot=f"{MIDDLE_ATTENTION}/0", function=self._watch, key=key)
        guide = Hook(slot="sampler_post_cfg_function", function=self._guide, key=key)
        return watch, guide

    def _watch(self, q: Tensor, k: Tensor, v: Tensor, extra: Mapping[str, Any]) -> Tensor:
        heads: int = extra["n_heads"]
        q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        share = (q @ k.transpose(-1, -2) * extra["dim_head"] ** -0.5).softmax(-1)
        groups: list[int] = extra["cond_or_uncond"]
        if UNCOND in groups:
            # (B, heads, T, T): how much attention each place gets from all others.
            looked_at = share.chunk(len(groups))[groups.index(UNCOND)].float().mean(1).sum(1)
            grid = token_grid(extra, looked_at.shape[1])
            self._seen = None if grid is None else looked_at.view(-1, grid.rows, grid.columns)
        return (share @ v).transpose(1, 2).flatten(2)

    def _guide(self, values: Mapping[str, Any]) -> Tensor:
        seen, self._seen = self._seen, None
        if seen is None or self._scale == 0:
            return values["denoised"]
        x, uncond = values["input"], values["uncond_denoised"]
        mask = F.interpolate((seen > 1.0).to(x)[:, None], x.shape[-2:], mode="nearest")
        degraded = blurred(uncond, self._sigma) * mask + uncond * (1.0 - mask)
        worse: Tensor = values["evaluate"](-1, degraded + x - uncond, ())
        return values["denoised"] + (degraded - worse) * self._scale


def blurred(x: Tensor, sigma: float) -> Tensor:
    """A latent (B, C, H, W) blurred by a Gaussian over at most 9 x 9 cells."""
    if sigma == 0:
        return x
    for axis in (2, 3):
        radius = min(BLUR_RADIUS, x.shape[axis] - 1)
        weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).to(x) / sigma) ** 2)
        kernel = (weights / weights.sum()).view((-1, 1) if axis == 2 else (1, -1))
        border = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        padded = F.pad(x, border, mode="reflect")
        x = F.conv2d(padded, kernel.expand(x.shape[1], 1, -1, -1), groups=x.shape[1])
    return x
