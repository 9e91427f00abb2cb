"""Whether values are numbers: NaN and infinity are told at the node where they first appear."""

import torch
from torch import Tensor

from engine.api.errors import NodeError


def check_finite(x: Tensor, what: str, hint: str) -> None:
    """Raises: NodeError, if there is NaN or infinity in a tensor."""
    if not bool(torch.isfinite(x).all()):
        raise NodeError(f"{what} values that are not numbers (NaN or infinity).", hint=hint)
