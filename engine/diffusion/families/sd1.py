"""Stable Diffusion 1.x layouts of any width: plain, inpainting (9 inputs), InstructPix2Pix (8)."""

from dataclasses import replace

from engine.api.errors import NotThisFamily
from engine.diffusion.families.base import CheckpointLayout, ModelFamily
from engine.diffusion.families.ldm import CLIP_L, latent_rgb, number, read_clip, read_unet, read_vae
from engine.diffusion.families.prediction import stated_prediction
from engine.diffusion.weightfile import WeightFile


def match(file: WeightFile) -> CheckpointLayout:
    """The parts of an SD1.x checkpoint. Raises: NotThisFamily."""
    unet = read_unet(file)
    if unet.adm is not None:
        raise NotThisFamily("has a vector input (label_emb)")
    if unet.classes is not None:
        raise NotThisFamily("has class labels (label_emb.weight)")
    if unet.is_linear:
        raise NotThisFamily("has linear projections around its transformers")
    text = read_clip(file, CLIP_L)
    if text is not None and text.width != unet.context_dim:
        raise NotThisFamily(f"has text width {text.width} but context width {unet.context_dim}")
    return CheckpointLayout(
        family=FAMILY.name,
        unet=replace(unet, heads=number(file, "weft.unet.attention_heads", 8)),
        vae=read_vae(file),
        text=(text,) if text else (),
        prediction=stated_prediction(file) or "eps",
        native_size=number(file, "weft.native_size", 512),
        latent_rgb=latent_rgb(file),
    )


FAMILY = ModelFamily(name="sd1", title="Stable Diffusion 1.x", match=match)
