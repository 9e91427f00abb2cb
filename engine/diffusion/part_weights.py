"""The weights of one part: as its file holds them, patched, unpacked, and given to a network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from engine.diffusion.checkpoint import PartSource
from engine.diffusion.patches import Change
from engine.diffusion.precision import is_channels_last

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


class BaseWeights:
    """The unpatched weights of one part of one file; each cast once and shared while it is used."""

    def __init__(self, source: PartSource) -> None:
        self.source = source
        self._shared: WeakValueDictionary[object, nn.Parameter] = WeakValueDictionary()

    def raw(self, name: str) -> Tensor:
        """A weight as the file holds it, mapped; what is packed or scaled there comes in fp32."""
        found, file = self.source.sources[name], self.source.file
        tensor = file.tensor(found.key)
        scale = self._scale(name)
        if scale is not None:
            tensor = tensor.float() * file.tensor(scale).float()
        return found.read(tensor)

    def is_packed(self, name: str) -> bool:
        """Whether a weight must be unpacked before it can be computed with."""
        info = self.source.file.infos[self.source.sources[name].key]
        return info.packed is not None or info.dtype in FP8

    def packed_bytes(self, name: str) -> int:
        """How many bytes of the file a weight takes."""
        info = self.source.file.infos[self.source.sources[name].key]
        return info.packed_bytes if info.packed else info.size_bytes

    def _scale(self, name: str) -> str | None:
        """The key of an fp8 weight's scale, by either of its customary names."""
        key = self.source.sources[name].key
        if self.source.file.infos[key].dtype not in FP8:
            return None
        start = key.removesuffix("weight")
        names = (f"{start}scale_weight", f"{start}weight_scale")
        return next((n for n in names if n in self.source.file), None)

    def stored_dtype(self, name: str) -> torch.dtype:
        """The type in which the file holds a weight."""
        return self.source.file.infos[self.source.sources[name].key].dtype

    def shared(self, name: str, device: torch.device, dtype: torch.dtype | None) -> nn.Parameter:
        """A weight for a network; the same tensor for all that use it at the same time."""
        dtype = dtype or self.stored_dtype(name)
        key = (name, device, dtype)
        parameter = self._shared.get(key)
        if parameter is None:
            parameter = _parameter(self.raw(name), device, dtype)
            self._shared[key] = parameter
        return parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWeights:
    """The weights of one recipe by our names: what its patches change, and each one in fp32."""

    base: BaseWeights
    changed: frozenset[str]
    value: Callable[[str], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeWeights:
    """The weights of one recipe; with `dtype` None they stay as the file holds them.

    Packed weights, and with `storage` matrices rounded to it, are unpacked for each call of their
    layer and dropped after it; with `is_streamed` all weights are.
    """

    base: BaseWeights
    changes: Mapping[str, Sequence[Change]]
    device: torch.device
    dtype: torch.dtype | None
    storage: torch.dtype | None = None
    is_streamed: bool = False

    def attach(self, module: nn.Module, *, at_once: bool = False) -> None:
        """Gives a module its weights: mapped ones at once, others when their layer first runs."""
        # These read their output layer's weights without calling it.
        unseen = [m.out_proj for m in module.modules() if isinstance(m, nn.MultiheadAttention)]
        for prefix, layer in module.named_modules():
            own = [
                (local, f"{prefix}.{local}" if prefix else local)
                for local, _ in (
                    *layer.named_parameters(recurse=False),
                    *layer.named_buffers(recurse=False),
                )
            ]
            is_ready = all(self._is_mapped(n) and n not in self.changes for _, n in own)
            if any(layer is m for m in unseen):
                self._attach_now(layer, own)
            elif own and (self.is_streamed or any(self._is_transient(name) for _, name in own)):
                self._attach_each_run(layer, own)
            elif not at_once and not is_ready:
                self._attach_on_first_run(layer, own)
            else:
                self._attach_now(layer, own)

    def copy_into(self, module: nn.Module) -> None:
        """Gives a module weights that nothing else shares, frozen as yet."""
        for prefix, layer in module.named_modules():
            for local, _ in list(layer.named_parameters(prefix="", recurse=False)):
                weight = self.changed(f"{prefix}.{local}" if prefix else local)
                setattr(layer, local, nn.Parameter(weight.clone(), requires_grad=False))

    def changed(self, name: str) -> Tensor:
        """A weight in fp32 with the patches applied."""
        weight = self.base.raw(name).to(self.device, torch.float32)
        for change in self.changes.get(name, ()):
            weight = change(weight)
        return weight

    def sizes(self, module: nn.Module) -> tuple[int, int, int]:
        """Bytes of memory of its own, of memory shared with the base, and of mapped file."""
        own = shared = mapped = 0
        for name, parameter in module.state_dict().items():
            count = parameter.numel() * (self.dtype or self.base.stored_dtype(name)).itemsize
            if self._is_transient(name):
                if self.base.is_packed(name):
                    mapped += self.base.packed_bytes(name)
                else:
                    own += parameter.numel()
            elif name in self.changes:
                own += count
            elif self._is_mapped(name):
                mapped += count
            else:
                shared += count
        return own, shared, mapped

    def _is_mapped(self, name: str) -> bool:
        if is_channels_last(self.dtype, self.base.source.shape(name)):
            return False
        return self.device.type == "cpu" and self.dtype in (None, self.base.stored_dtype(name))

    def _is_transient(self, name: str) -> bool:
        """Whether a weight is unpacked for each call. Changed ones are computed once and kept."""
        return name not in self.changes and (self.base.is_packed(name) or self._is_rounded(name))

    def _is_rounded(self, name: str) -> bool:
        shape = self.base.source.shape(name)
        return self.storage is not None and name.endswith(".weight") and len(shape) > 1

    def _attach_each_run(self, layer: nn.Module, own: list[tuple[str, str]]) -> None:
        """Weights come before each call of a layer and go after it; `kept` are those that stay."""
        empty = {local: getattr(layer, local) for local, _ in own}
        kept: dict[str, Tensor] = {}

        def come(layer: nn.Module, _: Any) -> None:
            for local, name in own:
                setattr(layer, local, self._transient(name, kept))

        def go(layer: nn.Module, _: Any, __: Any) -> None:
            for local, _ in own:
                setattr(layer, local, empty[local])

        layer.register_forward_pre_hook(come)
        layer.register_forward_hook(go, always_call=True)

    def _transient(self, name: str, kept: dict[str, Tensor]) -> Tensor:
        """A weight for one call."""
        if self._is_transient(name) and not self.base.is_packed(name):
            if self.is_streamed:
                return self._computed(self.base.raw(name).to(self.device, self.storage))
            if name not in kept:
                kept[name] = self.base.raw(name).to(self.device, self.storage)
            return self._computed(kept[name])
        if self._is_transient(name):
            return self._computed(self.base.raw(name))
        if self.is_streamed:
            return self._parameter(name)
        if name not in kept:
            kept[name] = self._parameter(name)
        return kept[name]

    def _computed(self, weight: Tensor) -> nn.Parameter:
        """A packed weight in the type it is computed in."""
        return _parameter(weight, self.device, self.dtype or torch.float32)

    def _attach_now(self, layer: nn.Module, own: list[tuple[str, str]]) -> None:
        for local, name in own:
            setattr(layer, local, self._parameter(name))

    def _attach_on_first_run(self, layer: nn.Module, own: list[tuple[str, str]]) -> None:
        def attach(layer: nn.Module, _: Any) -> None:
            self._attach_now(layer, own)
            handle.remove()

        handle = layer.register_forward_pre_hook(attach)

    def _parameter(self, name: str) -> nn.Parameter:
        if name not in self.changes:
            return self.base.shared(name, self.device, self.dtype)
        dtype = self.dtype or self.base.stored_dtype(name)
        return _parameter(self.changed(name), self.device, dtype)


def _parameter(weight: Tensor, device: torch.device, dtype: torch.dtype) -> nn.Parameter:
    """A weight as its network computes with it."""
    weight = weight.to(device, dtype)
    if is_channels_last(dtype, weight.shape):
        weight = weight.contiguous(memory_format=torch.channels_last)
    return nn.Parameter(weight, requires_grad=False)


# The types in which a recipe's option `storage` may keep matrices.
STORAGE = {"fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
