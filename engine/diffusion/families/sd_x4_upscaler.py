"""The SD x4 upscaler: a small picture beside the latent, and how noisy it was made.

Sizes and schedules: Stability AI's `configs/stable-diffusion/x4-upscaling.yaml` (MIT).
"""

from dataclasses import replace

from engine.api.errors import NotThisFamily
from engine.diffusion.families.base import CheckpointLayout, ModelFamily
from engine.diffusion.families.ldm import number, read_open_clip, read_unet, read_vae
from engine.diffusion.families.prediction import stated_prediction
from engine.diffusion.families.sd2 import penultimate
from engine.diffusion.latent_space import SD_X4
from engine.diffusion.weightfile import WeightFile


def match(file: WeightFile) -> CheckpointLayout:
    """The parts of an x4 upscaler. Raises: NotThisFamily."""
    unet = read_unet(file)
    if unet.classes is None:
        raise NotThisFamily("has no class labels (label_emb.weight) for the noise level")
    if unet.in_channels != unet.out_channels + 3:
        raise NotThisFamily(f"has {unet.in_channels} input channels for {unet.out_channels} and 3")
    text = read_open_clip(file, "cond_stage_model.model.", name="h")
    if text is not None and text.width != unet.context_dim:
        raise NotThisFamily(f"has text width {text.width} but context width {unet.context_dim}")
    return CheckpointLayout(
        family=FAMILY.name,
        unet=replace(unet, heads=number(file, "weft.unet.attention_heads", 8)),
        vae=read_vae(file),
        text=(replace(text, layer=penultimate(text)),) if text else (),
        prediction=stated_prediction(file) or "v",
        native_size=number(file, "weft.native_size", 512),
        space=SD_X4,
        betas=(0.0001, 0.02),
    )


FAMILY = ModelFamily(name="sd_x4_upscaler", title="Stable Diffusion x4 upscaler", match=match)
