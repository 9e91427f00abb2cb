"""The built-in model's networks at their tiny sizes: diffusers' and transformers' own classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel

VAE_GROUPS = 8
UNET_GROUPS = 16
UNET_HEADS = 8
TEXT_HEADS = 2
TEXT_WIDTH = 128
TEXT_LAYERS = 3
CONTEXT_TOKENS = 77
VOCABULARY = 49408
LATENT_SCALE = 0.18215
_VAE_CONFIG: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (32, 32, 64, 64),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": VAE_GROUPS,
    "scaling_factor": LATENT_SCALE,
}
_UNET_CONFIG: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "block_out_channels": (64, 128),
    "layers_per_block": 1,
    "attention_head_dim": UNET_HEADS,
    "norm_num_groups": UNET_GROUPS,
    "cross_attention_dim": TEXT_WIDTH,
}


def make_vae() -> AutoencoderKL:
    """A four-channel, factor-8 autoencoder that starts as a plain one (log-variance -4)."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    vae = AutoencoderKL(**_VAE_CONFIG)
    assert vae.quant_conv is not None and vae.quant_conv.bias is not None
    with torch.no_grad():
        vae.quant_conv.weight[4:].zero_()
        vae.quant_conv.bias[4:] = -4.0
    return vae.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def make_unet() -> UNet2DConditionModel:
    """A two-level UNet with cross-attention at both levels."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet = UNet2DConditionModel(**_UNET_CONFIG)
    return unet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def make_text_encoder(vocabulary: int) -> CLIPTextModel:
    """A small causal CLIP text transformer over a compact vocabulary."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=TEXT_WIDTH,
        intermediate_size=TEXT_WIDTH * 4,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=TEXT_HEADS,
        max_position_embeddings=CONTEXT_TOKENS,
        hidden_act="quick_gelu",
        eos_token_id=2,  # take the pooled output at the first end token: our ids are not CLIP's
        bos_token_id=0,
        pad_token_id=1,
    )
    encoder = CLIPTextModel(config)
    nn.init.normal_(token_table(encoder), std=0.2)
    return encoder


def token_table(encoder: CLIPTextModel) -> nn.Parameter:
    """The encoder's token embedding matrix. Shapes: (vocabulary, width)."""
    for name, parameter in encoder.named_parameters():
        if name.endswith("token_embedding.weight"):
            return parameter
    raise AssertionError("a CLIP text model has a token embedding")
