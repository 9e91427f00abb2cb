"""Nodes that train: LoRA, DreamBooth, textual inversion, whole checkpoints, and their settings."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from engine.api import (
    Choice,
    Clip,
    Dataset,
    Float,
    Int,
    Model,
    NodeOutput,
    RunContext,
    Text,
    Toggle,
    TrainingSettings,
    Vae,
    node,
)
from engine.api.node import Widget
from engine.api.recipe import FileRef, Recipe
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.lora import add_lora
from engine.diffusion.training.adapter_files import LORA_FORMATS, LoraFormat
from engine.diffusion.training.adapters import (
    TARGETS,
    AdapterSettings,
    Targets,
    dora_axis,
    split_blocks,
)
from engine.diffusion.training.data.batches import BatchOptions
from engine.diffusion.training.dreambooth import dreambooth_dataset
from engine.diffusion.training.finetune import FineTune
from engine.diffusion.training.methods import FullTraining, Lora, Method, TextualInversion
from engine.diffusion.training.node_runs import train_in_node
from engine.diffusion.training.objectives import TIMESTEPS, ObjectiveSettings
from engine.diffusion.training.optimizers import OPTIMIZER_KINDS, OptimizerKind, OptimizerSettings
from engine.diffusion.training.rates import RATE_KINDS, RateKind, RateSettings
from engine.diffusion.training.settings import PRECISIONS, SampleSettings, with_rate
from engine.diffusion.training.settings import TrainingSettings as Settings

_CATEGORY = "training"
_SETTINGS = "training/settings"

_Name = Annotated[
    str, Text("my-lora", tooltip="The result's file name. A name that is taken gets a number.")
]
_Steps = Annotated[
    int, Int(500, min=1, max=1_000_000, tooltip="How many steps to train; each sees one batch.")
]
_Seed = Annotated[int, Int(0, min=0, max=2**63 - 1, control_after_generate=False)]
_Rank = Annotated[
    int, Int(16, min=1, max=1024, tooltip="How much the LoRA can learn; larger files learn more.")
]
_Alpha = Annotated[
    float,
    Float(16.0, min=0.01, max=1024.0, step=0.5, tooltip="The change is scaled by alpha / rank."),
]
_TrainText = Annotated[bool, Toggle(False, tooltip="Train the text encoder too.")]
_Targets = Annotated[
    Targets,
    Choice(
        TARGETS,
        tooltip="attention: its projections. transformer: all of the transformers' layers. "
        "all: the residual blocks too.",
    ),
]


def _rate(default: float) -> Widget:
    return Float(
        default,
        min=0.0,
        max=10.0,
        step=1e-6,
        round=False,
        tooltip="The learning rate: lower where the loss jumps, higher where nothing is learned.",
    )


# Methods ------------------------------------------------------------------------------------------


@node(
    "TrainLoRA",
    title="Train LoRA",
    category=_CATEGORY,
    output_names=("MODEL", "CLIP", "lora_name"),
    search=("fine-tune", "lora", "training"),
    is_output=True,
)
def train_lora(
    model: Model,
    clip: Clip,
    vae: Vae,
    dataset: Dataset,
    name: _Name,
    steps: _Steps,
    learning_rate: Annotated[float, _rate(1e-4)],
    rank: _Rank,
    alpha: _Alpha,
    seed: _Seed,
    ctx: RunContext,
    targets: _Targets = "attention",
    blocks: Annotated[
        str, Text("", tooltip="Only these blocks, such as: mid_block, up_blocks.1. Empty: all.")
    ] = "",
    conv_rank: Annotated[
        int,
        Int(0, min=0, max=1024, tooltip="LoCon: rank for convolutions, where targets are all."),
    ] = 0,
    dora: Annotated[bool, Toggle(False, tooltip="DoRA: learn the size of weights apart.")] = False,
    train_text_encoder: _TrainText = False,
    file_format: Annotated[
        LoraFormat,
        Choice(LORA_FORMATS, tooltip="kohya: read everywhere."),
    ] = "kohya",
    settings: TrainingSettings | None = None,
) -> tuple[Model, Clip, str]:
    """Trains a LoRA on captioned pictures: a small file that changes what the model draws.

    The result flows out as patched model and clip and lies in models/loras. A run that was stopped
    goes on where it was; one that is finished is not trained again.
    """
    method = Lora(
        shape=AdapterSettings(
            rank=rank, alpha=alpha, conv_rank=conv_rank, dora=dora_axis(dora, file_format)
        ),
        targets=targets,
        blocks=split_blocks(blocks),
        trains_text=train_text_encoder,
        naming=file_format,
    )
    job = FineTune(
        method=method,
        model=model,
        clip=clip,
        vae=vae,
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=with_rate(settings, learning_rate),
    )
    file, ui = train_in_node(ctx, job, name)
    return NodeOutput(result=(*_patched(model, clip, file), file.name), ui=ui)  # pyright: ignore[reportReturnType]


@node(
    "TrainDreamBooth",
    title="Train DreamBooth",
    category=_CATEGORY,
    output_names=("MODEL", "CLIP", "file_name"),
    search=("fine-tune", "subject", "training", "dreambooth"),
    is_output=True,
)
def train_dreambooth(
    model: Model,
    clip: Clip,
    vae: Vae,
    dataset: Dataset,
    instance_prompt: Annotated[
        str,
        Text("a photo of sks dog", tooltip="A rare word and the class. Empty: their own captions."),
    ],
    class_prompt: Annotated[
        str,
        Text("a photo of a dog", tooltip="Without the rare word. Empty: their own captions."),
    ],
    name: Annotated[str, Text("my-subject")],
    what: Annotated[
        str, Choice(("LoRA", "whole model"), tooltip="A small LoRA file, or a whole checkpoint.")
    ],
    steps: Annotated[int, Int(400, min=1, max=1_000_000)],
    learning_rate: Annotated[float, _rate(1e-4)],
    seed: _Seed,
    ctx: RunContext,
    class_pictures: Dataset | None = None,
    prior_weight: Annotated[
        float, Float(1.0, min=0.0, max=10.0, step=0.05, tooltip="How much the class counts.")
    ] = 1.0,
    train_text_encoder: _TrainText = False,
    rank: _Rank = 16,
    settings: TrainingSettings | None = None,
) -> tuple[Model, Clip, str]:
    """Teaches the model one subject from 4 to 30 pictures, bound to a rare word.

    Class pictures, made with the class prompt in the same graph, keep the model from forgetting
    what others of the class look like (prior preservation); class pictures with captions of many
    kinds keep more. A whole model wants a lower learning rate (about 2e-6) than a LoRA.
    """
    method: Method
    if what == "LoRA":
        shape = AdapterSettings(rank=rank, alpha=float(rank))
        method = Lora(shape=shape, trains_text=train_text_encoder)
    else:
        method = FullTraining(trains_text=train_text_encoder)
    shared = with_rate(settings, learning_rate)
    job = FineTune(
        method=method,
        model=model,
        clip=clip,
        vae=vae,
        dataset=dreambooth_dataset(dataset, instance_prompt, class_pictures, class_prompt),
        steps=steps,
        seed=seed,
        settings=replace(shared, objective=replace(shared.objective, prior_weight=prior_weight)),
    )
    file, ui = train_in_node(ctx, job, name)
    if what == "LoRA":
        return NodeOutput(result=(*_patched(model, clip, file), file.name), ui=ui)  # pyright: ignore[reportReturnType]
    parts = open_checkpoint(Path(file.path), file.digest, file.name)
    return NodeOutput(result=(parts.model, parts.clip or clip, file.name), ui=ui)  # pyright: ignore[reportReturnType]


@node(
    "TrainTextualInversion",
    title="Train Textual Inversion",
    category=_CATEGORY,
    output_names=("CLIP", "embedding"),
    output_tooltips=("The same text encoder, once the embedding is there.", "embedding:name"),
    search=("fine-tune", "embedding", "training"),
    is_output=True,
)
def train_textual_inversion(
    model: Model,
    clip: Clip,
    vae: Vae,
    dataset: Dataset,
    name: Annotated[str, Text("my-concept")],
    word: Annotated[str, Text("<thing>", tooltip="What stands for the concept in the captions.")],
    initializer: Annotated[str, Text("object", tooltip="The known word that comes closest.")],
    vectors: Annotated[int, Int(1, min=1, max=75, tooltip="Tokens that the concept takes.")],
    steps: Annotated[int, Int(1000, min=1, max=1_000_000)],
    learning_rate: Annotated[float, _rate(5e-3)],
    seed: _Seed,
    ctx: RunContext,
    settings: TrainingSettings | None = None,
) -> tuple[Clip, str]:
    """Finds a new word for what pictures show, and changes nothing else of the model.

    Write embedding:name into a prompt to use it. The captions must hold the word.
    """
    job = FineTune(
        method=TextualInversion(word=word, initializer=initializer, vectors=vectors),
        model=model,
        clip=clip,
        vae=vae,
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=with_rate(settings, learning_rate),
    )
    file, ui = train_in_node(ctx, job, name)
    embedding = "embedding:" + file.name.removesuffix(".safetensors")
    return NodeOutput(result=(clip, embedding), ui=ui)  # pyright: ignore[reportReturnType]


@node(
    "TrainCheckpoint",
    title="Train Checkpoint",
    category=_CATEGORY,
    output_names=("MODEL", "CLIP", "VAE", "ckpt_name"),
    search=("fine-tune", "full", "additional training"),
    is_output=True,
)
def train_checkpoint(
    model: Model,
    clip: Clip,
    vae: Vae,
    dataset: Dataset,
    name: Annotated[str, Text("my-model")],
    steps: Annotated[int, Int(1000, min=1, max=1_000_000)],
    learning_rate: Annotated[float, _rate(1e-5)],
    seed: _Seed,
    ctx: RunContext,
    train_text_encoder: _TrainText = False,
    half_precision_file: Annotated[bool, Toggle(True, tooltip="Half the file's size (fp16).")] = (
        True
    ),
    settings: TrainingSettings | None = None,
) -> tuple[Model, Clip, Vae, str]:
    """Trains all weights of a model on captioned pictures and saves a whole checkpoint.

    It needs about four times the memory of the model; a LoRA needs far less.
    """
    job = FineTune(
        method=FullTraining(trains_text=train_text_encoder, is_half=half_precision_file),
        model=model,
        clip=clip,
        vae=vae,
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=with_rate(settings, learning_rate),
    )
    file, ui = train_in_node(ctx, job, name)
    parts = open_checkpoint(Path(file.path), file.digest, file.name)
    result = (parts.model, parts.clip or clip, parts.vae or vae, file.name)
    return NodeOutput(result=result, ui=ui)  # pyright: ignore[reportReturnType]


def _patched(model: Recipe, clip: Recipe, file: FileRef) -> tuple[Recipe, Recipe]:
    return add_lora(model, file, 1.0), add_lora(clip, file, 1.0)


# Settings -----------------------------------------------------------------------------------------


@node("TrainingOptimizer", title="Training Optimizer", category=_SETTINGS)
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
    )


@node("TrainingObjective", title="Training Objective", category=_SETTINGS)
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
    settings: TrainingSettings | None = None,
) -> TrainingSettings:
    """What a training step minimises: weights of noise levels, kinds of noise, timesteps.

    first and last bound the timesteps, from 0 (fine detail) to 1 (composition).
    """
    objective = ObjectiveSettings(
        min_snr=min_snr, offset_noise=offset_noise, timesteps=timesteps, first=first, last=last
    )
    return replace(settings or Settings(), objective=objective)


@node("TrainingBatches", title="Training Batches", category=_SETTINGS)
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


@node("TrainingSamples", title="Training Samples", category=_SETTINGS)
def training_samples(
    prompts: Annotated[str, Text("", multiline=True, tooltip="One prompt a line.")],
    every: Annotated[int, Int(100, min=1, max=100_000, tooltip="Pictures every so many steps.")],
    seed: _Seed,
    steps: Annotated[int, Int(20, min=1, max=1000)],
    cfg: Annotated[float, Float(7.0, min=1.0, max=30.0, step=0.1)],
    settings: TrainingSettings | None = None,
) -> TrainingSettings:
    """Pictures at fixed seeds that show on the training node how far it is."""
    lines = tuple(line.strip() for line in prompts.splitlines() if line.strip())
    samples = SampleSettings(prompts=lines, every=every, seed=seed, steps=steps, cfg=cfg)
    return replace(settings or Settings(), samples=samples)


NODES = [
    train_lora,
    train_dreambooth,
    train_textual_inversion,
    train_checkpoint,
    training_optimizer,
    training_objective,
    training_batches,
    training_samples,
]
