"""A rough picture of a latent, without a VAE."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Source: keturn's linear fit for Stable Diffusion 1 (Hugging Face forum, 2022).
SD1_FACTORS = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
)


def latent_preview(latent: Tensor, factors: Sequence[Sequence[float]] | None = None) -> Tensor:
    """The first item of a scaled latent as a picture.

    Shapes: (B, C, h, w) -> (1, h, w, 3) 0..1.
    """
    table = torch.tensor(factors or SD1_FACTORS)
    item = latent[0].float().cpu()
    if table.shape[0] != item.shape[0]:
        table = torch.eye(item.shape[0], 3)
    picture = torch.einsum("chw,cr->hwr", item, table)
    return ((picture + 1) / 2).clamp(0, 1)[None]
