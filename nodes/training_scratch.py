"""Nodes that train a network of its own: upscalers, ControlNets, inpainting models, VAEs,
whole diffusion models."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

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
    TrainingSettings,
    UpscaleModel,
    Vae,
    VqModel,
    node,
)
from engine.diffusion.checkpoint import open_controlnet, open_vae
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
from nodes.training_inputs import (
    Batch,
    HalfFile,
    Seed,
    Size,
    dropout_of,
    name_of,
    opened,
    rate_of,
    steps_of,
)

_CATEGORY = "training/new models"
_SAMPLES = 10  # rows of sample pictures over a run, where the settings name no other number


def _settings(
    settings: TrainingSettings | None, rate: float, steps: int, **batches: Any
) -> Settings:
    """The settings at a rate, with sample pictures on the way; `batches` as the node has them."""
    shared = with_rate(settings, rate)
    every = shared.samples.every or max(1, steps // _SAMPLES)
    return replace(
        shared,
        samples=replace(shared.samples, every=every),
        batches=replace(shared.batches, **batches),
    )


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
    name: Annotated[str, name_of("my-upscaler")],
    scale: Annotated[str, Choice(("2", "4"), tooltip="How many times larger it makes pictures.")],
    width: Annotated[int, Int(32, min=8, max=256, tooltip="Channels; 64 in published models.")],
    growth: Annotated[int, Int(16, min=4, max=128, tooltip="32 in published models.")],
    blocks: Annotated[int, Int(4, min=1, max=64, tooltip="Depth; 23 in published models.")],
    crop_size: Annotated[
        int, Int(32, min=8, max=256, step=2, tooltip="Side of the small crops that it learns from.")
    ],
    batch_size: Batch,
    steps: Annotated[int, steps_of(5000)],
    learning_rate: Annotated[float, rate_of(4e-4)],
    seed: Seed,
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
) -> Annotated[NodeOutput, UpscaleModel, str]:  # fmt: skip
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
    return NodeOutput(result=(model, file.name), ui=ui)


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
    name: Annotated[str, name_of("my-controlnet")],
    steps: Annotated[int, steps_of(2000)],
    learning_rate: Annotated[float, rate_of(1e-5)],
    caption_dropout: Annotated[
        float,
        dropout_of(0.5, "Share of captions left empty, so that it learns to read the pictures."),
    ],
    condition_dropout: Annotated[
        float, dropout_of(0.0, "Share of condition pictures left black.")
    ],
    seed: Seed,
    ctx: RunContext,
    settings: TrainingSettings | None = None,
) -> Annotated[NodeOutput, ControlNet, str]:  # fmt: skip
    """Trains a ControlNet: it lets pictures such as edges, depth or poses steer what the model
    draws. The dataset needs a condition picture for each picture; the model itself is not changed.
    The sample pictures show condition and result."""
    job = FineTune(
        method=Control(condition_dropout=condition_dropout),
        model=model,
        clip=clip,
        vae=vae,
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=_settings(settings, learning_rate, steps, caption_dropout=caption_dropout),
    )
    file, ui = train_in_node(ctx, job, name)
    control = open_controlnet(Path(file.path), file.digest, file.name)
    return NodeOutput(result=(control, file.name), ui=ui)


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
    name: Annotated[str, name_of("my-inpainting")],
    masks: Annotated[
        Masks, Choice(MASKS, tooltip="Where to paint: random places, or the pictures' own masks.")
    ],
    steps: Annotated[int, steps_of(2000)],
    learning_rate: Annotated[float, rate_of(1e-5)],
    caption_dropout: Annotated[float, dropout_of(0.1, "Share of captions left empty.")],
    seed: Seed,
    ctx: RunContext,
    half_precision_file: HalfFile = True,
    settings: TrainingSettings | None = None,
) -> Annotated[NodeOutput, Model, Clip, Vae, str]:
    """Makes an inpainting model of a plain one: it sees the picture around the mask and fills the
    rest in. The result is a checkpoint for Inpaint Model Conditioning. The sample pictures show a
    hole and how it is filled."""
    job = FineTune(
        method=Inpainting(masks=masks, is_half=half_precision_file),
        model=model,
        clip=clip,
        vae=vae,
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=_settings(settings, learning_rate, steps, caption_dropout=caption_dropout),
    )
    file, ui = train_in_node(ctx, job, name)
    parts = opened(file)
    result = (parts.model, parts.clip or clip, parts.vae or vae, file.name)
    return NodeOutput(result=result, ui=ui)


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
    name: Annotated[str, name_of("my-vae")],
    size: Size,
    width: Annotated[
        int, Int(32, min=8, max=512, step=8, tooltip="Channels of the first level; 128 in SD 1.x.")
    ],
    levels: Annotated[
        str, Choice(tuple(MULTIPLES), tooltip="How many times the width each level has.")
    ],
    blocks: Annotated[int, Int(1, min=1, max=8, tooltip="Residual blocks of a level.")],
    batch_size: Batch,
    steps: Annotated[int, steps_of(5000)],
    learning_rate: Annotated[float, rate_of(1e-3)],
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
    seed: Seed,
    ctx: RunContext,
    settings: TrainingSettings | None = None,
) -> Annotated[NodeOutput, Vae, str]:  # fmt: skip
    """Trains an autoencoder from nothing: it makes pictures eight times smaller and back. A new
    diffusion model can be trained on it. The sample pictures show pictures and what comes back."""
    job = VaeTraining(
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=_settings(settings, learning_rate, steps, size_px=size, batch_size=batch_size),
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
    return NodeOutput(result=(vae, file.name), ui=ui)


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
    name: Annotated[str, name_of("my-diffusion")],
    size: Size,
    width: Annotated[
        int, Int(64, min=8, max=1280, step=8, tooltip="Channels of the first level; 320 in SD 1.x.")
    ],
    levels: Annotated[
        str, Text("1 2", tooltip="How many times the width each level has; 1 2 4 4 in SD 1.x.")
    ],
    blocks: Annotated[int, Int(1, min=1, max=8, tooltip="Residual blocks of a level.")],
    heads: Annotated[int, Int(8, min=1, max=64, tooltip="Attention heads.")],
    batch_size: Batch,
    steps: Annotated[int, steps_of(20_000)],
    learning_rate: Annotated[float, rate_of(1e-3)],
    caption_dropout: Annotated[float, dropout_of(0.1, "Needed for cfg; 1: no captions.")],
    seed: Seed,
    ctx: RunContext,
    clip: Clip | None = None,
    text_width: Annotated[
        int, Int(128, min=8, max=1024, step=8, tooltip="Of a new text encoder, without a CLIP.")
    ] = 128,
    text_layers: Annotated[int, Int(3, min=1, max=24)] = 3,
    settings: TrainingSettings | None = None,
) -> Annotated[NodeOutput, Model, Clip, Vae, str]:
    """Trains a latent diffusion model from nothing on captioned pictures, and saves a checkpoint.
    With a CLIP that text encoder is used as it is; without one a new one learns along. Captions can
    be class names; where all are empty the model is unconditional."""
    batches = {"size_px": size, "batch_size": batch_size, "caption_dropout": caption_dropout}
    job = DiffusionTraining(
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=_settings(settings, learning_rate, steps, **batches),
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
    parts = opened(file)
    return NodeOutput(result=(parts.model, parts.clip, parts.vae, file.name), ui=ui)


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
    name: Annotated[str, name_of("my-pixels")],
    size: Size,
    width: Annotated[int, Int(64, min=8, max=512, step=8, tooltip="Channels of the first level.")],
    levels: Annotated[str, Text("1 2 2", tooltip="How many times the width each level has.")],
    blocks: Annotated[int, Int(1, min=1, max=8, tooltip="Residual blocks of a level.")],
    batch_size: Batch,
    steps: Annotated[int, steps_of(20_000)],
    learning_rate: Annotated[float, rate_of(2e-4)],
    seed: Seed,
    ctx: RunContext,
    settings: TrainingSettings | None = None,
) -> Annotated[NodeOutput, PixelModel, str]:
    """Trains a diffusion model on the pixels themselves (DDPM): no VAE, no captions. It suits small
    pictures; Sample Pixel Diffusion draws with it. The sample pictures show what it draws."""
    job = PixelTraining(
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=_settings(settings, learning_rate, steps, size_px=size, batch_size=batch_size),
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
    return NodeOutput(result=(model, file.name), ui=ui)


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
    name: Annotated[str, name_of("my-codes")],
    size: Size,
    width: Annotated[int, Int(32, min=8, max=512, step=8, tooltip="Channels of the first level.")],
    levels: Annotated[
        str, Text("1 2 2", tooltip="Widths of the levels; each but the last halves the picture.")
    ],
    blocks: Annotated[int, Int(1, min=1, max=8, tooltip="Residual blocks of a level.")],
    codes: Annotated[int, Int(256, min=2, max=65536, tooltip="How many codes its book has.")],
    code_width: Annotated[int, Int(4, min=1, max=512, tooltip="Numbers in a code.")],
    batch_size: Batch,
    steps: Annotated[int, steps_of(5000)],
    learning_rate: Annotated[float, rate_of(1e-3)],
    seed: Seed,
    ctx: RunContext,
    settings: TrainingSettings | None = None,
) -> Annotated[NodeOutput, VqModel, str]:
    """Trains a vector-quantised autoencoder: it writes pictures as grids of codes out of a book
    that it learns, and reads them back. VQ Encode and VQ Decode use it. The sample pictures show
    pictures and what comes back."""
    job = VqTraining(
        dataset=dataset,
        steps=steps,
        seed=seed,
        settings=_settings(settings, learning_rate, steps, size_px=size, batch_size=batch_size),
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
    return NodeOutput(result=(model, file.name), ui=ui)


NODES = [
    train_upscaler,
    train_controlnet,
    train_inpainting,
    train_vae,
    train_diffusion,
    train_pixel_diffusion,
    train_vq_autoencoder,
]
