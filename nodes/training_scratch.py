"""Nodes that train a network of its own: upscalers, ControlNets, inpainting models, VAEs,
whole diffusion models."""

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
    PixelModel,
    RunContext,
    Text,
    Toggle,
    TrainingSettings,
    UpscaleModel,
    Vae,
    VqModel,
    node,
)
from engine.api.node import Widget
from engine.diffusion.checkpoint import open_checkpoint, open_controlnet, open_vae
from engine.diffusion.pixel_diffusion import PixelSizes, open_pixel_model
from engine.diffusion.training.control import Control
from engine.diffusion.training.finetune import FineTune
from engine.diffusion.training.inpainting import MASKS, Inpainting, Masks
from engine.diffusion.training.new_diffusion import (
    DiffusionSizes,
    DiffusionTraining,
    read_multiples,
)
from engine.diffusion.training.new_vae import MULTIPLES, VaeSizes, VaeTraining, groups_for
from engine.diffusion.training.node_runs import train_in_node
from engine.diffusion.training.pixels import PixelTraining
from engine.diffusion.training.settings import TrainingSettings as Settings
from engine.diffusion.training.settings import with_rate
from engine.diffusion.training.upscaling import UpscalerSettings, UpscalerTraining
from engine.diffusion.training.vq import VqTraining
from engine.diffusion.upscaler import open_upscaler
from engine.diffusion.vq_autoencoder import VqSizes, open_vq

_CATEGORY = "training/new models"
_SAMPLES = 10  # rows of sample pictures over a run, where the settings name no other number

_Seed = Annotated[int, Int(0, min=0, max=2**63 - 1, control_after_generate=False)]
_Batch = Annotated[int, Int(8, min=1, max=1024, tooltip="Crops or pictures in one step.")]

_Size = Annotated[
    int, Int(64, min=16, max=2048, step=8, tooltip="Side in pixels at which pictures are learned.")
]


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


def _at_size(settings: Settings, size_px: int, batch_size: int) -> Settings:
    batches = replace(settings.batches, size_px=size_px, batch_size=batch_size)
    return replace(settings, batches=batches)


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


@node(
    "TrainInpainting",
    title="Train Inpainting Model",
    category=_CATEGORY,
    output_names=("MODEL", "CLIP", "VAE", "ckpt_name"),
    search=("fine-tune", "inpaint", "mask", "training"),
    is_output=True,
)
def train_inpainting(
    model: Model,
    clip: Clip,
    vae: Vae,
    dataset: Dataset,
    name: Annotated[str, Text("my-inpainting")],
    masks: Annotated[
        Masks, Choice(MASKS, tooltip="Where to paint: random places, or the pictures' own masks.")
    ],
    steps: Annotated[int, _steps(2000)],
    learning_rate: Annotated[float, _rate(1e-5)],
    caption_dropout: Annotated[float, Float(0.1, min=0.0, max=1.0, step=0.05)],
    seed: _Seed,
    ctx: RunContext,
    half_precision_file: Annotated[bool, Toggle(True, tooltip="Half the file's size (fp16).")] = (
        True
    ),
    settings: TrainingSettings | None = None,
) -> tuple[Model, Clip, Vae, str]:
    """Makes an inpainting model of a plain one: it sees the picture around the mask and fills the
    rest in. The result is a checkpoint for Inpaint Model Conditioning. The sample pictures show a
    hole and how it is filled."""
    shared = _settings(settings, learning_rate, steps)
    job = FineTune(
        method=Inpainting(masks=masks, is_half=half_precision_file),
        model=model,
        clip=clip,
        vae=vae,
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=replace(shared, batches=replace(shared.batches, caption_dropout=caption_dropout)),
    )
    file, ui = train_in_node(ctx, job, name)
    parts = open_checkpoint(Path(file.path), file.digest, file.name)
    result = (parts.model, parts.clip or clip, parts.vae or vae, file.name)
    return NodeOutput(result=result, ui=ui)  # pyright: ignore[reportReturnType]


