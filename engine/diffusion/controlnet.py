"""ControlNets: a copy of a UNet's encoder that reads a picture and adds to the skip connections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from engine.api.errors import NodeError
from engine.api.recipe import Recipe
from engine.diffusion.families.base import UnetLayout
from engine.diffusion.network import encoder_config

if TYPE_CHECKING:
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel

PIXELS_PER_CELL = 8  # the hint network halves its input three times


@dataclass(frozen=True, kw_only=True)
class LoadedControl:
    """A ControlNet ready to be called."""

    layout: UnetLayout
    model: "ControlNetModel | ControlNetUnionModel"
    device: torch.device
    dtype: torch.dtype
    control_type: int | None = None  # which of its kinds of pictures, of a union

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
                **self._picture(hint),
                conditioning_scale=strength,
                class_labels=None if y is None else y.to(**place),
                return_dict=False,
            )
        return {"input": list(down), "middle": [middle]}

    def _picture(self, hint: Tensor) -> dict[str, Any]:
        """The hint, and of a union which kind of picture it is."""
        count, kind = self.layout.control_types, self.control_type
        if count is None or kind is None:
            return {"controlnet_cond": hint}
        kinds = hint.new_zeros(hint.shape[0], count)
        kinds[:, kind] = 1.0
        return {"controlnet_cond": [hint], "control_type": kinds, "control_type_idx": [kind]}


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


# Kinds of pictures of the published unions, in their order; the last two are in "promax" files.
# Source: xinsir, controlnet-union-sdxl-1.0 (Apache-2.0), its model card.
UNION_TYPES = (
    "openpose",
    "depth",
    "hed/pidi/scribble/ted",
    "canny/lineart/anime_lineart/mlsd",
    "normal",
    "segment",
    "tile",
    "repaint",
)


def with_union_type(control: Recipe, layout: UnetLayout, kind: str) -> Recipe:
    """A union ControlNet for one kind of pictures; other ControlNets have one kind only and stay.

    Raises: NodeError, for a kind that a smaller union does not know.
    """
    if layout.control_types is None:
        return control
    number = UNION_TYPES.index(kind)
    if number >= layout.control_types:
        raise NodeError(
            f"{control.files[0].name} knows {layout.control_types} kinds of pictures, and {kind} "
            "is none of them.",
            hint=f"It knows {', '.join(UNION_TYPES[: layout.control_types])}.",
        )
    return control.with_option("control_type", number)


def build_control(
    layout: UnetLayout, hint_channels: int, hint_widths: tuple[int, ...]
) -> "ControlNetModel | ControlNetUnionModel":
    """The ControlNet without weights (on the meta device)."""
    with torch.device("meta"):
        if layout.control_types is None:
            return new_control(layout, hint_channels, hint_widths)
        return _new_union(layout, layout.control_types, hint_channels, hint_widths)


def new_control(
    layout: UnetLayout, hint_channels: int, hint_widths: tuple[int, ...]
) -> "ControlNetModel":
    """A ControlNet with random weights, that adds nothing as yet."""
    # Imported on use: diffusers takes seconds, and listing nodes must not wait for it.
    from diffusers.models.controlnets.controlnet import ControlNetModel

    return ControlNetModel(**_config(layout, hint_channels, hint_widths))


def _new_union(
    layout: UnetLayout, types: int, hint_channels: int, hint_widths: tuple[int, ...]
) -> "ControlNetUnionModel":
    from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel

    return ControlNetUnionModel(
        **_config(layout, hint_channels, hint_widths),
        addition_time_embed_dim=256,
        num_control_type=types,
        num_trans_channel=layout.width,
        num_proj_channel=layout.width,
    )


def _config(layout: UnetLayout, hint_channels: int, hint_widths: tuple[int, ...]) -> dict[str, Any]:
    return {
        **encoder_config(layout),
        "conditioning_channels": hint_channels,
        "conditioning_embedding_out_channels": hint_widths,
    }
