"""The command that makes the built-in model: renders, trains every stage, writes and grades it."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from engine.api.errors import MissingModel
from engine.diffusion.training.autoencoder import (
    autoencoder_loss,
    autoencoder_sets,
    decode,
    decoder_loss,
    encode_pictures,
    fold_latent_scale,
    freeze_encoder,
    latent_colours,
)
from engine.diffusion.training.dataset import denoiser_scenes, kind_weights, rendered, to_pictures
from engine.diffusion.training.denoiser import LatentSet, denoiser_loss, sample_euler
from engine.diffusion.training.export import (
    Networks,
    read_single_file,
    single_file_tensors,
    write_single_file,
)
from engine.diffusion.training.loop import (
    LoopConfig,
    Loss,
    averaged_weights,
    fit,
)
from engine.diffusion.training.networks import (
    CONTEXT_TOKENS,
    LATENT_SCALE,
    make_text_encoder,
    make_unet,
    make_vae,
    token_table,
)
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.rates import RateSettings
from engine.diffusion.training.report import Report, StepLines
from engine.diffusion.training.shapes_world.captions import Caption, cut, describe
from engine.diffusion.training.shapes_world.evaluation import (
    KINDS,
    Evaluation,
    Generate,
    evaluate,
    sample_sheet,
)
from engine.diffusion.training.state import write_atomically
from engine.diffusion.training.text import (
    CLIP_END,
    CLIP_START,
    FOREIGN,
    AttributeReader,
    CompactVocabulary,
    attribute_accuracy,
    attribute_loss,
    context_of,
    with_foreign_words,
)
from engine.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

DEFAULT_OUTPUT = Path("models/checkpoints/weft-builtin.safetensors")
STEPS, CFG = 20, 2.0
COLOUR_PICTURES = 600  # what the colours of previews are fitted on
VAE_SHARE, UNET_SHARE, DECODER_SHARE = 0.2, 0.65, 0.15
log = logging.getLogger("weft.training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to train and for how long; the same plan in the same folder resumes."""

    size_px: int = 64
    minutes: float = 150.0
    seed: int = 7
    folder: Path = Path("training")
    scenes: int = 60_000
    pictures: int = 36_000
    text_steps: int = 1200


def loop_config(
    *,
    lr: float,
    hold: float,
    average: float = 0.999,
    warmup_steps: int = 50,
    final: float = 0.03,
    weight_decay: float = 0.01,
    steps: int | None = None,
    minutes: float | None = None,
) -> LoopConfig:
    """AdamW at a rate that is held, then falls along a cosine; averaged weights."""
    return LoopConfig(
        steps=steps,
        minutes=minutes,
        optimizer=OptimizerSettings(lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay),
        rate=RateSettings(kind="cosine", warmup_steps=warmup_steps, hold=hold, final=final),
        average=average,
    )


def train_part(
    net: torch.nn.Module, loss: Loss, config: LoopConfig, plan: Plan, name: str, report: Report
) -> None:
    """Trains one stage unless it is done; leaves the net with its averaged weights."""
    done = plan.folder / f"{name}-{plan.size_px}.pt"
    if done.exists():
        net.load_state_dict(torch.load(done, weights_only=True))
        return
    report(f"{name}: training")
    path = plan.folder / f"{name}-{plan.size_px}-state.pt"
    lines = StepLines(lambda line: report(f"{name}: {line}"))
    state = fit(net, loss, config, seed=plan.seed, path=path, on_step=lines)
    with averaged_weights(net, state):
        weights = {key: value.clone() for key, value in net.state_dict().items()}
    write_atomically(weights, done)
    net.load_state_dict(weights)


def train_vae(plan: Plan, report: Report) -> AutoencoderKL:
    """Stages a and b: encoder and decoder together."""
    torch.manual_seed(plan.seed)
    vae = make_vae()
    sets = autoencoder_sets(plan.folder, plan.size_px, plan.pictures, plan.seed)
    config = loop_config(
        lr=1.2e-3, minutes=plan.minutes * VAE_SHARE, warmup_steps=30, hold=0.4, average=0.998
    )
    train_part(vae, autoencoder_loss(vae, sets), config, plan, "vae", report)
    return vae