@node(
    "TrainVAE",
    title="Train VAE",
    category=_CATEGORY,
    output_names=("VAE", "vae_name"),
    search=("autoencoder", "latent", "from scratch", "training"),
    is_output=True,
)
def train_vae(
    dataset: Dataset,
    name: Annotated[str, Text("my-vae")],
    size: _Size,
    width: Annotated[
        int, Int(32, min=8, max=512, step=8, tooltip="Channels of the first level; 128 in SD 1.x.")
    ],
    levels: Annotated[
        str, Choice(tuple(MULTIPLES), tooltip="How many times the width each level has.")
    ],
    blocks: Annotated[int, Int(1, min=1, max=8, tooltip="Residual blocks of a level.")],
    batch_size: _Batch,
    steps: Annotated[int, _steps(5000)],
    learning_rate: Annotated[float, _rate(1e-3)],
    kl_weight: Annotated[
        float, Float(1e-4, min=0.0, max=1.0, step=1e-6, round=False, tooltip="Smoother latents.")
    ],
    structure_weight: Annotated[
        float, Float(0.0, min=0.0, max=10.0, step=0.1, tooltip="Sharper edges at three scales.")
    ],
    critic_weight: Annotated[
        float,
        Float(
            0.0, min=0.0, max=1.0, step=0.01,
            tooltip="A small critic asks for real-looking detail (adversarial); 0: none.",
        ),
    ],
    seed: _Seed,
    ctx: RunContext,
    settings: TrainingSettings | None = None,
) -> tuple[Vae, str]:  # fmt: skip
    """Trains an autoencoder from nothing: it makes pictures eight times smaller and back. A new
    diffusion model can be trained on it. The sample pictures show pictures and what comes back."""
    job = VaeTraining(
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=_at_size(_settings(settings, learning_rate, steps), size, batch_size),
        sizes=VaeSizes(
            width=width,
            multiples=levels,
            blocks=blocks,
            kl_weight=kl_weight,
            structure_weight=structure_weight,
            critic_weight=critic_weight,
        ),
    )
    file, ui = train_in_node(ctx, job, name)
    vae = open_vae(Path(file.path), file.digest, file.name)
    return NodeOutput(result=(vae, file.name), ui=ui)  # pyright: ignore[reportReturnType]


@node(
    "TrainDiffusion",
    title="Train Diffusion Model",
    category=_CATEGORY,
    output_names=("MODEL", "CLIP", "VAE", "ckpt_name"),
    search=("latent diffusion", "from scratch", "unet", "training"),
    is_output=True,
)
def train_diffusion(
    vae: Vae,
    dataset: Dataset,
    name: Annotated[str, Text("my-diffusion")],
    size: _Size,
    width: Annotated[
        int, Int(64, min=8, max=1280, step=8, tooltip="Channels of the first level; 320 in SD 1.x.")
    ],
    levels: Annotated[
        str, Text("1 2", tooltip="How many times the width each level has; 1 2 4 4 in SD 1.x.")
    ],
    blocks: Annotated[int, Int(1, min=1, max=8, tooltip="Residual blocks of a level.")],
    heads: Annotated[int, Int(8, min=1, max=64, tooltip="Attention heads.")],
    batch_size: _Batch,
    steps: Annotated[int, _steps(20_000)],
    learning_rate: Annotated[float, _rate(1e-3)],
    caption_dropout: Annotated[
        float, Float(0.1, min=0.0, max=1.0, step=0.05, tooltip="Needed for cfg; 1: no captions.")
    ],
    seed: _Seed,
    ctx: RunContext,
    clip: Clip | None = None,
    text_width: Annotated[
        int, Int(128, min=8, max=1024, step=8, tooltip="Of a new text encoder, without a CLIP.")
    ] = 128,
    text_layers: Annotated[int, Int(3, min=1, max=24)] = 3,
    settings: TrainingSettings | None = None,
) -> tuple[Model, Clip, Vae, str]:
    """Trains a latent diffusion model from nothing on captioned pictures, and saves a checkpoint.
    With a CLIP that text encoder is used as it is; without one a new one learns along. Captions can
    be class names; where all are empty the model is unconditional."""
    shared = _at_size(_settings(settings, learning_rate, steps), size, batch_size)
    job = DiffusionTraining(
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=replace(shared, batches=replace(shared.batches, caption_dropout=caption_dropout)),
        vae=vae,
        clip=clip,
        sizes=DiffusionSizes(
            width=width,
            multiples=read_multiples(levels),
            blocks=blocks,
            heads=heads,
            text_width=text_width,
            text_layers=text_layers,
        ),
    )
    file, ui = train_in_node(ctx, job, name)
    parts = open_checkpoint(Path(file.path), file.digest, file.name)
    return NodeOutput(result=(parts.model, parts.clip, parts.vae, file.name), ui=ui)  # pyright: ignore[reportReturnType]


