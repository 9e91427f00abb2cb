"""Tiny random checkpoints of each family in its single-file layout, for tests."""

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file

from tests.tiny_checkpoint import (
    TINY_METADATA,
    Keys,
    clip_keys,
    fill,
    open_clip_keys,
    tiny_keys,
    unet_keys,
    vae_keys,
)
from tests.tiny_transformer import whole_flux_keys, whole_sd3_keys


def sd2_keys() -> Keys:
    keys = Keys()
    unet_keys(keys, is_linear=True)
    vae_keys(keys)
    open_clip_keys(keys, "cond_stage_model.model.")
    return keys


def sdxl_keys() -> Keys:
    keys = Keys()
    unet_keys(keys, depth=(0, 2), middle_depth=2, context=32, is_linear=True, adm=1552)
    vae_keys(keys)
    clip_keys(keys, "conditioner.embedders.0.transformer.text_model.")
    open_clip_keys(keys, "conditioner.embedders.1.model.")
    return keys


def sd2_unclip_keys() -> Keys:
    keys = Keys()
    unet_keys(keys, is_linear=True, adm=16)
    vae_keys(keys)
    open_clip_keys(keys, "cond_stage_model.model.")
    for name in ("mean", "std"):
        keys[f"noise_augmentor.data_{name}"] = ((1, 8), 0.1, 1.0)
    return keys


def sdxl_refiner_keys() -> Keys:
    keys = Keys()
    unet_keys(keys, depth=(0, 1), context=16, is_linear=True, adm=16 + 5 * 256)
    vae_keys(keys)
    open_clip_keys(keys, "conditioner.embedders.0.model.")
    return keys


def sd_x4_upscaler_keys() -> Keys:
    keys = Keys()
    unet_keys(
        keys,
        mult=(1, 2, 4),
        depth=(0, 1, 1),
        context=16,
        inputs=7,
        is_linear=True,
        classes=1000,
        only_cross=(False, True, False),
    )
    vae_keys(keys, mult=(1, 2, 2))
    open_clip_keys(keys, "cond_stage_model.model.")
    return keys


KEYS: dict[str, Callable[[], Keys]] = {
    "sd1": tiny_keys,
    "sd2": sd2_keys,
    "sd2_unclip": sd2_unclip_keys,
    "sdxl": sdxl_keys,
    "sdxl_refiner": sdxl_refiner_keys,
    "sd3": whole_sd3_keys,
    "flux": whole_flux_keys,
    "sd_x4_upscaler": sd_x4_upscaler_keys,
}


def write_family(path: Path, family: str, seed: int = 0, **metadata: str) -> Path:
    """Writes a tiny checkpoint of a family; gives the path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(fill(KEYS[family](), seed), path, metadata=TINY_METADATA | metadata)
    return path
