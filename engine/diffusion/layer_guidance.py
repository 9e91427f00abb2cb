"""Guidance away from what a diffusion transformer predicts with some of its blocks left out.

Source: Hyung et al. 2024 (Spatiotemporal Skip Guidance, arXiv 2411.18664), equation 8; Stability
AI, sd3.5 (MIT), `SkipLayerCFGDenoiser`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from engine.api.recipe import Hook


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedLayers:
    """Which blocks are left out, and between which sigmas."""

    double: tuple[int, ...]
    single: tuple[int, ...] = ()
    sigma_start: float
    sigma_end: float

    def __bool__(self) -> bool:
        return bool(self.double or self.single)

    @property
    def key(self) -> str:
        return f"{self.double}:{self.single}:{self.sigma_start}:{self.sigma_end}"

    def is_active(self, sigma: Tensor) -> bool:
        """Whether they are left out at a noise level."""
        return self.sigma_end <= float(sigma.flatten()[0]) <= self.sigma_start

    def hooks(self) -> tuple[Hook, ...]:
        """Hooks that let the streams pass by the blocks."""
        numbers = (("double", self.double), ("single", self.single))
        return tuple(
            Hook(slot=f"dit_replace/{kind}_block/{n}", function=_pass, key=f"skip:{kind}:{n}")
            for kind, layers in numbers
            for n in layers
        )


def _pass(args: Mapping[str, Any], _: Mapping[str, Any]) -> Mapping[str, Any]:
    return args


def layer_numbers(text: str) -> tuple[int, ...]:
    """The numbers in a text such as "7, 8, 9"."""
    return tuple(int(n) for n in re.findall(r"\d+", text))


def skip_guidance(skipped: SkippedLayers, scale: float, rescaling: float = 0.0) -> Hook:
    """Away from the positive prompt's prediction with the blocks left out.

    `rescaling` brings the result's spread towards that of the plain prediction.
    """

    def guide(values: Mapping[str, Any]) -> Tensor:
        result: Tensor = values["denoised"]
        if scale <= 0 or not skipped.is_active(values["sigma"]):
            return result
        cond: Tensor = values["cond_denoised"]
        worse: Tensor = values["evaluate"](0, values["input"], skipped.hooks())
        result = result + (cond - worse) * scale
        if rescaling:
            factor = cond.std() / result.std()
            result = result * (rescaling * factor + (1.0 - rescaling))
        return result

    key = f"skip_layers:{skipped.key}:{scale}:{rescaling}"
    return Hook(slot="sampler_post_cfg_function", function=guide, key=key)


def skip_for_negative(skipped: SkippedLayers) -> Hook:
    """The blocks are left out for the negative prompt's prediction alone."""

    def change(values: Mapping[str, Any]) -> Sequence[Tensor]:
        cond, uncond = values["conds_out"]
        if skipped.is_active(values["sigma"]):
            uncond = values["evaluate"](-1, values["input"], skipped.hooks())
        return [cond, uncond]

    key = f"skip_negative:{skipped.key}"
    return Hook(slot="sampler_pre_cfg_function", function=change, key=key)
