"""The table of model families: each tells from a header whether a checkpoint is its own."""

from engine.api.errors import NotThisFamily
from engine.diffusion.families import (
    flux,
    sd1,
    sd2,
    sd2_unclip,
    sd3,
    sd_x4_upscaler,
    sdxl,
    sdxl_refiner,
)
from engine.diffusion.families.base import CheckpointLayout, ModelFamily
from engine.diffusion.weightfile import WeightFile

FAMILIES: tuple[ModelFamily, ...] = (
    sd1.FAMILY,
    sd2.FAMILY,
    sd2_unclip.FAMILY,
    sdxl.FAMILY,
    sdxl_refiner.FAMILY,
    sd_x4_upscaler.FAMILY,
    sd3.FAMILY,
    flux.FAMILY,
)


def identify(file: WeightFile) -> CheckpointLayout:
    """The layout of a checkpoint. Raises: NotThisFamily, with every family's reason."""
    reasons = []
    for family in FAMILIES:
        try:
            return family.match(file)
        except NotThisFamily as error:
            reasons.append(f"{family.title}: it {error.message}")
    raise NotThisFamily(
        f"{file.path.name} is no checkpoint of a known family. " + "; ".join(reasons) + ".",
        hint="A VAE, LoRA, ControlNet or embedding belongs in its own folder and loader.",
    )
