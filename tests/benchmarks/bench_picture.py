"""A picture of SD1.5 size beside the textbook loop over diffusers' networks, in turns.

    python -m tests.benchmarks.bench_picture [--checkpoint FILE] [--size PX] [--steps N]
        [--rounds N] [--threads N] [--precision fp32|bf16]

Two processes make the same picture in turns. `textbook` holds UNet, VAE and text encoder in fp32
and runs Euler with guidance as handbooks show it, prompt and negative prompt in one batch; `weft`
runs the workflow through the engine. Told are CPU and wall seconds, the ratio of each turn, the
largest difference of the pictures, and the peak of anonymous memory from the process' start on.
Aims: 0.95 times the textbook's time in fp32, 0.45 in bf16 where the CPU multiplies it; a peak of
1.1 times weights and activations. Without a checkpoint a random one (2.1 GB) is written first.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.config import Config
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.parameterization import parameterization
from engine.diffusion.residency import ModelPool
from engine.diffusion.schedules import schedule
from engine.diffusion.text import encode
from engine.local import Weft
from tests.benchmarks.bench_diffusion import PeakMemory, write_sd15

PROMPT, NEGATIVE, CFG = "a lighthouse at dusk, storm", "blurry", 7.0
Make = Callable[[int], Tensor]  # the picture (H, W, 3) 0..255 of a seed


def textbook(options: argparse.Namespace) -> Make:
    """The handbook's loop over networks with fp32 weights of their own."""
    parts = open_checkpoint(options.checkpoint, "bench", options.checkpoint.name)
    assert parts.clip and parts.vae
    unet, text, vae = map(ModelPool().own_copy, (parts.model, parts.clip, parts.vae))
    model = parameterization("eps", unet.alphas_cumprod)
    sigmas = schedule(model, "normal", options.steps)
    side = options.size // 8

    def make(seed: int) -> Tensor:
        embeds = torch.cat([encode(text, prompt).embeds for prompt in (NEGATIVE, PROMPT)])
        x = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(seed))
        x = x * (1 + sigmas[0] ** 2) ** 0.5
        for sigma, following in pairwise(sigmas):
            scaled = torch.cat([x] * 2) / (sigma**2 + 1) ** 0.5
            time_ = model.timestep(sigma[None]).float().repeat(2)
            uncond, cond = unet.unet(scaled, time_, embeds, return_dict=False)[0].chunk(2)
            x = x + (uncond + CFG * (cond - uncond)) * (following - sigma)
        image = vae.model.decode(x / 0.18215, return_dict=False)[0]
        return ((image[0].movedim(0, -1) / 2 + 0.5).clamp(0, 1) * 255).round()

    return torch.no_grad()(make)


def weft(options: argparse.Namespace) -> Make:
    """The same as a workflow; nothing comes from a cache but the loaded weights."""
    base = Path(options.folder)
    models = base / "models" / "checkpoints"
    models.mkdir(parents=True, exist_ok=True)
    (models / "bench.safetensors").symlink_to(options.checkpoint)
    side = {"width": options.size, "height": options.size, "batch_size": 1}
    how = {"steps": options.steps, "cfg": CFG, "sampler_name": "euler", "scheduler": "normal"}
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0]}
    saved = {"images": ["6", 0], "filename_prefix": "bench"}
    sampled = {**how, **links, "latent_image": ["4", 0], "seed": 1, "denoise": 1.0}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": "bench.safetensors"}),
        "2": ("CLIPTextEncode", {"text": PROMPT, "clip": ["1", 1]}),
        "3": ("CLIPTextEncode", {"text": NEGATIVE, "clip": ["1", 1]}),
        "4": ("EmptyLatentImage", side),
        "5": ("KSampler", sampled),
        "6": ("VAEDecode", {"samples": ["5", 0], "vae": ["1", 2]}),
        "7": ("SaveImage", saved),
    }
    prompt = {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in kinds.items()}
    engine = Weft(Config(base_dir=base, use_cache=False, precision=options.precision))
    job = engine.load(prompt)

    def make(seed: int) -> Tensor:
        (picture,) = job.set("5.seed", seed).run().images
        pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
        return pixels.view(options.size, options.size, 3).float()

    return make


def serve(options: argparse.Namespace) -> None:
    """Make the picture of each seed that comes; tell seconds and peak, leave the pixels."""
    if options.threads:
        torch.set_num_threads(options.threads)
    with PeakMemory() as memory:
        make = {"textbook": textbook, "weft": weft}[options.kind](options)
        for line in sys.stdin:
            cpu, wall = time.process_time(), time.perf_counter()
            pixels = make(int(line))
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            torch.save(pixels, f"{options.folder}/{options.kind}.pt")
            told = {"cpu": cpu, "wall": wall, "peak": memory.peak_bytes}
            print(json.dumps(told), flush=True)


def compare(arguments: list[str], folder: Path, rounds: int) -> None:
    """Let both make their pictures in turns and tell the figures."""
    started = [sys.executable, "-m", "tests.benchmarks.bench_picture", *arguments]
    both = {
        kind: subprocess.Popen(
            [*started, "--folder", str(folder), "--kind", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in ("textbook", "weft")
    }
    ratios: dict[str, list[float]] = {"cpu": [], "wall": []}
    for seed in range(rounds + 1):  # the first turn reads and casts the weights
        found = {}
        for kind in sorted(both, reverse=seed % 2 == 1):
            child = both[kind]
            assert child.stdin and child.stdout
            child.stdin.write(f"{seed}\n")
            child.stdin.flush()
            found[kind] = json.loads(child.stdout.readline())
        old, new = (torch.load(folder / f"{kind}.pt") for kind in both)
        if seed:
            for unit, kept in ratios.items():
                kept.append(found["weft"][unit] / found["textbook"][unit])
        difference = int((old - new).abs().max())
        for kind, told in found.items():
            peak = f"peak {told['peak'] / 1e9:.2f} GB"
            print(f"{seed} {kind:8} {told['cpu']:.2f} s CPU, {told['wall']:.2f} s wall, {peak}")
        print(f"{seed} largest difference of a pixel: {difference} of 255", flush=True)
    for child in both.values():
        child.communicate()
    for unit, kept in ratios.items():
        each = ", ".join(f"{ratio:.3f}" for ratio in kept)
        print(f"{unit}: {statistics.median(kept):.3f} times (median of {each})")


def main() -> None:
    """Be one of the two processes, or start both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--kind")
    parser.add_argument("--folder")
    options = parser.parse_args()
    if options.kind:
        serve(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments = sys.argv[1:]
        if options.checkpoint is None:
            path = write_sd15(Path(folder) / "sd15.safetensors")
            arguments += ["--checkpoint", str(path)]
        compare(arguments, Path(folder), options.rounds)


if __name__ == "__main__":
    main()
