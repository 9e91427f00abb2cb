"""The files that published workflows name, tiny and random, in the layouts of the real ones.

None has metadata of ours: everything is told apart as in the real files.
"""

from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from engine.diffusion.upscaler import Esrgan, EsrganLayout
from tests.tiny_checkpoint import (
    Keys,
    clip_keys,
    control_keys,
    fill,
    open_clip_keys,
    unet_keys,
    vae_keys,
)
from tests.tiny_parts import gligen_weights, real_esrgan_names

TEXT = 64  # one head of CLIP's
LORAS = ("epiNoiseoffset_v2", "theovercomer8sContrastFix_sd15")


def _vae(keys: Keys, prefix: str = "first_stage_model.") -> Keys:
    vae_keys(keys, prefix, width=32, mult=(1, 1, 1, 1))
    return keys


def sd1(inputs: int = 4) -> Keys:
    keys = Keys()
    unet_keys(keys, context=TEXT, inputs=inputs)
    clip_keys(keys, width=TEXT)
    return _vae(keys)


def sd2(inputs: int = 4) -> Keys:
    keys = Keys()
    unet_keys(keys, width=64, context=TEXT, inputs=inputs, is_linear=True)
    open_clip_keys(keys, "cond_stage_model.model.", width=TEXT)
    return _vae(keys)


def sdxl() -> Keys:
    keys = Keys()
    sizes = {"depth": (0, 2), "middle_depth": 2, "context": 2 * TEXT, "adm": TEXT + 6 * 256}
    unet_keys(keys, width=64, is_linear=True, **sizes)
    clip_keys(keys, "conditioner.embedders.0.transformer.text_model.", width=TEXT)
    open_clip_keys(keys, "conditioner.embedders.1.model.", width=TEXT)
    return _vae(keys)


def sdxl_refiner() -> Keys:
    keys = Keys()
    sizes = {"depth": (0, 1), "context": TEXT, "adm": TEXT + 5 * 256}
    unet_keys(keys, width=64, is_linear=True, **sizes)
    open_clip_keys(keys, "conditioner.embedders.0.model.", width=TEXT)
    return _vae(keys)


def controlnet() -> Keys:
    keys = Keys()
    control_keys(keys, context=TEXT)
    return keys


def lora() -> Keys:
    """A kohya LoRA for an attention of the UNet and one of the text encoder."""
    keys = Keys()
    for module, width in (
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", 32),
        ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", TEXT),
    ):
        keys.weight(f"{module}.lora_down.weight", 2, width)
        keys.weight(f"{module}.lora_up.weight", width, 2)
        keys[f"{module}.alpha"] = ((), 0.0, 1.0)
    return keys


def vision_tower() -> dict[str, Tensor]:
    config = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=1,
        image_size=28,
        patch_size=14,
        projection_dim=TEXT,
        initializer_factor=20.0,
    )
    torch.manual_seed(1)
    return CLIPVisionModelWithProjection(config).state_dict()


def upscaler() -> dict[str, Tensor]:
    torch.manual_seed(2)
    sizes = {"in_channels": 3, "out_channels": 3, "width": 8, "growth": 4, "blocks": 1}
    return real_esrgan_names(Esrgan(EsrganLayout(**sizes, doublings=2)))


def write(path: Path, weights: Keys | dict[str, Tensor], *wrapped: str) -> None:
    """As safetensors, or pickled as the ending says, below the names of dicts around it."""
    tensors = fill(weights, seed=len(path.name)) if isinstance(weights, Keys) else weights
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in tensors.items()}, path)
        return
    content: object = tensors
    for name in wrapped:
        content = {name: content, "global_step": 1}
    torch.save(content, path)


def write_pictures(folder: Path) -> None:
    """A photo, the same with a hole, a pose and a depth map; 128 px wide."""
    folder.mkdir(parents=True)
    slope = Image.linear_gradient("L").resize((128, 96))
    photo = Image.merge(
        "RGB",
        (slope, slope.rotate(180), slope.transpose(Image.Transpose.ROTATE_90).resize((128, 96))),
    )
    photo.paste((200, 60, 40), (40, 25, 75, 60))
    photo.save(folder / "photo.png")
    hole = Image.new("L", photo.size, 255)
    hole.paste(0, (30, 20, 84, 70))
    photo.putalpha(hole)
    photo.save(folder / "photo_with_hole.png")
    Image.radial_gradient("L").resize((128, 128)).save(folder / "depth.png")
    pose = Image.new("RGB", (128, 192))
    for n, box in enumerate(((62, 25, 65, 100), (37, 55, 90, 58), (50, 100, 53, 175))):
        pose.paste(((255, 85 * n, 0)), box)
    pose.save(folder / "pose.png")


def write_all(base: Path) -> None:
    """Everything that the workflows name, below `base`."""
    models = base / "models"
    checkpoints, control = models / "checkpoints", models / "controlnet"
    write(checkpoints / "v1-5-pruned-emaonly.ckpt", sd1(), "state_dict")
    (checkpoints / "Anything-V3.0.ckpt").hardlink_to(checkpoints / "v1-5-pruned-emaonly.ckpt")
    write(checkpoints / "sd-v1-5-inpainting.ckpt", sd1(inputs=9), "state_dict")
    write(checkpoints / "512-inpainting-ema.safetensors", sd2(inputs=9))
    write(checkpoints / "v2-1_768-ema-pruned.safetensors", sd2())
    write(checkpoints / "sd_xl_base_1.0.safetensors", sdxl())
    turbo = checkpoints / "sd_xl_turbo_1.0_fp16.safetensors"
    turbo.hardlink_to(checkpoints / "sd_xl_base_1.0.safetensors")
    write(checkpoints / "sd_xl_refiner_1.0.safetensors", sdxl_refiner())
    write(models / "vae/vae-ft-mse-840000-ema-pruned.safetensors", _vae(Keys(), ""))
    write(models / "vae/kl-f8-anime2.ckpt", _vae(Keys(), ""), "state_dict")
    write(control / "control_v11p_sd15_openpose.pth", controlnet())
    write(control / "control_v11f1p_sd15_depth.safetensors", controlnet())
    write(control / "control_v11p_sd15_canny.safetensors", controlnet())
    for name in LORAS:
        write(models / f"loras/{name}.safetensors", lora())
    write(models / "gligen/gligen_sd14_textbox_pruned.safetensors", gligen_weights(TEXT))
    write(models / "clip_vision/clip_vision_g.safetensors", vision_tower())
    write(models / "upscale_models/RealESRGAN_x4plus.pth", upscaler(), "params_ema")
    write_pictures(base / "input")
