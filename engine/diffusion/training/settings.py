"""The knobs of a training that all methods share, with defaults that suit most."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.diffusion.training.data.batches import BatchOptions
from engine.diffusion.training.data.dataset import Dataset
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
class ValidationSettings:
    """Pictures held back, whose loss is measured every `every` steps.

    After `patience` measurements without a lower one the training ends, and its best state is the
    result; with 0 it always goes to its end.
    """

    dataset: Dataset | None = None
    every: int = 50
    patience: int = 0

    @property
    def stops(self) -> bool:
        """Whether it may end the training and choose the result."""
        return self.dataset is not None and self.patience > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings:
    """What a training leaves beside its result.

    A snapshot every `every` steps (0: none), of which the newest `kept` stay; event files of
    TensorBoard on request.
    """

    every: int = 0
    kept: int = 5
    has_board: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """All shared settings; a batch size in pixels of 0 is the model's own size.

    `average` is the decay of averaged weights (EMA), 0 for none. `precision` auto is bf16 on a GPU,
    fp32 on a CPU. Each of `num_processes` sees batches of its own in each step.
    """

    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    rate: RateSettings = field(default_factory=RateSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    batches: BatchOptions = field(default_factory=lambda: BatchOptions(size_px=0))
    samples: SampleSettings = field(default_factory=SampleSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    records: RecordSettings = field(default_factory=RecordSettings)
    accumulation: int = 1
    clip_norm: float = 1.0
    average: float = 0.0
    precision: str = "auto"
    gradient_checkpointing: bool = False
    checkpoint_every_s: float = 120.0
    num_processes: int = 1

    def what_to_lower(self) -> str:
        """What takes memory at these settings, and can take less."""
        batch, size = self.batches.batch_size, self.batches.size_px
        ways = [f"the picture size from {size} pixels" if size else "the picture size"]
        if batch > 1:
            ways.insert(0, f"the batch size from {batch} (and raise accumulation instead)")
        words = [f"Lower {', or '.join(ways)}."]
        if not self.gradient_checkpointing:
            words.append("Switch gradient checkpointing on.")
        if self.optimizer.kind != "adafactor":
            words.append("Adafactor takes less than half of AdamW's memory, a LoRA far less again.")
        return " ".join(words)

    def deciding(self) -> dict[str, Any]:
        """What decides the result's numbers, and nothing else."""
        silent = ("samples", "validation", "records", "checkpoint_every_s")
        held = self.validation
        plain = asdict(replace(self, validation=ValidationSettings()))
        decided = {k: v for k, v in plain.items() if k not in silent}
        if self.num_processes == 1:
            del decided["num_processes"]  # as in the identities of results from before it existed
        if held.dataset is not None and held.stops:
            decided["early_stop"] = [held.dataset.digest, held.every, held.patience]
        return decided


def with_rate(settings: TrainingSettings | None, lr: float) -> TrainingSettings:
    """Settings, or the defaults, at a learning rate."""
    settings = settings or TrainingSettings()
    return replace(settings, optimizer=replace(settings.optimizer, lr=lr))
