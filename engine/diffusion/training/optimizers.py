"""The optimizers that training offers, each as a well-kept library gives it."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from engine.api.errors import EngineError

OptimizerKind = Literal["adamw", "adamw_8bit", "adafactor", "lion", "prodigy"]
OPTIMIZER_KINDS: tuple[OptimizerKind, ...] = get_args(OptimizerKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """Which optimizer, its learning rate and its decay.

    `factors` multiply the rate of parameters by the start of their names, the first that fits.
    Prodigy finds its rate by itself: give it 1.
    """

    kind: OptimizerKind = "adamw"
    lr: float = 1e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    factors: tuple[tuple[str, float], ...] = ()


def make_optimizer(net: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer over all parameters of a net that require a gradient.

    Each of its groups holds its full rate as `full_lr`.
    Raises: EngineError, where its library is not there or does not run on the device.
    """
    groups = _groups(net, settings)
    if not groups:
        raise EngineError("There is nothing to train: no weight is chosen.")
    optimizer = _MAKERS[settings.kind](groups, settings)
    for group in optimizer.param_groups:
        group["full_lr"] = group["lr"]
    return optimizer


def _groups(net: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    by_factor: dict[float, list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            factor = next((f for start, f in settings.factors if name.startswith(start)), 1.0)
            by_factor.setdefault(factor, []).append(parameter)
    return [{"params": found, "lr": settings.lr * f} for f, found in by_factor.items()]


Groups = Iterable[dict[str, Any]]


def _adamw(groups: Groups, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Source: Loshchilov & Hutter 2019 (arXiv:1711.05101) algorithm 2."""
    return torch.optim.AdamW(
        groups,
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def _adamw_8bit(groups: Groups, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Source: Dettmers et al. 2022 (arXiv:2110.02861)."""
    if not torch.cuda.is_available():
        raise EngineError(
            "The 8-bit AdamW runs on a CUDA device only, and there is none.",
            hint="Choose adamw, or adafactor where memory is short.",
        )
    library = _library("bitsandbytes.optim", "bitsandbytes", "adamw_8bit")
    return library.AdamW8bit(
        groups, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay
    )


def _adafactor(groups: Groups, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Source: Shazeer & Stern 2018 (arXiv:1804.04235), with a rate given from outside."""
    library = _library("transformers.optimization", "transformers", "adafactor")
    return library.Adafactor(
        groups,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        scale_parameter=False,
        relative_step=False,
    )


def _lion(groups: Groups, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Source: Chen et al. 2023 (arXiv:2302.06675) program 1."""
    library = _library("lion_pytorch", "lion-pytorch", "lion")
    return library.Lion(
        groups, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay
    )


def _prodigy(groups: Groups, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Source: Mishchenko & Defazio 2023 (arXiv:2306.06101) algorithm 4."""
    library = _library("prodigyopt", "prodigyopt", "prodigy")
    return library.Prodigy(
        groups,
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        safeguard_warmup=True,
        use_bias_correction=True,
    )


def _library(module: str, package: str, kind: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EngineError(
            f"The optimizer {kind} needs the package {package}, which is not installed.",
            hint=f"pip install {package}, or choose adamw.",
        ) from error


_MAKERS: Mapping[
    OptimizerKind, Callable[[list[dict[str, Any]], OptimizerSettings], torch.optim.Optimizer]
] = {
    "adamw": _adamw,
    "adamw_8bit": _adamw_8bit,
    "adafactor": _adafactor,
    "lion": _lion,
    "prodigy": _prodigy,
}
