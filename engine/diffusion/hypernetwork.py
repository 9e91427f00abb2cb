"""Hypernetworks: small networks that change what attention layers read, as hooks.

The format: for each width of what attention reads (text or picture) two stacks of layers, the first
for keys, the second for values; each adds its output to its input. Names are
`WIDTH.{0|1}.linear.N.{weight|bias}`, in old files `WIDTH.{0|1}.linear{1|2}.…`; matrices are linear
layers, vectors layer norms. Beside them `activation_func`, and `activate_output` (true where it is
not said) for whether the last linear layer has one too.
Source: Ha et al. 2016 (HyperNetworks, arXiv 1609.09106) for the idea.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

from engine.api.errors import CorruptFile, ModelError
from engine.api.recipe import Hook, Recipe
from engine.diffusion.weightfile import WeightFile, open_weights

_KEY = re.compile(r"(\d+)\.([01])\.linear\.?(\d+)\.(weight|bias)")
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leakyrelu": F.leaky_relu,
    "elu": F.elu,
    "swish": F.hardswish,  # so the format calls it
    "hardswish": F.hardswish,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "selu": F.selu,
    "celu": F.celu,
    "relu6": F.relu6,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "hardtanh": F.hardtanh,
    "hardsigmoid": F.hardsigmoid,
    "tanhshrink": F.tanhshrink,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "logsigmoid": F.logsigmoid,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Layers (weight, bias) one after the other; a vector as weight is a layer norm."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    activation: str | None
    activates_output: bool

    def __call__(self, x: Tensor) -> Tensor:
        """The change of x. Shapes: (B, T, C) -> (B, T, C)."""
        last = max(n for n, (weight, _) in enumerate(self.layers) if weight.dim() == 2)
        for n, (weight, bias) in enumerate(self.layers):
            weight, bias = weight.to(x), bias.to(x)
            if weight.dim() == 1:
                x = F.layer_norm(x, weight.shape, weight, bias)
                continue
            x = F.linear(x, weight, bias)
            if self.activation and (n < last or self.activates_output):
                x = ACTIVATIONS[self.activation](x)
        return x


@dataclass(frozen=True, kw_only=True)
class Hypernetwork:
    """The stacks of a file by the width that they fit: for keys and for values."""

    stacks: Mapping[int, tuple[Stack, Stack]]
    strength: float
    _moved: dict[tuple[int, torch.device], tuple[Stack, Stack]] = field(default_factory=dict)

    def patch(
        self, q: Tensor, k: Tensor, v: Tensor, extra: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The `attn1_patch` and `attn2_patch`."""
        pair = self._pair(k.shape[-1], k.device)
        if pair is None:
            return q, k, v
        return q, k + pair[0](k) * self.strength, v + pair[1](v) * self.strength

    def _pair(self, width: int, device: torch.device) -> tuple[Stack, Stack] | None:
        pair = self.stacks.get(width)
        if pair is None or device.type == "cpu":
            return pair
        if (width, device) not in self._moved:
            first, second = (_on(stack, device) for stack in pair)
            self._moved[width, device] = (first, second)
        return self._moved[width, device]


def _on(stack: Stack, device: torch.device) -> Stack:
    layers = tuple((weight.to(device), bias.to(device)) for weight, bias in stack.layers)
    return Stack(
        layers=layers, activation=stack.activation, activates_output=stack.activates_output
    )


def with_hypernetwork(
    model: Recipe, path: Path, digest: str, strength: float, context_dim: int
) -> Recipe:
    """A model whose attention reads through a hypernetwork; the model itself at a strength of 0.

    Raises: CorruptFile; ModelError, for a file of another kind, or made for other text.
    """
    stacks = read_hypernetwork(open_weights(path))
    if context_dim not in stacks:
        raise ModelError(
            f"The hypernetwork {path.name} reads widths {', '.join(map(str, sorted(stacks)))}, but "
            f"the model's text is {context_dim} wide.",
            hint="Use a hypernetwork that was trained on the model's family.",
        )
    if strength == 0:
        return model
    patch = Hypernetwork(stacks=stacks, strength=strength).patch
    key = f"hypernetwork:{digest}:{strength}"
    for slot in ("attn1_patch", "attn2_patch"):
        model = model.with_hook(Hook(slot=slot, function=patch, key=key), append=True)
    return model


def read_hypernetwork(file: WeightFile) -> dict[int, tuple[Stack, Stack]]:
    """The stacks of a file. Raises: CorruptFile, ModelError."""
    activation = json.loads(file.metadata.get("activation_func", "null"))
    activation = None if activation in (None, "", "linear") else str(activation).lower()
    if activation is not None and activation not in ACTIVATIONS:
        raise ModelError(
            f"The hypernetwork {file.path.name} has the unknown activation {activation}.",
            hint=f"Known are {', '.join(ACTIVATIONS)}.",
        )
    activates_output = json.loads(file.metadata.get("activate_output", "true")) is not False
    layers: dict[tuple[int, int], dict[int, dict[str, str]]] = {}
    for key in file.infos:
        if match := _KEY.fullmatch(key):
            width, side, number, kind = match.groups()
            place = layers.setdefault((int(width), int(side)), {})
            place.setdefault(int(number), {})[kind] = key
    if not layers:
        raise ModelError(
            f"{file.path.name} holds no hypernetwork: it has no key such as 768.0.linear.0.weight.",
            hint="Choose a file from the hypernetworks folder.",
        )
    stacks: dict[int, tuple[Stack, Stack]] = {}
    for width in sorted({width for width, _ in layers}):
        first, second = (
            Stack(
                layers=tuple(_layers(file, width, layers.get((width, side), {}))),
                activation=activation,
                activates_output=activates_output,
            )
            for side in (0, 1)
        )
        stacks[width] = (first, second)
    return stacks


def _layers(
    file: WeightFile, width: int, keys: Mapping[int, Mapping[str, str]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The layers of a stack in order. Raises: CorruptFile, where they do not fit together."""
    size = width
    for _, found in sorted(keys.items()):
        if sorted(found) != ["bias", "weight"]:
            raise _odd(file, width)
        weight, bias = file.tensor(found["weight"]), file.tensor(found["bias"])
        if weight.dim() not in (1, 2) or weight.shape[-1] != size or bias.dim() != 1:
            raise _odd(file, width)
        size = weight.shape[0]
        if bias.shape[0] != size:
            raise _odd(file, width)
        yield weight.float(), bias.float()
    if size != width or not keys:
        raise _odd(file, width)


def _odd(file: WeightFile, width: int) -> CorruptFile:
    return CorruptFile(
        f"{file.path.name}: the layers of the hypernetwork for the width {width} do not fit "
        "together.",
        hint="Copy or download the file again.",
    )
