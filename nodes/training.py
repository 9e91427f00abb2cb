"""Nodes that train: LoRA, DreamBooth, textual inversion, whole checkpoints."""

from dataclasses import replace
from typing import Annotated

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
from engine.api.recipe import FileRef, Recipe
from engine.diffusion.lora import add_lora
from engine.diffusion.training.adapter_files import LORA_FORMATS, LoraFormat
from engine.diffusion.training.adapters import (
    TARGETS,
    AdapterSettings,
    Targets,
    dora_axis,
    split_blocks,
)
from engine.diffusion.training.advice import Subject
from engine.diffusion.training.dreambooth import dreambooth_dataset
from engine.diffusion.training.finetune import FineTune
from engine.diffusion.training.methods import FullTraining, Lora, Method, TextualInversion
from engine.diffusion.training.node_runs import train_in_node
from engine.diffusion.training.settings import with_rate
from nodes.training_inputs import (
    HalfFile,
    Rank,
    Seed,
    TrainText,
    name_of,
    opened,
    rate_of,
    steps_of,
)

_CATEGORY = "training"

_Alpha = Annotated[
    float,
    Float(16.0, min=0.01, max=1024.0, step=0.5, tooltip="The change is scaled by alpha / rank."),
]
_Targets = Annotated[
    Targets,
    Choice(
        TARGETS,
        tooltip="attention: its projections. transformer: all of the transformers' layers. "
        "all: the residual blocks too.",
    ),
]


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
    name: Annotated[str, name_of("my-lora")],
    steps: Annotated[int, steps_of(500)],
    learning_rate: Annotated[float, rate_of(1e-4)],
    rank: Rank,
    alpha: _Alpha,
    seed: Seed,
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
    train_text_encoder: TrainText = False,
    file_format: Annotated[
        LoraFormat,
        Choice(LORA_FORMATS, tooltip="kohya: read everywhere."),
    ] = "kohya",
    settings: TrainingSettings | None = None,
) -> Annotated[NodeOutput, Model, Clip, str]:
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
    return NodeOutput(result=(*_patched(model, clip, file), file.name), ui=ui)


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
    name: Annotated[str, name_of("my-subject")],
    what: Annotated[
        str, Choice(("LoRA", "whole model"), tooltip="A small LoRA file, or a whole checkpoint.")
    ],
    steps: Annotated[int, steps_of(400)],
    learning_rate: Annotated[float, rate_of(1e-4)],
    seed: Seed,
    ctx: RunContext,
    class_pictures: Dataset | None = None,
    prior_weight: Annotated[
        float, Float(1.0, min=0.0, max=10.0, step=0.05, tooltip="How much the class counts.")
    ] = 1.0,
    train_text_encoder: TrainText = False,
    rank: Rank = 16,
    settings: TrainingSettings | None = None,
) -> Annotated[NodeOutput, Model, Clip, str]:
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
        subject=Subject(prompt=instance_prompt, class_prompt=class_prompt),
    )
    file, ui = train_in_node(ctx, job, name)
    if what == "LoRA":
        return NodeOutput(result=(*_patched(model, clip, file), file.name), ui=ui)
    parts = opened(file)
    return NodeOutput(result=(parts.model, parts.clip or clip, file.name), ui=ui)


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
    name: Annotated[str, name_of("my-concept")],
    word: Annotated[str, Text("<thing>", tooltip="What stands for the concept in the captions.")],
    initializer: Annotated[str, Text("object", tooltip="The known word that comes closest.")],
    vectors: Annotated[int, Int(1, min=1, max=75, tooltip="Tokens that the concept takes.")],
    steps: Annotated[int, steps_of(1000)],
    learning_rate: Annotated[float, rate_of(5e-3)],
    seed: Seed,
    ctx: RunContext,
    settings: TrainingSettings | None = None,
) -> Annotated[NodeOutput, Clip, str]:
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
    return NodeOutput(result=(clip, embedding), ui=ui)


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
    name: Annotated[str, name_of("my-model")],
    steps: Annotated[int, steps_of(1000)],
    learning_rate: Annotated[float, rate_of(1e-5)],
    seed: Seed,
    ctx: RunContext,
    train_text_encoder: TrainText = False,
    half_precision_file: HalfFile = True,
    settings: TrainingSettings | None = None,
) -> Annotated[NodeOutput, Model, Clip, Vae, str]:
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
    parts = opened(file)
    result = (parts.model, parts.clip or clip, parts.vae or vae, file.name)
    return NodeOutput(result=result, ui=ui)


def _patched(model: Recipe, clip: Recipe, file: FileRef) -> tuple[Recipe, Recipe]:
    return add_lora(model, file, 1.0), add_lora(clip, file, 1.0)


NODES = [
    train_lora,
    train_dreambooth,
    train_textual_inversion,
    train_checkpoint,
]
