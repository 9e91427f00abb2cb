"""Operations on pictures (B, H, W, C) 0..1. Never changes its inputs."""

import numpy as np
from PIL import Image
from torch import Tensor


def to_pil(image: Tensor) -> Image.Image:
    """One picture (H, W, 1, 3 or 4) as 8 bit."""
    array = (255.0 * image.detach().cpu().numpy()).clip(0, 255).astype(np.uint8)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