@node(
    "TrainPixelDiffusion",
    title="Train Pixel Diffusion",
    category=_CATEGORY,
    output_names=("PIXEL_MODEL", "model_name"),
    search=("DDPM", "unconditional", "from scratch", "training"),
    is_output=True,
)
def train_pixel_diffusion(
    dataset: Dataset,
    name: Annotated[str, Text("my-pixels")],
    size: _Size,
    width: Annotated[int, Int(64, min=8, max=512, step=8, tooltip="Channels of the first level.")],
    levels: Annotated[str, Text("1 2 2", tooltip="How many times the width each level has.")],
    blocks: Annotated[int, Int(1, min=1, max=8, tooltip="Residual blocks of a level.")],
    batch_size: _Batch,
    steps: Annotated[int, _steps(20_000)],
    learning_rate: Annotated[float, _rate(2e-4)],
    seed: _Seed,
    ctx: RunContext,
    settings: TrainingSettings | None = None,
) -> tuple[PixelModel, str]:
    """Trains a diffusion model on the pixels themselves (DDPM): no VAE, no captions. It suits small
    pictures; Sample Pixel Diffusion draws with it. The sample pictures show what it draws."""
    job = PixelTraining(
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=_at_size(_settings(settings, learning_rate, steps), size, batch_size),
        sizes=PixelSizes(
            size_px=size,
            width=width,
            multiples=read_multiples(levels),
            blocks=blocks,
            groups=groups_for(width),
        ),
    )
    file, ui = train_in_node(ctx, job, name)
    model = open_pixel_model(Path(file.path), file.digest, file.name)
    return NodeOutput(result=(model, file.name), ui=ui)  # pyright: ignore[reportReturnType]


@node(
    "TrainVQAutoencoder",
    title="Train VQ Autoencoder",
    category=_CATEGORY,
    output_names=("VQ_MODEL", "model_name"),
    search=("VQ-VAE", "codebook", "from scratch", "training"),
    is_output=True,
)
def train_vq_autoencoder(
    dataset: Dataset,
    name: Annotated[str, Text("my-codes")],
    size: _Size,
    width: Annotated[int, Int(32, min=8, max=512, step=8, tooltip="Channels of the first level.")],
    levels: Annotated[
        str, Text("1 2 2", tooltip="Widths of the levels; each but the last halves the picture.")
    ],
    blocks: Annotated[int, Int(1, min=1, max=8, tooltip="Residual blocks of a level.")],
    codes: Annotated[int, Int(256, min=2, max=65536, tooltip="How many codes its book has.")],
    code_width: Annotated[int, Int(4, min=1, max=512, tooltip="Numbers in a code.")],
    batch_size: _Batch,
    steps: Annotated[int, _steps(5000)],
    learning_rate: Annotated[float, _rate(1e-3)],
    seed: _Seed,
    ctx: RunContext,
    settings: TrainingSettings | None = None,
) -> tuple[VqModel, str]:
    """Trains a vector-quantised autoencoder: it writes pictures as grids of codes out of a book
    that it learns, and reads them back. VQ Encode and VQ Decode use it. The sample pictures show
    pictures and what comes back."""
    job = VqTraining(
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=_at_size(_settings(settings, learning_rate, steps), size, batch_size),
        sizes=VqSizes(
            width=width,
            multiples=read_multiples(levels),
            blocks=blocks,
            codes=codes,
            channels=code_width,
            groups=groups_for(width),
        ),
    )
    file, ui = train_in_node(ctx, job, name)
    model = open_vq(Path(file.path), file.digest, file.name)
    return NodeOutput(result=(model, file.name), ui=ui)  # pyright: ignore[reportReturnType]


NODES = [
    train_upscaler,
    train_controlnet,
    train_inpainting,
    train_vae,
    train_diffusion,
    train_pixel_diffusion,
    train_vq_autoencoder,
]
