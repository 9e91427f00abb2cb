"""Nodes with the settings of a training: optimizer, objective, batches, samples, validation."""

from dataclasses import replace
from typing import Annotated, Literal

from engine.api import Choice, Dataset, Float, Int, Text, Toggle, TrainingSettings, node
from engine.diffusion.training.data.batches import BatchOptions
from engine.diffusion.training.objectives import TIMESTEPS, ObjectiveSettings
from engine.diffusion.training.optimizers import OPTIMIZER_KINDS, OptimizerKind, OptimizerSettings
from engine.diffusion.training.rates import RATE_KINDS, RateKind, RateSettings
from engine.diffusion.training.settings import (
    PRECISIONS,
    RecordSettings,
    SampleSettings,
    ValidationSettings,
)
from engine.diffusion.training.settings import TrainingSettings as Settings
from nodes.training_inputs import Seed

_CATEGORY = "training/settings"


@node("TrainingOptimizer", title="Training Optimizer", category=_CATEGORY)
def training_optimizer(
    optimizer: Annotated[OptimizerKind, Choice(OPTIMIZER_KINDS)],
    schedule: Annotated[RateKind, Choice(RATE_KINDS, tooltip="How the learning rate falls.")],
    warmup_steps: Annotated[int, Int(0, min=0, max=100_000)],
    final_rate: Annotated[
        float, Float(0.0, min=0.0, max=1.0, step=0.01, tooltip="The rate's share at the end.")
    ],
    power: Annotated[
        float, Float(1.0, min=0.1, max=10.0, step=0.1, tooltip="Of the polynomial schedule.")
    ],
    weight_decay: Annotated[float, Float(0.01, min=0.0, max=1.0, step=0.001)],
    accumulation: Annotated[
        int, Int(1, min=1, max=1024, tooltip="Batches per step: large batches in little memory.")
    ],
    clip_norm: Annotated[
        float, Float(1.0, min=0.0, max=100.0, step=0.1, tooltip="Largest gradient; 0: any.")
    ],
    ema_decay: Annotated[
        float,
        Float(0.0, min=0.0, max=0.99999, step=0.0001, tooltip="Averaged weights (EMA); 0: none."),
    ],
    precision: Annotated[str, Choice(PRECISIONS)],
    gradient_checkpointing: Annotated[
        bool, Toggle(False, tooltip="Less memory for a third more time.")
    ],
    num_processes: Annotated[
        int,
        Int(
            1,
            min=1,
            max=64,
            tooltip="GPUs that train together: each sees batches of its own, so a step sees so "
            "many times as many pictures.",
        ),
    ] = 1,
    settings: TrainingSettings | None = None,
) -> TrainingSettings:
    """Which optimizer trains, how its learning rate runs, and what memory it may take."""
    return replace(
        settings or Settings(),
        optimizer=OptimizerSettings(kind=optimizer, weight_decay=weight_decay),
        rate=RateSettings(kind=schedule, warmup_steps=warmup_steps, final=final_rate, power=power),
        accumulation=accumulation,
        clip_norm=clip_norm,
        average=ema_decay,
        precision=precision,
        gradient_checkpointing=gradient_checkpointing,
        num_processes=num_processes,
    )


@node("TrainingObjective", title="Training Objective", category=_CATEGORY)
def training_objective(
    min_snr: Annotated[
        float,
        Float(0.0, min=0.0, max=100.0, step=0.5, tooltip="Min-SNR gamma, often 5; 0: unweighted."),
    ],
    offset_noise: Annotated[
        float,
        Float(0.0, min=0.0, max=1.0, step=0.01, tooltip="Helps very dark and bright pictures."),
    ],
    timesteps: Annotated[str, Choice(TIMESTEPS)],
    first: Annotated[float, Float(0.0, min=0.0, max=0.99, step=0.01)],
    last: Annotated[float, Float(1.0, min=0.01, max=1.0, step=0.01)],
    snr_floor: Annotated[
        float,
        Float(
            0.0,
            min=0.0,
            max=10.0,
            step=0.1,
            tooltip="1: strong noise counts as it shows in the picture. For flat drawings.",
        ),
    ] = 0.0,
    settings: TrainingSettings | None = None,
) -> TrainingSettings:
    """What a training step minimises: weights of noise levels, kinds of noise, timesteps.

    first and last bound the timesteps, from 0 (fine detail) to 1 (composition).
    """
    objective = ObjectiveSettings(
        min_snr=min_snr,
        snr_floor=snr_floor,
        offset_noise=offset_noise,
        timesteps=timesteps,
        first=first,
        last=last,
    )
    return replace(settings or Settings(), objective=objective)


