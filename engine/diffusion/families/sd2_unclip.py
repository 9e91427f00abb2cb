"""Stable Diffusion 2.1 unCLIP layouts: 2.x with a picture's CLIP embeds as vector input."""

from dataclasses import replace

from engine.api.errors import NotThisFamily
from engine.diffusion.families.base import CheckpointLayout, ModelFamily
from engine.diffusion.families.ldm import number, read_open_clip, read_unet, read_vae, sizes
from engine.diffusion.families.prediction import stated_prediction
from engine.diffusion.unclip import MEAN
from engine.diffusion.weightfile import WeightFile


def match(file: WeightFile) -> CheckpointLayout:
    """The parts of an unCLIP checkpoint. Raises: NotThisFamily."""
    unet = read_unet(file)
    width = sizes(file, MEAN, 2)[1]
    if unet.adm != 2 * width:
        raise NotThisFamily(f"has a vector input of {unet.adm} for CLIP embeds of {width}")
    text = read_open_clip(file, "cond_stage_model.model.", name="h")
    if text is not None and text.width != unet.context_dim:
        raise NotThisFamily(f"has text width {text.width} but context width {unet.context_dim}")
    return CheckpointLayout(
        family=FAMILY.name,
        unet=replace(unet, head_width=number(file, "weft.unet.head_width", 64)),
        vae=read_vae(file),
        text=(replace(text, layer=-2),) if text else (),
        prediction=stated_prediction(file) or "v",
        native_size=number(file, "weft.native_size", 768),
    )


FAMILY = ModelFamily(name="sd2_unclip", title="Stable Diffusion 2.1 unCLIP", match=match)
