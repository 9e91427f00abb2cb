"""ControlNets: a copy of a UNet's encoder that reads a picture and adds to the skip connections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from engine.api.errors import NodeError
from engine.diffusion.families.base import UnetLayout
from engine.diffusion.network import encoder_config

if TYPE_CHECKING:
    from diffusers.models.controlnets.controlnet import ControlNetModel

PIXELS_PER_CELL = 8  # the hint network halves its input three times


@dataclass(frozen=True, kw_only=True)
class LoadedControl:
    """A ControlNet ready to be called."""

    layout: UnetLayout
    model: "ControlNetModel"
    device: torch.device
    dtype: torch.dtype

    @property
    def context_dim(self) -> int:
        return self.layout.context_dim

    def residuals(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        hint: Tensor,
        *,
        strength: float = 1.0,
        y: Tensor | None = None,
    ) -> dict[str, list[Tensor | None]]:
        """What to add to a denoiser's skip connections (`input`) and middle (`middle`).

        `x`, `timestep`, `context` and `y` are what the denoiser itself gets (`predict`); `hint`
        comes from `fit_hint`. The result goes into `predict(control=…)`; see `add_residuals`.
        Shapes: x (B, 4, H, W), timestep (B,), context (B, T, D), hint (B or 1, 3, 8 H, 8 W).
        """
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        hint = hint.to(**place).expand(x.shape[0], -1, -1, -1)
        model: Any = self.model
        with torch.no_grad():
            down, middle = model(
                x[:, : self.layout.in_channels].to(**place),
                timestep.to(self.device),
                context.to(**place),
                hint,
                conditioning_scale=strength,
                class_labels=None if y is None else y.to(**place),
                return_dict=False,
            )
        return {"input": list(down), "middle": [middle]}


def check_control(control: UnetLayout, model: UnetLayout, name: str) -> None:
    """Raises: NodeError, where a ControlNet was made for another family than the model's."""
    if _sizes(control) != _sizes(model):
        raise NodeError(
            f"The ControlNet {name} was made for another family: it {_told(control)}, but the "
            f"model {_told(model)}.",
            hint="Use a ControlNet for the model's family.",
        )


def _sizes(layout: UnetLayout) -> tuple[object, ...]:
    return layout.width, layout.mult, layout.blocks, layout.context_dim, layout.adm


def _told(layout: UnetLayout) -> str:
    levels = " × ".join(str(layout.width * m) for m in layout.mult)
    vector = f" and a vector of {layout.adm}" if layout.adm else ""
    return f"reads texts of {layout.context_dim}{vector} and has levels of {levels} channels"


def add_residuals(
    first: Mapping[str, Sequence[Tensor | None]], second: Mapping[str, Sequence[Tensor | None]]
) -> dict[str, list[Tensor | None]]:
    """The residuals of two ControlNets together."""
    return {
        name: [_sum(a, b) for a, b in zip(first[name], second[name], strict=True)] for name in first
    }


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def fit_hint(image: Tensor, rows: int, columns: int) -> Tensor:
    """A picture as a hint for a latent of `rows` x `columns`: cropped to its shape, then scaled.

    Shapes: image (B, H, W, C) 0..1 -> (B, 3, 8 rows, 8 columns).
    """
    height, width = rows * PIXELS_PER_CELL, columns * PIXELS_PER_CELL
    hint = image[..., :3].movedim(-1, 1)
    old_height, old_width = hint.shape[-2:]
    top = left = 0
    if old_width * height > old_height * width:
        left = round((old_width - old_width * (width / height) / (old_width / old_height)) / 2)
    else:
        top = round((old_height - old_height * (old_width / old_height) / (width / height)) / 2)
    hint = hint[:, :, top : old_height - top, left : old_width - left]
    return interpolate(hint, size=(height, width), mode="nearest-exact")


def build_control(
    layout: UnetLayout, hint_channels: int, hint_widths: tuple[int, ...]
) -> "ControlNetModel":
    """The ControlNet without weights (on the meta device)."""
    with torch.device("meta"):
        return new_control(layout, hint_channels, hint_widths)


def new_control(
    layout: UnetLayout, hint_channels: int, hint_widths: tuple[int, ...]
) -> "ControlNetModel":
    """A ControlNet with random weights, that adds nothing as yet."""
    # Imported on use: diffusers takes seconds, and listing nodes must not wait for it.
    from diffusers.models.controlnets.controlnet import ControlNetModel

    config = encoder_config(layout)
    config["conditioning_channels"] = hint_channels
    config["conditioning_embedding_out_channels"] = hint_widths
    return ControlNetModel(**config)
