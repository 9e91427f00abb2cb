"""A rough picture of a latent, without a VAE."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# Red, green and blue of each latent channel, by family.
# Source: linear fits by keturn for Stable Diffusion 1 (Hugging Face forum, 2022) and by InvokeAI
# (Apache-2.0) for SDXL.
_SD1 = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
)
_SDXL = (
    (0.3816, 0.4930, 0.5320),
    (-0.3753, 0.1631, 0.1739),
    (0.1770, 0.3588, -0.2048),
    (-0.4350, -0.2644, -0.4289),
)
FACTORS: Mapping[str, Sequence[Sequence[float]]] = {
    "sd1": _SD1,
    "sd2": _SD1,
    "sd2_unclip": _SD1,
    "sdxl": _SDXL,
}


def latent_preview(latent: Tensor, factors: Sequence[Sequence[float]] | None) -> Tensor:
    """The first item of a scaled latent as a picture; without factors by its first channels.

    Shapes: (B, C, h, w) -> (1, h, w, 3) 0..1.
    """
    item = latent[0].float().cpu()
    table = torch.tensor(factors) if factors else torch.eye(item.shape[0], 3) / 2
    picture = torch.einsum("chw,cr->hwr", item, table)
    return ((picture + 1) / 2).clamp(0, 1)[None]