@node("TrainingBatches", title="Training Batches", category=_CATEGORY)
def training_batches(
    batch_size: Annotated[int, Int(1, min=1, max=1024)],
    size: Annotated[
        int, Int(0, min=0, max=4096, step=8, tooltip="Side in pixels; 0: the model's own size.")
    ],
    buckets: Annotated[bool, Toggle(True, tooltip="Let wide and tall pictures keep their shape.")],
    crop: Annotated[Literal["center", "random", "focus"], Choice(("center", "random", "focus"))],
    flip: Annotated[bool, Toggle(False, tooltip="Mirror half of the pictures.")],
    caption_dropout: Annotated[
        float, Float(0.0, min=0.0, max=1.0, step=0.05, tooltip="Share of captions left empty.")
    ],
    shuffle_tags: Annotated[bool, Toggle(False)],
    keep_tags: Annotated[int, Int(0, min=0, max=100, tooltip="Tags that stay in front.")],
    masked: Annotated[bool, Toggle(False, tooltip="Only what the masks show counts.")],
    settings: TrainingSettings | None = None,
) -> TrainingSettings:
    """How pictures come: how many at once, how large, mirrored, cut, with which captions."""
    batches = BatchOptions(
        size_px=size,
        batch_size=batch_size,
        buckets=buckets,
        crop=crop,
        flip=flip,
        caption_dropout=caption_dropout,
        shuffle_tags=shuffle_tags,
        keep_tags=keep_tags,
        masked=masked,
    )
    return replace(settings or Settings(), batches=batches)


@node("TrainingSamples", title="Training Samples", category=_CATEGORY)
def training_samples(
    prompts: Annotated[str, Text("", multiline=True, tooltip="One prompt a line.")],
    every: Annotated[int, Int(100, min=1, max=100_000, tooltip="Pictures every so many steps.")],
    seed: Seed,
    steps: Annotated[int, Int(20, min=1, max=1000)],
    cfg: Annotated[float, Float(7.0, min=1.0, max=30.0, step=0.1)],
    settings: TrainingSettings | None = None,
) -> TrainingSettings:
    """Pictures at fixed seeds that show on the training node how far it is."""
    lines = tuple(line.strip() for line in prompts.splitlines() if line.strip())
    samples = SampleSettings(prompts=lines, every=every, seed=seed, steps=steps, cfg=cfg)
    return replace(settings or Settings(), samples=samples)


@node("TrainingValidation", title="Training Validation", category=_CATEGORY)
def training_validation(
    dataset: Dataset,
    every: Annotated[
        int, Int(50, min=1, max=1_000_000, tooltip="Measure their loss every so many steps.")
    ],
    patience: Annotated[
        int,
        Int(
            0,
            min=0,
            max=10_000,
            tooltip="End after so many measurements without a better one, and give the best state "
            "as the result; 0: never.",
        ),
    ],
    settings: TrainingSettings | None = None,
) -> TrainingSettings:
    """Pictures that the training never sees, such as the second output of Split Dataset. Their loss
    is a curve of its own on the node: when it rises while the other falls, the model learns the
    pictures by heart."""
    validation = ValidationSettings(dataset=dataset, every=every, patience=patience)
    return replace(settings or Settings(), validation=validation)


@node("TrainingRecords", title="Training Records", category=_CATEGORY)
def training_records(
    snapshot_every: Annotated[
        int,
        Int(
            0,
            min=0,
            max=1_000_000,
            tooltip="Keep a copy every so many steps, beside the result; 0: none.",
        ),
    ],
    kept_snapshots: Annotated[
        int, Int(5, min=1, max=1000, tooltip="How many copies stay; older ones are deleted.")
    ],
    tensorboard: Annotated[
        bool, Toggle(False, tooltip="Write event files; needs pip install tensorboardX.")
    ],
    settings: TrainingSettings | None = None,
) -> TrainingSettings:
    """What a training leaves beside its result: copies of its state on the way, to choose an
    earlier one when the last is over-fitted, and event files for TensorBoard in
    user/weft/tensorboard."""
    records = RecordSettings(every=snapshot_every, kept=kept_snapshots, has_board=tensorboard)
    return replace(settings or Settings(), records=records)


NODES = [
    training_optimizer,
    training_objective,
    training_batches,
    training_samples,
    training_validation,
    training_records,
]
