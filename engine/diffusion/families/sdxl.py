"""SDXL base layouts: two text towers, a vector input, 64 channels a head."""

from dataclasses import replace

from engine.api.errors import NotThisFamily
from engine.diffusion.families.base import CheckpointLayout, ModelFamily, UnetLayout
from engine.diffusion.families.ldm import (
    number,
    read_clip,
    read_open_clip,
    read_unet,
    read_vae,
)
from engine.diffusion.families.prediction import stated_prediction
from engine.diffusion.latent_space import SDXL
from engine.diffusion.weightfile import WeightFile

VECTOR_NUMBER = 256  # channels of one number in the vector input


def match(file: WeightFile) -> CheckpointLayout:
    """The parts of an SDXL checkpoint. Raises: NotThisFamily."""
    unet = read_unet(file)
    if unet.adm is None:
        raise NotThisFamily("has no vector input (label_emb)")
    if "noise_augmentor.data_mean" in file:
        raise NotThisFamily("has the noise augmentor of unCLIP")
    if unet.depth[0]:
        raise NotThisFamily("has attention at its first level")
    if is_refiner(file, unet):
        raise NotThisFamily("has the vector input of the refiner")
    small = read_clip(file, "conditioner.embedders.0.transformer.", name="l")
    large = read_open_clip(file, "conditioner.embedders.1.model.", name="g")
    towers = []
    if small is not None and large is not None:
        if small.width + large.width != unet.context_dim:
            raise NotThisFamily(
                f"has text widths {small.width} + {large.width}, context {unet.context_dim}"
            )
        towers = [
            replace(small, layer=-2, normalizes=False),
            replace(large, layer=-2, normalizes=False),
        ]
    return CheckpointLayout(
        family=FAMILY.name,
        unet=replace(unet, head_width=number(file, "weft.unet.head_width", 64)),
        vae=read_vae(file),
        text=tuple(towers),
        space=SDXL,
        prediction=stated_prediction(file) or "eps",
        native_size=number(file, "weft.native_size", 1024),
        vector=("height", "width", "crop_h", "crop_w", "target_height", "target_width"),
    )


def is_refiner(file: WeightFile, unet: UnetLayout) -> bool:
    """Whether a file holds the refiner: one text tower, or a vector input as wide as it gives."""
    if "conditioner.embedders.0.model.token_embedding.weight" in file:
        return True
    has_text = "conditioner.embedders.1.model.token_embedding.weight" in file
    return not has_text and unet.adm == unet.context_dim + 5 * VECTOR_NUMBER


FAMILY = ModelFamily(name="sdxl", title="Stable Diffusion XL", match=match)
