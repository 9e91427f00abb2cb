"""The knobs of a training that all methods share, with defaults that suit most."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.diffusion.training.data.batches import BatchOptions
from engine.diffusion.training.objectives import ObjectiveSettings
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.rates import RateSettings

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """Pictures that show how far a training is: one for each prompt, every `every` steps.

    `every` 0 makes none. `size_px` 0 is the model's own size.
    """

    prompts: tuple[str, ...] = ()
    every: int = 0
    seed: int = 0
    steps: int = 20
    cfg: float = 7.0
    size_px: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """All shared settings; a batch size in pixels of 0 is the model's own size.

    `average` is the decay of averaged weights (EMA), 0 for none. `precision` auto is bf16 on a GPU,
    fp32 on a CPU.
    """

    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    rate: RateSettings = field(default_factory=RateSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    batches: BatchOptions = field(default_factory=lambda: BatchOptions(size_px=0))
    samples: SampleSettings = field(default_factory=SampleSettings)
    accumulation: int = 1
    clip_norm: float = 1.0
    average: float = 0.0
    precision: str = "auto"
    gradient_checkpointing: bool = False
    checkpoint_every_s: float = 120.0

    def deciding(self) -> dict[str, Any]:
        """What decides the result's numbers, and nothing else."""
        silent = ("samples", "checkpoint_every_s")
        return {k: v for k, v in asdict(self).items() if k not in silent}


def with_rate(settings: TrainingSettings | None, lr: float) -> TrainingSettings:
    """Settings, or the defaults, at a learning rate."""
    settings = settings or TrainingSettings()
    return replace(settings, optimizer=replace(settings.optimizer, lr=lr))
