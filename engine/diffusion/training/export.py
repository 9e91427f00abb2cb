"""The built-in model as one single file in the Stable Diffusion 1.x layout, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.diffusion.keymap import from_ldm, to_ldm
from engine.diffusion.training.networks import (
    TEXT_HEADS,
    UNET_GROUPS,
    UNET_HEADS,
    VAE_GROUPS,
    VOCABULARY,
    make_text_encoder,
    make_unet,
    make_vae,
)

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """The three networks of a model, ready to sample."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: CLIPTextModel


def scatter_tokens(compact: Tensor, clip_ids: Iterable[int]) -> Tensor:
    """The full embedding: trained rows at CLIP's ids, zero elsewhere. Shapes: (49408, width).

    An unknown word then says nothing instead of noise, and zero rows compress to nothing.
    """
    full = torch.zeros(VOCABULARY, compact.shape[1])
    for row, clip_id in zip(compact, clip_ids, strict=True):
        if clip_id >= 0:
            full[clip_id] = row
    return full


def single_file_tensors(networks: Networks, clip_ids: Iterable[int]) -> dict[str, Tensor]:
    """All weights under the layout's names, float16; the latent scale must be folded already."""
    text = {
        key: scatter_tokens(value, clip_ids) if key.endswith("token_embedding.weight") else value
        for key, value in networks.text.state_dict().items()
        if not key.endswith("position_ids")
    }
    tensors = (
        to_ldm("denoiser", networks.unet.state_dict())
        | to_ldm("vae", networks.vae.state_dict())
        | to_ldm("text", text)
    )
    return {name: value.detach().half().contiguous().clone() for name, value in tensors.items()}


def write_single_file(
    path: Path, tensors: dict[str, Tensor], native_size: int, extra: Mapping[str, str]
) -> None:
    """Writes the file atomically; its metadata holds what a loader cannot infer from shapes."""
    metadata = {
        "format": "pt",
        "modelspec.title": "Weft built-in model",
        "modelspec.license": "Apache-2.0",
        "weft.family": "sd1",
        "weft.unet.norm_num_groups": str(UNET_GROUPS),
        "weft.unet.attention_heads": str(UNET_HEADS),
        "weft.vae.norm_num_groups": str(VAE_GROUPS),
        "weft.text.heads": str(TEXT_HEADS),
        "weft.native_size": str(native_size),
        **extra,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata)
    partial.chmod(0o644)
    partial.replace(path)


def read_single_file(path: Path) -> Networks:
    """The networks of a file that this module wrote."""
    tensors = {name: value.float() for name, value in load_file(path).items()}
    networks = Networks(unet=make_unet(), vae=make_vae(), text=make_text_encoder(VOCABULARY))
    networks.unet.load_state_dict(from_ldm("denoiser", tensors))
    networks.vae.load_state_dict(from_ldm("vae", tensors))
    own = set(networks.text.state_dict())
    state = from_ldm("text", tensors)
    prefix = "" if next(iter(state)) in own else "text_model."
    networks.text.load_state_dict({prefix + key: value for key, value in state.items()})
    for part in (networks.unet, networks.vae, networks.text):
        part.eval().requires_grad_(False)
    return networks
