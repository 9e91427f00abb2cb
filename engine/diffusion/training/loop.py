"""The training loop: steps, accumulation, clipping, averaged weights, checkpoints, exact resume.

It knows no method: a method brings a net, whose parameters that require a gradient are trained, and
a loss.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engine.api.errors import EngineError, OutOfMemory
from engine.diffusion.precision import DTYPES
from engine.diffusion.training.optimizers import OptimizerSettings, make_optimizer
from engine.diffusion.training.rates import RateSettings, rate_factor
from engine.diffusion.training.state import Stateful, Trainee, TrainState, load_state, save_state
from engine.diffusion.training.team import Team

Loss = Callable[[float, torch.Generator], Tensor]
"""(share of the run done, the run's generator) → a scalar loss for one fresh batch."""
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step that is done; `averaged` lends the net its averaged weights.

    Units: `seconds` of training over all sittings.
    """

    number: int
    progress: float
    loss: float
    lr: float
    seconds: float
    averaged: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def seconds_left(self) -> float:
        """An estimate from the time so far."""
        return self.seconds * (1 - self.progress) / max(self.progress, 1e-9)


OnStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How long and how to train. Exactly one of `steps` and `minutes` bounds the run.

    A run bounded by steps resumes bit for bit; one bounded by minutes follows the clock.
    `accumulation` batches make one step. `average` is the decay of the averaged weights, 0 for
    none. `precision` other than fp32 computes in mixed precision; weights stay in fp32.
    """

    steps: int | None = None
    minutes: float | None = None
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    rate: RateSettings = field(default_factory=RateSettings)
    accumulation: int = 1
    average: float = 0.0
    clip_norm: float = 1.0
    precision: str = "fp32"
    checkpoint_every_s: float = 180.0


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
    """The net with its averaged weights, for samples and export; the present ones return after.

    Where no averages are kept these are the present weights.
    """
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


def fit(
    net: nn.Module,
    loss: Loss,
    config: LoopConfig,
    *,
    seed: int,
    path: Path | None = None,
    data: Stateful | None = None,
    on_step: OnStep = lambda _: None,
    is_over: Callable[[], bool] = lambda: False,
    clock: Clock = time.monotonic,
    team: Team | None = None,
) -> TrainState:
    """Trains until the run is over, resuming from `path` where it exists; gives the final state.

    `on_step` is told of each step; whatever it raises ends the run after its state was saved.
    The run also ends before a step when `is_over` says so. A `team` needs a `path`.
    Raises: EngineError `training_diverged`; OutOfMemory; StorageError; CorruptFile.
    """
    team = team or Team()
    trainee = _trainee(net, config, data)
    state = TrainState(generator=torch.Generator().manual_seed(seed))
    # Nodes are called without gradients; networks with dropout draw from the global generator.
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if path is not None and not load_state(path, state, trainee):
            save_state(path, state, trainee)  # a full disk shows now, not after hours
        team.begin()
        _steps(trainee, loss, config, state, path, on_step, is_over, clock, team)
    return state


def follow(
    net: nn.Module,
    loss: Loss,
    config: LoopConfig,
    *,
    seed: int,
    path: Path,
    data: Stateful,
    team: Team,
) -> None:
    """Takes the same steps as the leader of the team that saved the state at `path`, with the
    gradients of other batches, until the leader is done.

    What a step draws depends on nothing but `seed` and its number, so that it resumes too.
    Raises: as `fit`.
    """
    trainee = _trainee(net, config, data)
    state = TrainState()
    with torch.enable_grad():
        load_state(path, state, trainee)
        team.begin()
        while team.goes_on():
            generator = torch.Generator().manual_seed(step_seed(seed, state.step))
            torch.manual_seed(generator.initial_seed())
            progress = progress_of(config, state)
            _set_rate(trainee.optimizer, config, state.step, progress)
            train_step(trainee, partial(loss, progress, generator), config, state.step, team)
            state.step += 1


def step_seed(seed: int, step: int) -> int:
    """A seed for one step of a process that keeps no state of its own."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)


def _trainee(net: nn.Module, config: LoopConfig, data: Stateful | None) -> Trainee:
    device = next(net.parameters()).device
    return Trainee(
        net=net,
        optimizer=make_optimizer(net, config.optimizer),
        scaler=torch.amp.GradScaler(device.type) if config.precision == "fp16" else None,
        data=data,
    )


def _set_rate(
    optimizer: torch.optim.Optimizer, config: LoopConfig, step: int, progress: float
) -> None:
    factor = rate_factor(config.rate, step, progress)
    for group in optimizer.param_groups:
        group["lr"] = group["full_lr"] * factor


def _steps(
    trainee: Trainee,
    loss: Loss,
    config: LoopConfig,
    state: TrainState,
    path: Path | None,
    on_step: OnStep,
    is_over: Callable[[], bool],
    clock: Clock,
    team: Team,
) -> None:
    last_saved = mark = clock()
    saved_step = state.step
    while (progress := progress_of(config, state)) < 1.0 and not is_over():
        team.goes_on()
        _set_rate(trainee.optimizer, config, state.step, progress)
        batch_loss = partial(loss, progress, state.generator)
        value = train_step(trainee, batch_loss, config, state.step, team)
        state.step += 1
        if config.average:
            update_average(state, trainee.net, config.average)
        now = clock()
        state.elapsed_s, mark = state.elapsed_s + now - mark, now
        step = Step(
            number=state.step,
            progress=progress_of(config, state),
            loss=value,
            lr=trainee.optimizer.param_groups[0]["lr"],
            seconds=state.elapsed_s,
            averaged=partial(averaged_weights, trainee.net, state),
        )
        try:
            on_step(step)
        except BaseException:
            if path is not None:
                save_state(path, state, trainee)
            raise
        if path is not None and now - last_saved >= config.checkpoint_every_s:
            save_state(path, state, trainee)
            saved_step, last_saved = state.step, clock()
        mark = clock()  # what on_step and saving took is no training time
    if path is not None and saved_step != state.step:
        save_state(path, state, trainee)


def train_step(
    trainee: Trainee,
    batch_loss: Callable[[], Tensor],
    config: LoopConfig,
    number: int,
    team: Team | None = None,
) -> float:
    """The backward passes of one step and one update; gives the mean loss of the team.

    The weights are not touched where the loss or a gradient is not finite.
    Raises: EngineError `training_diverged`; OutOfMemory.
    """
    parameters = [p for p in trainee.net.parameters() if p.requires_grad]
    scaler, optimizer = trainee.scaler, trainee.optimizer
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for _ in range(config.accumulation):
        with _out_of_memory(), mixed(parameters[0].device, config.precision):
            value = batch_loss() / config.accumulation
            (scaler.scale(value) if scaler else value).backward()
        total += float(value.detach())
    if team is not None:
        total = team.shared(parameters, total)
    if not math.isfinite(total):
        raise _diverged(f"The loss became {total}", number, config)
    if scaler:
        scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm or math.inf)
    if scaler is None and not math.isfinite(float(norm)):
        raise _diverged("A gradient is not finite", number, config)
    with _out_of_memory():
        if scaler:
            scaler.step(optimizer)  # leaves a step out whose gradients overflowed
            scaler.update()
        else:
            optimizer.step()
    return total


def mixed(device: torch.device, precision: str) -> torch.autocast:
    """Computes in that precision while it is entered; fp32 changes nothing."""
    dtype = DTYPES[precision]
    return torch.autocast(
        device.type, torch.bfloat16 if dtype is torch.float32 else dtype, dtype is not torch.float32
    )


def _diverged(what: str, number: int, config: LoopConfig) -> EngineError:
    return EngineError(
        f"{what} at step {number + 1}: training has diverged. "
        f"The state that was saved last is kept.",
        hint=f"Lower the learning rate (it is {config.optimizer.lr:g}) to a third"
        + (", or compute in bf16 or fp32 instead of fp16." if config.precision == "fp16" else "."),
        code="training_diverged",
    )


@contextmanager
def _out_of_memory() -> Iterator[None]:
    """Raises: OutOfMemory, saying what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        kinds = (torch.OutOfMemoryError, MemoryError)
        if not isinstance(error, kinds) and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(
            "There is not enough memory for a training step.",
            hint="Lower the batch size (and raise accumulation instead), the picture size or the "
            "rank; switch gradient checkpointing on.",
        ) from error
