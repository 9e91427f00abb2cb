"""Stable Diffusion 3 and 3.5 layouts: a joint transformer of text and picture, flow matching."""

from engine.diffusion.families.base import CheckpointLayout, ModelFamily
from engine.diffusion.families.joint_text import sd3_towers
from engine.diffusion.families.ldm import number
from engine.diffusion.families.mmdit import read_any_vae, read_sd3
from engine.diffusion.latent_space import SD3
from engine.diffusion.weightfile import WeightFile


def match(file: WeightFile) -> CheckpointLayout:
    """The parts of an SD3 or SD3.5 checkpoint, medium or large. Raises: NotThisFamily."""
    return CheckpointLayout(
        family=FAMILY.name,
        unet=None,
        transformer=read_sd3(file),
        vae=read_any_vae(file),
        text=sd3_towers(file),
        space=SD3,
        sampling=("flow", 3.0, 1000.0),
        native_size=number(file, "weft.native_size", 1024),
    )


FAMILY = ModelFamily(name="sd3", title="Stable Diffusion 3", match=match)
