"""The loaded denoising network: builds diffusers' UNet for a layout and calls it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from engine.diffusion.families.base import UnetLayout
from engine.diffusion.latent_space import SD1, LatentSpace
from engine.diffusion.network_hooks import NO_HOOKS, NetworkHooks, hooked
from engine.diffusion.unclip import EmbedStatistics

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

Control = Mapping[str, Sequence[Tensor | None]]

# Numbers that a call keeps at once for a latent cell, in widths of the first level: of SD1.5's UNet
# 48 to 50, by the peak of memory at 64 x 64 cells.
CELL_WIDTHS = 50


def unknown() -> None:
    """What is said of free memory where nobody knows."""


def cells_that_fit(
    free_bytes: int | None, network: torch.nn.Module, dtype: torch.dtype, width: int
) -> int | None:
    """The latent cells of a call for which memory is left beside the weights yet to be read."""
    if free_bytes is None:
        return None
    unread = sum(p.numel() for p in network.parameters() if p.is_meta)
    return max(0, free_bytes // dtype.itemsize - unread) // (CELL_WIDTHS * width)


class Denoiser(Protocol):
    """What sampling knows of a loaded denoising network, whatever its kind.

    `is_joint`: text and picture go through one transformer, so that texts of two lengths do not
    share a call, and the vector input is the pooled text alone.
    """

    family: str
    parameterization_name: str
    device: torch.device
    dtype: torch.dtype
    latent: LatentSpace
    latent_rgb_factors: tuple[tuple[float, ...], ...] | None
    sampling: tuple[object, ...] | None
    is_joint: bool
    vector: tuple[str, ...]  # the numbers in the vector input beside the pooled text
    embed_statistics: EmbedStatistics | None

    @property
    def alphas_cumprod(self) -> Tensor: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def context_dim(self) -> int: ...
    @property
    def adm_channels(self) -> int | None: ...
    @property
    def has_noise_level(self) -> bool: ...
    @property
    def most_cells(self) -> int | None: ...
    def extra_conditions(self, options: Mapping[str, Any]) -> dict[str, Any]: ...
    def predict(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        y: Tensor | None = None,
        control: Any = None,
        options: Mapping[str, Any] | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class LoadedDenoiser:
    """A denoising network ready to be called, with what a sampler must know of it.

    Shapes: alphas_cumprod (1000,) float64: in float32 the small sigmas would be off.
    """

    family: str
    parameterization_name: str
    alphas_cumprod: Tensor
    layout: UnetLayout
    unet: "UNet2DConditionModel"
    device: torch.device
    dtype: torch.dtype
    latent: LatentSpace = SD1
    latent_rgb_factors: tuple[tuple[float, ...], ...] | None = None
    native_size: int = 512
    hooks: NetworkHooks = NO_HOOKS
    embed_statistics: EmbedStatistics | None = None  # of unCLIP models
    sampling: tuple[object, ...] | None = None
    is_joint: bool = False
    vector: tuple[str, ...] = ()
    compiled: Callable[..., Any] | None = None  # the network, where it was asked for
    free_bytes: Callable[[], int | None] = unknown

    @property
    def in_channels(self) -> int:
        return self.layout.in_channels

    @property
    def context_dim(self) -> int:
        return self.layout.context_dim

    @property
    def adm_channels(self) -> int | None:
        return self.layout.adm

    def extra_conditions(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What else the network reads from a conditioning's options: nothing."""
        return {}

    @property
    def has_noise_level(self) -> bool:
        """Whether a number takes the vector input's place (the x4 upscaler)."""
        return self.layout.classes is not None

    @property
    def most_cells(self) -> int | None:
        """How many latent cells a call may have now; None where nothing is known."""
        return cells_that_fit(self.free_bytes(), self.unet, self.dtype, self.layout.width)

    def predict(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        y: Tensor | None = None,
        control: Control | None = None,
        options: Mapping[str, Any] | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """The network's raw output for a scaled input, in float32.

        `control` holds residuals: `input`, one for each skip connection in the order in which they
        are made, and `middle`, one; None stands for nothing to add. `options` go to the recipe's
        hooks inside the network (see `network_hooks`).
        Shapes: x (B, in_channels, H, W), timestep (B,), context (B, T, context_dim), y (B, adm) or
        numbers (B, 1).
        """
        given = {"original_shape": tuple(x.shape), **(options or {})}
        hooks = self.hooks.joined(given.pop("hooks", ()))
        if hooks:
            with hooked(self.unet, self.layout, hooks, given):
                return self._call(self.unet, x, timestep, context, y, control)
        return self._call(self.compiled or self.unet, x, timestep, context, y, control)

    def _call(
        self,
        network: Callable[..., Any],
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        y: Tensor | None,
        control: Control | None,
    ) -> Tensor:
        down, middle = _residuals(control)
        with torch.no_grad():
            out: Any = network(
                x.to(self.device, self.dtype),
                timestep.to(self.device),
                context.to(self.device, self.dtype),
                class_labels=self._labels(y),
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
                return_dict=False,
            )
        return out[0].float()

    def _labels(self, y: Tensor | None) -> Tensor | None:
        """The vector input, or numbers where the network has a table of them."""
        if y is None:
            return None
        if self.layout.classes:
            return y[:, 0].to(self.device, torch.long)
        return y.to(self.device, self.dtype)


def _residuals(control: Control | None) -> tuple[tuple[Any, ...] | None, Any]:
    """What diffusers' UNet takes: both or neither, with 0.0 where there is nothing to add."""
    if not control or all(r is None for items in control.values() for r in items):
        return None, None
    down = tuple(0.0 if r is None else r for r in control["input"])
    return down, next((r for r in control["middle"] if r is not None), 0.0)


def sd_alphas_cumprod(first: float = 0.00085, last: float = 0.012) -> Tensor:
    """Products of 1 - beta of a scaled-linear training schedule, (1000,) float64.

    Without ends it is Stable Diffusion's own.

    Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models".
    """
    betas = torch.linspace(first**0.5, last**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


def encoder_config(layout: UnetLayout) -> dict[str, Any]:
    """The arguments with which diffusers builds the half that UNet and ControlNet share."""
    widths = tuple(layout.width * m for m in layout.mult)
    # Without attention a level ignores its depth; the last entry is the middle block's.
    depth = [d or 1 for d in layout.depth]
    depth[-1] = layout.depth[-1] or layout.middle_depth
    heads = layout.heads or tuple(max(1, w // (layout.head_width or 64)) for w in widths)
    return {
        "in_channels": layout.in_channels,
        "block_out_channels": widths,
        "layers_per_block": layout.blocks,
        "down_block_types": tuple(
            "CrossAttnDownBlock2D" if d else "DownBlock2D" for d in layout.depth
        ),
        "transformer_layers_per_block": tuple(depth),
        "attention_head_dim": heads,  # diffusers' name for the number of heads
        "cross_attention_dim": layout.context_dim,
        "use_linear_projection": layout.is_linear,
        "norm_num_groups": layout.groups,
        "class_embed_type": "projection" if layout.adm else None,
        "projection_class_embeddings_input_dim": layout.adm,
        "only_cross_attention": layout.only_cross or False,
    }


def unet_config(layout: UnetLayout) -> dict[str, Any]:
    """The arguments with which diffusers builds the UNet of a layout."""
    up = ("CrossAttnUpBlock2D" if d else "UpBlock2D" for d in reversed(layout.depth))
    return {
        **encoder_config(layout),
        "num_class_embeds": layout.classes,
        "out_channels": layout.out_channels,
        "up_block_types": tuple(up),
    }


def build_unet(layout: UnetLayout) -> "UNet2DConditionModel":
    """The UNet without weights (on the meta device)."""
    with torch.device("meta"):
        return new_unet(layout)


def new_unet(layout: UnetLayout) -> "UNet2DConditionModel":
    """The UNet with random weights."""
    # Imported on use: diffusers takes seconds, and listing nodes must not wait for it.
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel(**unet_config(layout))
