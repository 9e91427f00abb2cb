"""Flux.1 layouts: double and single streams; dev with a guidance embedding, schnell without."""

from engine.diffusion.families.base import CheckpointLayout, ModelFamily
from engine.diffusion.families.joint_text import flux_towers
from engine.diffusion.families.ldm import number
from engine.diffusion.families.mmdit import read_any_vae, read_flux
from engine.diffusion.latent_space import FLUX
from engine.diffusion.weightfile import WeightFile


def match(file: WeightFile) -> CheckpointLayout:
    """The parts of a Flux checkpoint. Raises: NotThisFamily."""
    transformer = read_flux(file)
    return CheckpointLayout(
        family=FAMILY.name,
        unet=None,
        transformer=transformer,
        vae=read_any_vae(file),
        text=flux_towers(file),
        space=FLUX,
        sampling=("flux", 1.15) if transformer.has_guidance else ("flow", 1.0, 1.0),
        native_size=number(file, "weft.native_size", 1024),
    )


FAMILY = ModelFamily(name="flux", title="Flux.1", match=match)
