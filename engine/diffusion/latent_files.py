"""Latents in files: safetensors under the ecosystem's names."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from engine.api.errors import CorruptFile
from engine.diffusion.finite import check_finite

if TYPE_CHECKING:
    from engine.api.types import LatentDict

SAMPLES = "latent_tensor"
UNSCALED = "latent_format_version_0"  # an empty tensor; older files hold scaled samples
OLD_SCALE = 0.18215


def latent_bytes(latent: "LatentDict", metadata: Mapping[str, str]) -> bytes:
    """A latent's samples as a file; masks and other keys are not kept."""
    samples = latent["samples"].contiguous()
    return save({SAMPLES: samples, UNSCALED: torch.zeros(0)}, metadata=dict(metadata))


def read_latent(path: Path) -> "LatentDict":
    """The latent in a file. Raises: CorruptFile; NodeError for values that are no numbers."""
    try:
        tensors = load_file(path)
        samples = tensors[SAMPLES].float()
    except (SafetensorError, KeyError, OSError) as error:
        raise CorruptFile(
            f"{path.name} is no latent: {error}.",
            hint=f"A latent file holds a tensor with the name {SAMPLES}.",
        ) from error
    check_finite(samples, f"{path.name} holds", "Save the latent again, or use another file.")
    return {"samples": samples if UNSCALED in tensors else samples / OLD_SCALE}
