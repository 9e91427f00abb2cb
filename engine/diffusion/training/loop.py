"""The training loop: steps, clipping, averaged weights, learning rate, checkpoints, resume."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.api.errors import EngineError
from engine.diffusion.training.state import TrainState, load_state, save_state

Loss = Callable[[float, torch.Generator], Tensor]
"""(share of the run done, the run's generator) → a scalar loss for one fresh batch."""
Report = Callable[[str], None]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How long and how fast to train. Exactly one of `steps` and `minutes` bounds the run.

    A run bounded by steps resumes bit for bit; one bounded by minutes follows the clock.
    """

    lr: float
    steps: int | None = None
    minutes: float | None = None
    warmup_steps: int = 50
    hold: float = 0.5
    """Share of the run at the full learning rate, before the cosine."""
    final_lr: float = 0.03
    average: float = 0.999
    clip_norm: float = 1.0
    weight_decay: float = 0.01
    checkpoint_every_s: float = 180.0
    report_every: int = 100


def learning_rate(config: LoopConfig, step: int, progress: float) -> float:
    """Linear warm-up, constant for `hold` of the run, then a half cosine to `final_lr`.

    Source: Loshchilov & Hutter 2017 (arXiv:1608.03983) eq. 5, without restarts.
    """
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    fall = min(1.0, max(0.0, (progress - config.hold) / max(1e-9, 1 - config.hold)))
    cosine = config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * fall))
    return config.lr * warm * cosine


def progress_of(config: LoopConfig, state: TrainState) -> float:
    """The share of the run that is done, 0..1."""
    if config.steps is not None:
        return min(1.0, state.step / max(1, config.steps))
    assert config.minutes is not None, "a run is bounded by steps or by minutes"
    return min(1.0, state.elapsed_s / max(1e-9, config.minutes * 60))


def update_average(state: TrainState, net: nn.Module, decay: float) -> None:
    """Moves the averaged weights towards the present ones, faster while the run is young.

    Source: Polyak & Juditsky 1992; warm-up min(decay, (1+n)/(10+n)) as customary.
    """
    rate = min(decay, (1 + state.step) / (10 + state.step))
    trained = {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}
    if not state.average:
        state.average = {name: p.clone() for name, p in trained.items()}
        return
    for name, value in state.average.items():
        value.lerp_(trained[name], 1 - rate)


@contextmanager
def averaged_weights(net: nn.Module, state: TrainState) -> Iterator[nn.Module]:
    """The net with its averaged weights, for samples and export; the present ones return after."""
    parameters = dict(net.named_parameters())
    present = {name: parameters[name].detach().clone() for name in state.average}
    with torch.no_grad():
        for name, value in state.average.items():
            parameters[name].copy_(value)
    try:
        yield net
    finally:
        with torch.no_grad():
            for name, value in present.items():
                parameters[name].copy_(value)


def make_optimizer(net: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    """AdamW over all parameters that require a gradient.

    Source: Loshchilov & Hutter 2019 (arXiv:1711.05101) algorithm 2.
    """
    trained = [p for p in net.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        trained, lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
    )


def train_step(
    net: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, clip_norm: float
) -> float:
    """One backward pass and one update; gives the loss.

    Raises: EngineError when the loss is not finite.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise EngineError(
            f"The loss became {value}: training has diverged.",
            hint="Go on from the last checkpoint with a lower learning rate.",
            code="training_diverged",
        )
    nn.utils.clip_grad_norm_([p for p in net.parameters() if p.requires_grad], clip_norm)
    optimizer.step()
    return value


def fit(
    net: nn.Module,
    loss: Loss,
    config: LoopConfig,
    *,
    seed: int,
    path: Path | None = None,
    report: Report = lambda _: None,
    clock: Clock = time.monotonic,
) -> TrainState:
    """Trains until the run is over, resuming from `path` where it exists; gives the final state."""
    optimizer = make_optimizer(net, config)
    state = TrainState(generator=torch.Generator().manual_seed(seed))
    if path is not None and load_state(path, state, net, optimizer):
        report(f"resumed at step {state.step}")
    recent: list[float] = []
    last_saved = mark = clock()
    while (progress := progress_of(config, state)) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, state.step, progress)
        value = train_step(net, optimizer, loss(progress, state.generator), config.clip_norm)
        state.step += 1
        update_average(state, net, config.average)
        recent.append(value)
        now = clock()
        state.elapsed_s, mark = state.elapsed_s + now - mark, now
        if state.step % config.report_every == 0:
            lr = optimizer.param_groups[0]["lr"]
            mean = sum(recent) / len(recent)
            report(f"step {state.step} ({progress:.1%}) loss {mean:.4f} lr {lr:.2e}")
            recent.clear()
        if path is not None and now - last_saved >= config.checkpoint_every_s:
            save_state(path, state, net, optimizer)
            last_saved = mark = clock()
    if path is not None:
        save_state(path, state, net, optimizer)
    return state
