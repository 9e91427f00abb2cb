"""Stable Diffusion 2.x layouts: OpenCLIP text, linear projections, 64 channels a head."""

from dataclasses import replace

from engine.api.errors import NotThisFamily
from engine.diffusion.families.base import CheckpointLayout, ModelFamily, Prediction, TextLayout
from engine.diffusion.families.ldm import number, read_open_clip, read_unet, read_vae
from engine.diffusion.families.prediction import stated_prediction
from engine.diffusion.weightfile import WeightFile


def match(file: WeightFile) -> CheckpointLayout:
    """The parts of an SD2.x checkpoint. Raises: NotThisFamily."""
    unet = read_unet(file)
    if unet.adm is not None:
        raise NotThisFamily("has a vector input (label_emb)")
    if unet.classes is not None:
        raise NotThisFamily("has class labels (label_emb.weight)")
    if not unet.is_linear:
        raise NotThisFamily("has convolutions around its transformers")
    text = read_open_clip(file, "cond_stage_model.model.", name="h")
    if text is not None and text.width != unet.context_dim:
        raise NotThisFamily(f"has text width {text.width} but context width {unet.context_dim}")
    prediction = stated_prediction(file) or _guessed_prediction(file)
    return CheckpointLayout(
        family=FAMILY.name,
        unet=replace(unet, head_width=number(file, "weft.unet.head_width", 64)),
        vae=read_vae(file),
        text=(replace(text, layer=penultimate(text)),) if text else (),
        prediction=prediction,
        native_size=number(file, "weft.native_size", 768 if prediction == "v" else 512),
    )


def penultimate(text: TextLayout) -> int:
    """The layer before the last of OpenCLIP's 24; some files leave the last one out."""
    return -1 if text.layers == 23 else -2


def _guessed_prediction(file: WeightFile) -> Prediction:
    """What the weights themselves say, where the file does not.

    The biases of the last transformer's first norm spread wider in the v-prediction models.
    """
    key = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
    if key not in file:
        return "eps"
    return "v" if float(file.tensor(key).float().std(unbiased=False)) > 0.09 else "eps"


FAMILY = ModelFamily(name="sd2", title="Stable Diffusion 2.x", match=match)
