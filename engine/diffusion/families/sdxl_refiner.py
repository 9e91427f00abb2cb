"""SDXL refiner layouts: one text tower, and the picture's aesthetic score in the vector input."""

from dataclasses import replace

from engine.api.errors import NotThisFamily
from engine.diffusion.families.base import CheckpointLayout, ModelFamily
from engine.diffusion.families.ldm import number, read_open_clip, read_unet, read_vae
from engine.diffusion.families.prediction import stated_prediction
from engine.diffusion.families.sdxl import is_refiner
from engine.diffusion.latent_space import SDXL
from engine.diffusion.weightfile import WeightFile


def match(file: WeightFile) -> CheckpointLayout:
    """The parts of a refiner checkpoint. Raises: NotThisFamily."""
    unet = read_unet(file)
    if unet.adm is None:
        raise NotThisFamily("has no vector input (label_emb)")
    if unet.depth[0]:
        raise NotThisFamily("has attention at its first level")
    if not is_refiner(file, unet):
        raise NotThisFamily(f"has a vector input of {unet.adm} for a text of {unet.context_dim}")
    text = read_open_clip(file, "conditioner.embedders.0.model.", name="g")
    if text is not None and text.width != unet.context_dim:
        raise NotThisFamily(f"has text width {text.width} but context width {unet.context_dim}")
    return CheckpointLayout(
        family=FAMILY.name,
        unet=replace(unet, head_width=number(file, "weft.unet.head_width", 64)),
        vae=read_vae(file),
        text=(replace(text, layer=-2, normalizes=False),) if text else (),
        prediction=stated_prediction(file) or "eps",
        native_size=number(file, "weft.native_size", 1024),
        space=SDXL,
        vector=("height", "width", "crop_h", "crop_w", "aesthetic_score"),
    )


FAMILY = ModelFamily(name="sdxl_refiner", title="Stable Diffusion XL refiner", match=match)
