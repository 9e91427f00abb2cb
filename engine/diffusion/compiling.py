"""Compiled networks: torch.compile, with its failures in words."""

import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from engine.api.errors import NodeError

COMPILERS = ("c++", "g++", "clang++", "cl")


def compiled(network: nn.Module, backend: str, device: torch.device) -> Callable[..., Any]:
    """A network compiled on its first call for each size; its weights must be there already.

    Raises: NodeError, at once where the machine lacks what the backend needs, or when compiling
    fails.
    """
    if backend == "cudagraphs" and device.type != "cuda":
        raise NodeError(
            "The backend cudagraphs needs an NVIDIA GPU.", hint="Choose inductor, or no compiling."
        )
    if backend == "inductor" and not any(map(shutil.which, COMPILERS)):
        raise NodeError(
            "The backend inductor needs a C++ compiler, and none was found.",
            hint="Install one (on Debian and Ubuntu: g++), or leave Torch Compile out.",
        )
    from torch._dynamo.exc import TorchDynamoException  # loads the compiler: on use only

    fast = torch.compile(network, backend=backend)

    def call(*values: Any, **options: Any) -> Any:
        try:
            return fast(*values, **options)
        except TorchDynamoException as error:
            raise NodeError(
                f"Compiling with {backend} failed: {str(error).splitlines()[0]}",
                hint="Leave Torch Compile out; everything else stays the same.",
            ) from error

    return call