def captions_of(plan: Plan) -> list[Caption]:
    """One caption per training scene."""
    rng = np.random.default_rng([plan.seed, 3])
    return [describe(scene, rng) for scene in denoiser_scenes(plan.scenes, plan.seed)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedText:
    """The text encoder over its compact vocabulary, and the contexts of all captions."""

    reader: AttributeReader
    vocabulary: CompactVocabulary
    contexts: np.ndarray
    empty: Tensor


def train_text(plan: Plan, report: Report) -> TrainedText:
    """Text pre-training, then the context of every caption: some cut, some with foreign words."""
    captions = captions_of(plan)
    tokenizer = load_tokenizer()
    tokens = [tokenizer.encode(caption.text) for caption in captions]
    vocabulary = CompactVocabulary.of(tokens)
    rng = np.random.default_rng([plan.seed, 4])
    rows = with_foreign_words(vocabulary.compact(tokens), 0.03, rng)
    torch.manual_seed(plan.seed + 1)
    reader = AttributeReader(make_text_encoder(len(vocabulary.clip_ids)))
    config = loop_config(lr=2e-3, steps=plan.text_steps, hold=0.3, average=0.99, weight_decay=0.0)
    train_part(reader, attribute_loss(reader, rows, captions), config, plan, "text", report)
    with torch.no_grad():
        token_table(reader.encoder)[FOREIGN] = 0
    accuracy = attribute_accuracy(reader, rows[:1000], captions[:1000])
    report(f"text: every attribute right in {accuracy:.1%} of captions")
    shortened = [
        tokenizer.encode(cut(caption.text, rng)) if rng.random() < 0.05 else own
        for caption, own in zip(captions, tokens, strict=True)
    ]
    rows = with_foreign_words(vocabulary.compact(shortened), 0.03, rng)
    path = plan.folder / f"contexts-{plan.scenes}.npy"
    if not path.exists():
        write_contexts(path, reader, rows)
    with torch.no_grad():
        empty = reader(torch.from_numpy(vocabulary.compact([[]])))[0]
    contexts = np.load(path, mmap_mode="r")
    return TrainedText(reader=reader, vocabulary=vocabulary, contexts=contexts, empty=empty)


@torch.no_grad()
def write_contexts(path: Path, reader: AttributeReader, rows: np.ndarray) -> None:
    """The context of every caption in one file. Shapes: (N, 77, width) float16."""
    partial = path.with_name(path.name + ".partial")
    sample = reader(torch.from_numpy(rows[:1]))
    array = np.lib.format.open_memmap(
        partial, mode="w+", dtype=np.float16, shape=(len(rows), *sample.shape[1:])
    )
    for start in range(0, len(rows), 256):
        chunk = torch.from_numpy(rows[start : start + 256])
        array[start : start + 256] = reader(chunk).half().numpy()
    array.flush()
    partial.replace(path)


def denoiser_pictures(plan: Plan) -> np.ndarray:
    """The denoiser's training pictures, rendered once. Shapes: (N, H, W, 3) uint8."""
    scenes = denoiser_scenes(plan.scenes, plan.seed)
    return rendered(
        plan.folder / f"denoiser-{plan.size_px}-{plan.scenes}.npy", scenes, plan.size_px
    )


def cached_latents(plan: Plan, vae: AutoencoderKL, report: Report) -> Tensor:
    """Latent means of all training pictures, computed once. Shapes: (N, 4, h, w)."""
    path = plan.folder / f"latents-{plan.size_px}-{plan.scenes}.pt"
    if not path.exists():
        report("latents: rendering and encoding")
        write_atomically(encode_pictures(vae, denoiser_pictures(plan)), path)
    return torch.load(path, weights_only=True)


def train_unet(
    plan: Plan, scaled: Tensor, text: TrainedText, report: Report
) -> UNet2DConditionModel:
    """The denoiser on latents of unit variance."""
    torch.manual_seed(plan.seed + 2)
    unet = make_unet()
    weights = kind_weights(denoiser_scenes(plan.scenes, plan.seed))
    data = LatentSet(latents=scaled, contexts=text.contexts, empty=text.empty, weights=weights)
    config = loop_config(
        lr=1.5e-3, minutes=plan.minutes * UNET_SHARE, warmup_steps=100, hold=0.45, final=0.02
    )
    train_part(unet, denoiser_loss(unet, data), config, plan, "unet", report)
    return unet


def refine_decoder(plan: Plan, vae: AutoencoderKL, std: Tensor, report: Report) -> None:
    """Stage c: the decoder alone, on latents as imperfect as the denoiser's."""
    freeze_encoder(vae)
    sets = autoencoder_sets(plan.folder, plan.size_px, plan.pictures, plan.seed)
    config = loop_config(
        lr=8e-4, minutes=plan.minutes * DECODER_SHARE, warmup_steps=30, hold=0.2, average=0.998
    )
    train_part(vae, decoder_loss(vae, sets, std), config, plan, "decoder", report)


def train(plan: Plan, output: Path, report: Report) -> None:
    """All stages in order; each resumes where it stopped and is skipped once done."""
    vae = train_vae(plan, report)
    text = train_text(plan, report)
    latents = cached_latents(plan, vae, report)
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    scaled = (latents - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    unet = train_unet(plan, scaled, text, report)
    refine_decoder(plan, vae, std, report)
    fold_latent_scale(vae, mean, std, LATENT_SCALE)
    networks = Networks(unet=unet, vae=vae, text=text.reader.encoder)
    tensors = single_file_tensors(networks, text.vocabulary.clip_ids)
    colours = latent_colours(scaled[:COLOUR_PICTURES], denoiser_pictures(plan)[:COLOUR_PICTURES])
    told = {
        "weft.training.minutes": str(plan.minutes),
        "weft.latent_rgb": json.dumps(colours),
    }
    write_single_file(output, tensors, plan.size_px, told)
    report(f"wrote {output}")


def generator_of(networks: Networks, size_px: int, cfg: float, steps: int = STEPS) -> Generate:
    """Prompt and seed to picture with the trained networks alone."""
    tokenizer = load_tokenizer()
    side = size_px // 8

    def rows_of(prompts: Sequence[str]) -> Tensor:
        rows = np.full((len(prompts), CONTEXT_TOKENS), CLIP_END, np.int64)
        rows[:, 0] = CLIP_START
        for row, prompt in zip(rows, prompts, strict=True):
            tokens = tokenizer.encode(prompt)[: CONTEXT_TOKENS - 2]
            row[1 : 1 + len(tokens)] = tokens
        return torch.from_numpy(rows)

    @torch.no_grad()
    def generate(prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        context = context_of(networks.text, rows_of([*prompts, ""]))
        noise = torch.stack(
            [torch.randn(4, side, side, generator=torch.Generator().manual_seed(s)) for s in seeds]
        )
        words, empty = context[:-1], context[-1]
        latents = sample_euler(networks.unet, words, empty, noise, steps=steps, cfg=cfg)
        return to_pictures(decode(networks.vae, latents / LATENT_SCALE))

    return generate


def grade_file(
    path: Path, folder: Path, size_px: int, count: int, report: Report, cfg: float = CFG
) -> Evaluation:
    """Grades a file on seeds that were never trained on; writes a JSON report and a sheet."""
    if not path.is_file():
        raise MissingModel(
            f"There is no file {path} to grade.", hint="Train one first: main.py train builtin."
        )
    result = evaluate(generator_of(read_single_file(path), size_px, cfg), range(count))
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"seeds": count, "steps": STEPS, "cfg": cfg, "sampler": "euler"}
    summary = {"file": path.name, **settings, "figures": result.figures}
    (folder / "evaluation.json").write_text(json.dumps(summary, indent=2) + "\n")
    sheet = [s for kind in KINDS for s in [x for x in result.samples if x[0].kind == kind][:12]]
    sample_sheet(sheet).save(folder / "samples.png")
    for kind, figures in result.figures.items():
        report(f"{kind}: " + ", ".join(f"{name} {share:.1%}" for name, share in figures.items()))
    return result


def _size(text: str) -> int:
    size_px = int(text)
    if size_px % 16 or not 32 <= size_px <= 512:
        raise argparse.ArgumentTypeError(f"{text} is not a multiple of 16 from 32 to 512")
    return size_px


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="main.py train builtin", description="Train or grade the built-in model."
    )
    parser.add_argument("--size", type=_size, default=64, help="native picture size in pixels")
    parser.add_argument("--minutes", type=float, default=150.0, help="training time in all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path("training"), help="the run's files")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    parser.add_argument("--evaluate", type=Path, metavar="FILE", help="only grade this file")
    parser.add_argument("--cfg", type=float, default=CFG, help="guidance when grading")
    parser.add_argument("--seeds", type=int, default=200, help="pictures per kind when grading")
    return parser


def main(argv: list[str]) -> int:
    """Runs the command; gives the process's exit code."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    if options.evaluate is None:
        plan = Plan(
            size_px=options.size,
            minutes=options.minutes,
            seed=options.seed,
            folder=options.folder,
        )
        train(plan, options.output, log.info)
    graded = options.evaluate or options.output
    grade_file(graded, options.folder, options.size, options.seeds, log.info, options.cfg)
    return 0
