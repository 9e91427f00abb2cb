"""Low-rank changes of layers that learn while the layers stay as they are: LoRA, LoCon, DoRA.

An adapter hangs on its layer with hooks, so that the network and its names do not change.
Source: Hu et al. 2021 (LoRA, arXiv:2106.09685) section 4.1; Yeh et al. 2023 (LoCon,
arXiv:2309.14859) section 3.1; Liu et al. 2024 (DoRA, arXiv:2402.09353) eq. 5 and section 4.3.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from engine.api.errors import NodeError
from engine.diffusion.clip_model import ClipText

DoraAxis = Literal["output", "input"]
Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """How the low-rank changes are shaped.

    A change is scaled by alpha / rank. `conv_rank` 0 leaves convolutions larger than 1 x 1 alone.
    `dora` learns the weights' magnitudes apart, one for each output channel (as peft does) or each
    input channel (the paper's columns, as kohya-style files hold them).
    """

    rank: int = 16
    alpha: float = 16.0
    conv_rank: int = 0
    dora: DoraAxis | None = None

    def rank_of(self, layer: Layer) -> int:
        is_wide = isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
        return self.conv_rank if is_wide else self.rank

    def alpha_of(self, layer: Layer) -> float:
        """The alpha that gives every layer the same scale."""
        return self.alpha / self.rank * self.rank_of(layer)


class Adapter(nn.Module):
    """One layer's low-rank change. Shapes: down as the layer with rank outputs, up 1 x 1."""

    def __init__(
        self, layer: Layer, settings: AdapterSettings, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        rank = settings.rank_of(layer)
        weight = layer.weight
        shape = (rank, *weight.shape[1:])
        ones = (1,) * (weight.dim() - 2)
        down = torch.empty(shape)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank, *ones, device=weight.device))
        self.scale = settings.alpha_of(layer) / rank
        self.axis: DoraAxis | None = settings.dora
        self.magnitude = nn.Parameter(_norm(weight, settings.dora)) if settings.dora else None

    def delta(self) -> Tensor:
        """The change of the weight, flat. Shapes: (out, in · kernel)."""
        return self.up.flatten(1) @ self.down.flatten(1) * self.scale

    def attach(self, layer: Layer) -> list[RemovableHandle]:
        """Makes the layer compute with its change until the handles are removed."""
        handles = [layer.register_forward_hook(self._after)]
        if self.axis == "input":
            handles.append(layer.register_forward_pre_hook(self._before))
        return handles

    def _gain(self, layer: Layer) -> Tensor:
        """Magnitude over norm, the norm without gradient (section 4.3 of the paper)."""
        assert self.magnitude is not None and self.axis is not None
        with torch.no_grad():
            norm = _norm(layer.weight + self.delta().view_as(layer.weight), self.axis)
        gain = self.magnitude / (norm + torch.finfo(torch.float32).eps)
        return gain.view(1, -1, *(1,) * (layer.weight.dim() - 2))

    def _before(self, layer: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] * self._gain(layer),)

    def _after(self, layer: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        added = self._low_rank(layer, inputs[0]) * self.scale
        if self.axis != "output":
            return output + added
        bias = layer.bias
        if bias is None:
            return (output + added) * self._gain(layer)
        bias = bias.view(1, -1, *(1,) * (layer.weight.dim() - 2)).to(output.dtype)
        return (output - bias + added) * self._gain(layer) + bias

    def _low_rank(self, layer: Layer, x: Tensor) -> Tensor:
        if isinstance(layer, nn.Conv2d):
            middle = nn.functional.conv2d(
                x, self.down, None, layer.stride, layer.padding, layer.dilation
            )
            return nn.functional.conv2d(middle, self.up)
        return nn.functional.linear(nn.functional.linear(x, self.down), self.up)


def _norm(weight: Tensor, axis: DoraAxis) -> Tensor:
    """The norm of each output or input channel. Shapes: (out,) or (in,)."""
    kept = 0 if axis == "output" else 1
    others = [d for d in range(weight.dim()) if d != kept]
    return torch.linalg.vector_norm(weight.detach(), dim=others)


class Adapters(nn.Module):
    """The adapters of several networks, by part and layer name; all that a LoRA trains."""

    def __init__(
        self,
        parts: Mapping[str, nn.Module],
        names: Mapping[str, Iterable[str]],
        settings: AdapterSettings,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.layers: dict[str, tuple[str, str]] = {}  # name within this module -> part, layer
        self.handles: list[RemovableHandle] = []
        for part, module in parts.items():
            for name in names.get(part, ()):
                layer = module.get_submodule(name)
                assert isinstance(layer, nn.Linear | nn.Conv2d)
                own = f"{part}/{name}".replace(".", "/")
                self.layers[own] = (part, name)
                adapter = Adapter(layer, settings, generator)
                self.add_module(own, adapter)
                self.handles += adapter.attach(layer)
        if not self.layers:
            raise NodeError(
                "No layer of the model is chosen to be trained.",
                hint="Check the blocks, for example: down_blocks, mid_block, up_blocks.",
            )

    def adapters(self) -> Iterable[tuple[str, str, Adapter]]:
        """Part, layer name and adapter of each."""
        for own, (part, name) in self.layers.items():
            adapter = self.get_submodule(own)
            assert isinstance(adapter, Adapter)
            yield part, name, adapter

    def detach(self) -> None:
        """Takes all hooks off the networks."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()


# Which layers -------------------------------------------------------------------------------------

Targets = Literal["attention", "transformer", "all"]
TARGETS: tuple[Targets, ...] = get_args(Targets)
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")


def unet_layers(
    unet: nn.Module, targets: Targets, blocks: Iterable[str] = (), *, conv: bool = False
) -> list[str]:
    """Names of the layers that a LoRA changes.

    `attention`: the projections of attention; `transformer`: all linear layers of transformers and
    the projections around them; `all`: residual blocks too. `blocks` keeps names that start so.
    `conv` adds convolutions larger than 1 x 1, where targets are `all`.
    """
    starts = tuple(blocks)
    return [
        name
        for name, layer in unet.named_modules()
        if (not starts or name.startswith(starts)) and _is_target(name, layer, targets, conv)
    ]


def _is_target(name: str, layer: nn.Module, targets: Targets, conv: bool) -> bool:
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return False
    if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1) and not conv:
        return False
    if targets == "attention":
        return name.endswith(_ATTENTION)
    if targets == "transformer":
        return ".attentions." in name
    return "_blocks." in name or name.startswith("mid_block.")


def text_layers(tower: ClipText, targets: Targets) -> list[str]:
    """Names of a text tower's layers that a LoRA changes: attention, or the MLPs too."""
    return [
        name
        for name, layer in tower.named_modules()
        if isinstance(layer, nn.Linear)
        and name.startswith("encoder.")
        and (targets != "attention" or name.endswith(_TEXT_ATTENTION))
    ]


def split_blocks(text: str) -> tuple[str, ...]:
    """The starts of layer names in a text with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def dora_axis(is_dora: bool, naming: str) -> DoraAxis | None:
    """Whose magnitudes a DoRA learns: those that the readers of a file format understand."""
    return ("input" if naming == "kohya" else "output") if is_dora else None
