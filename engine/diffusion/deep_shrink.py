"""Deep Shrink: a UNet's inside made smaller in the first steps, for large pictures.

Source: kohya-ss 2023, "Deep Shrink" (sdxl_gen_img.py of sd-scripts, Apache-2.0).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from engine.api.recipe import Hook
from engine.diffusion.scaling import scale


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepShrink:
    """Smaller by `factor` from encoder block `block` on, between two sigmas."""

    block: int
    factor: float
    sigma_start: float
    sigma_end: float
    downscale: str
    upscale: str

    def hooks(self, *, is_after_skip: bool) -> tuple[Hook, Hook]:
        """The hooks inside the network; `is_after_skip` leaves the skip connection large."""
        slot = "input_block_patch_after_skip" if is_after_skip else "input_block_patch"
        return (
            Hook(slot=slot, function=self.shrunk, key=repr(self)),
            Hook(slot="output_block_patch", function=self.restored, key=repr(self)),
        )

    def shrunk(self, h: Tensor, options: Mapping[str, Any]) -> Tensor:
        """The `input_block_patch`."""
        sigma = float(options["sigmas"][0])
        if options["block"][1] != self.block or not self.sigma_end <= sigma <= self.sigma_start:
            return h
        height, width = (max(1, round(side / self.factor)) for side in h.shape[-2:])
        return scale(h, width, height, self.downscale)

    def restored(
        self, h: Tensor, skip: Tensor, options: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """The `output_block_patch`."""
        if h.shape[-2:] != skip.shape[-2:]:
            h = scale(h, skip.shape[-1], skip.shape[-2], self.upscale)
        return h, skip
