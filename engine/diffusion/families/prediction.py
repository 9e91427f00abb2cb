"""What a checkpoint says about its prediction type: metadata and marker keys."""

from engine.diffusion.families.base import Prediction
from engine.diffusion.weightfile import WeightFile


def stated_prediction(file: WeightFile) -> Prediction | None:
    """`v` or `eps` where the file says so, else None."""
    for name in ("modelspec.prediction_type", "weft.prediction"):
        text = file.metadata.get(name, "").lower()
        if text in ("v", "v_prediction", "v-prediction"):
            return "v"
        if text in ("eps", "epsilon"):
            return "eps"
    return "v" if "v_pred" in file else None
