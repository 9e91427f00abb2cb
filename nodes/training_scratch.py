"""Nodes that train a network of its own: upscalers, ControlNets."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from engine.api import (
    Choice,
    Clip,
    ControlNet,
    Dataset,
    Float,
    Int,
    Model,
    NodeOutput,
    RunContext,
    Text,
    TrainingSettings,
    UpscaleModel,
    Vae,
    node,
)
from engine.api.node import Widget
from engine.diffusion.checkpoint import open_controlnet
from engine.diffusion.training.control import Control
from engine.diffusion.training.finetune import FineTune
from engine.diffusion.training.node_runs import train_in_node
from engine.diffusion.training.settings import TrainingSettings as Settings
from engine.diffusion.training.settings import with_rate
from engine.diffusion.training.upscaling import UpscalerSettings, UpscalerTraining
from engine.diffusion.upscaler import open_upscaler

_CATEGORY = "training/new models"
_SAMPLES = 10  # rows of sample pictures over a run, where the settings name no other number

_Seed = Annotated[int, Int(0, min=0, max=2**63 - 1, control_after_generate=False)]
_Batch = Annotated[int, Int(8, min=1, max=1024, tooltip="Crops or pictures in one step.")]


def _steps(default: int) -> Widget:
    return Int(default, min=1, max=10_000_000, tooltip="How many steps to train.")


def _rate(default: float) -> Widget:
    return Float(
        default, min=0.0, max=10.0, step=1e-6, round=False,
        tooltip="The learning rate: lower where the loss jumps, higher where nothing is learned.",
    )  # fmt: skip


def _settings(settings: TrainingSettings | None, rate: float, steps: int) -> Settings:
    """The settings at a rate, with sample pictures on the way."""
    shared = with_rate(settings, rate)
    every = shared.samples.every or max(1, steps // _SAMPLES)
    return replace(shared, samples=replace(shared.samples, every=every))


@node(
    "TrainUpscaler",
    title="Train Upscaler",
    category=_CATEGORY,
    output_names=("UPSCALE_MODEL", "model_name"),
    search=("ESRGAN", "super resolution", "training"),
    is_output=True,
)
def train_upscaler(
    dataset: Dataset,
    name: Annotated[str, Text("my-upscaler")],
    scale: Annotated[str, Choice(("2", "4"), tooltip="How many times larger it makes pictures.")],
    width: Annotated[int, Int(32, min=8, max=256, tooltip="Channels; 64 in published models.")],
    growth: Annotated[int, Int(16, min=4, max=128, tooltip="32 in published models.")],
    blocks: Annotated[int, Int(4, min=1, max=64, tooltip="Depth; 23 in published models.")],
    crop_size: Annotated[
        int, Int(32, min=8, max=256, step=2, tooltip="Side of the small crops that it learns from.")
    ],
    batch_size: _Batch,
    steps: Annotated[int, _steps(5000)],
    learning_rate: Annotated[float, _rate(4e-4)],
    seed: _Seed,
    ctx: RunContext,
    vae: Vae | None = None,
    vae_share: Annotated[
        float,
        Float(
            0.5, min=0.0, max=1.0, step=0.05,
            tooltip="Share of the crops that went through the VAE, where one is connected.",
        ),
    ] = 0.5,
    settings: TrainingSettings | None = None,
) -> tuple[UpscaleModel, str]:  # fmt: skip
    """Trains a model that enlarges pictures, in the layout of ESRGAN, from pictures alone: each is
    made small, and the model learns to make it large again. With a VAE it also learns to mend what
    that VAE does to pictures. The sample pictures show small, enlarged, and the truth."""
    job = UpscalerTraining(
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=_settings(settings, learning_rate, steps),
        vae=vae,
        sizes=UpscalerSettings(
            scale=int(scale),
            width=width,
            growth=growth,
            blocks=blocks,
            crop_px=crop_size,
            batch_size=batch_size,
            vae_share=vae_share if vae is not None else 0.0,
        ),
    )
    file, ui = train_in_node(ctx, job, name)
    model = open_upscaler(Path(file.path), file.digest, file.name)
    return NodeOutput(result=(model, file.name), ui=ui)  # pyright: ignore[reportReturnType]


@node(
    "TrainControlNet",
    title="Train ControlNet",
    category=_CATEGORY,
    output_names=("CONTROL_NET", "control_net_name"),
    search=("fine-tune", "condition", "edges", "training"),
    is_output=True,
)
def train_controlnet(
    model: Model,
    clip: Clip,
    vae: Vae,
    dataset: Dataset,
    name: Annotated[str, Text("my-controlnet")],
    steps: Annotated[int, _steps(2000)],
    learning_rate: Annotated[float, _rate(1e-5)],
    caption_dropout: Annotated[
        float,
        Float(
            0.5, min=0.0, max=1.0, step=0.05,
            tooltip="Share of captions left empty, so that it learns to read the pictures.",
        ),
    ],
    condition_dropout: Annotated[
        float,
        Float(0.0, min=0.0, max=1.0, step=0.05, tooltip="Share of condition pictures left black."),
    ],
    seed: _Seed,
    ctx: RunContext,
    settings: TrainingSettings | None = None,
) -> tuple[ControlNet, str]:  # fmt: skip
    """Trains a ControlNet: it lets pictures such as edges, depth or poses steer what the model
    draws. The dataset needs a condition picture for each picture; the model itself is not changed.
    The sample pictures show condition and result."""
    shared = _settings(settings, learning_rate, steps)
    job = FineTune(
        method=Control(condition_dropout=condition_dropout),
        model=model,
        clip=clip,
        vae=vae,
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=replace(shared, batches=replace(shared.batches, caption_dropout=caption_dropout)),
    )
    file, ui = train_in_node(ctx, job, name)
    control = open_controlnet(Path(file.path), file.digest, file.name)
    return NodeOutput(result=(control, file.name), ui=ui)  # pyright: ignore[reportReturnType]


NODES = [train_upscaler, train_controlnet]
