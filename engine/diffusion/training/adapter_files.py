"""Trained adapters as LoRA files: in kohya's names or in those of diffusers and peft."""

from collections.abc import Mapping
from typing import Literal, get_args

from torch import Tensor

from engine.diffusion.keymap import PREFIXES, Source
from engine.diffusion.lora import TEXT_STARTS
from engine.diffusion.training.adapters import Adapter, Adapters

LoraFormat = Literal["kohya", "diffusers"]
LORA_FORMATS: tuple[LoraFormat, ...] = get_args(LoraFormat)


def lora_tensors(
    adapters: Adapters, family: str, sources: Mapping[str, Source], naming: LoraFormat
) -> dict[str, Tensor]:
    """The tensors of a LoRA file in fp32; `sources` are the denoiser's weights by our names.

    In diffusers' names the scale is part of the tensors: readers differ in where they seek it.
    """
    tensors: dict[str, Tensor] = {}
    for part, name, adapter in adapters.adapters():
        if naming == "kohya":
            tensors |= _kohya(adapter, kohya_name(part, name, family, sources))
        else:
            tensors |= _diffusers(adapter, diffusers_name(part, name))
    return {key: value.detach().float().cpu().contiguous() for key, value in tensors.items()}


def kohya_name(part: str, name: str, family: str, sources: Mapping[str, Source]) -> str:
    """`lora_unet_…` or `lora_te…_…`; SDXL's UNet has the names of the original layout there."""
    if part != "unet":
        starts = TEXT_STARTS[part]
        return starts[1 if family == "sdxl" and part == "l" else 0] + name.replace(".", "_")
    if family == "sdxl":
        key = sources[f"{name}.weight"].key
        name = key.removeprefix(PREFIXES["denoiser"]).removesuffix(".weight")
    return "lora_unet_" + name.replace(".", "_")


def diffusers_name(part: str, name: str) -> str:
    """`unet.…`, `text_encoder.text_model.…` or, of SDXL's second tower, `text_encoder_2.…`."""
    return "unet." + name if part == "unet" else TEXT_STARTS[part][-1] + name


def _kohya(adapter: Adapter, name: str) -> dict[str, Tensor]:
    rank = adapter.down.shape[0]
    tensors: dict[str, Tensor] = {
        f"{name}.lora_down.weight": adapter.down,
        f"{name}.lora_up.weight": adapter.up,
        f"{name}.alpha": adapter.down.new_tensor(adapter.scale * rank),
    }
    if adapter.magnitude is not None:
        ones = (1,) * (adapter.down.dim() - 2)
        shape = (1, -1, *ones) if adapter.axis == "input" else (-1, 1, *ones)
        tensors[f"{name}.dora_scale"] = adapter.magnitude.view(shape)
    return tensors


def _diffusers(adapter: Adapter, name: str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {
        f"{name}.lora_A.weight": adapter.down,
        f"{name}.lora_B.weight": adapter.up * adapter.scale,
    }
    if adapter.magnitude is not None:
        is_conv = adapter.down.dim() == 4
        magnitude = adapter.magnitude.view(1, -1, 1, 1) if is_conv else adapter.magnitude
        tensors[f"{name}.lora_magnitude_vector"] = magnitude
    return tensors
