"""A UNet step through KSampler, plain and with LoRAs, beside the bare diffusers call, in turns.

    python -m tests.benchmarks.bench_sampler CHECKPOINT [ROUNDS] [SIZE]

SIZE x SIZE pixels (512), batch 1, no guidance, previews off; CPU seconds of three steps and of
three calls in one process. Aims: 1.03 times the bare call, and 1.01 times a step without LoRAs.
"""

import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from engine.config import Config
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.residency import ModelPool
from engine.local import Weft
from tests.tiny_checkpoint import write_reference_lora

STEPS = 3


def main(arguments: list[str]) -> None:
    """Print each round and the median ratio."""
    checkpoint, rounds = Path(arguments[0]).absolute(), int(arguments[1]) if arguments[1:] else 5
    size = int(arguments[2]) if arguments[2:] else 512
    prompt = workflow(checkpoint.name, size)
    x = torch.randn(1, 4, size // 8, size // 8)
    t, c = torch.tensor([500.0]), torch.randn(1, 77, 768)
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models" / "checkpoints"
        models.mkdir(parents=True)
        (models / checkpoint.name).symlink_to(checkpoint)
        recipe = open_checkpoint(checkpoint, "known", checkpoint.name).model
        loras = Path(folder) / "models" / "loras"
        loras.mkdir()
        write_reference_lora(loras / "lora.safetensors")
        config = Config(base_dir=Path(folder), precision="fp32")
        with Weft(config) as weft, ModelPool().use(recipe) as part:
            plain, stacked = weft.load(prompt), weft.load(with_loras(prompt))
            runs: dict[str, Callable[[int], object]] = {
                "bare": lambda _: [part.unet(x, t, c, return_dict=False) for _ in range(STEPS)],
                "plain": lambda seed: plain.set("3.seed", seed).run(),
                "loras": lambda seed: stacked.set("3.seed", seed).run(),
            }
            kept: dict[str, list[float]] = {"plain / bare": [], "loras / plain": []}
            for turn in range(rounds + 1):
                seconds = {name: cpu_seconds(run, turn) for name, run in runs.items()}
                print(", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()))
                if turn:  # the first turn reads and casts the weights
                    for name, ratios in kept.items():
                        one, other = name.split(" / ")
                        ratios.append(seconds[one] / seconds[other])
    for name, ratios in kept.items():
        each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{name}: {statistics.median(ratios):.3f} times (median of {each})")


def workflow(checkpoint: str, size: int) -> dict[str, Any]:
    """Three steps without guidance."""
    sampler = {"steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    links = {
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["6", 0],
        "latent_image": ["5", 0],
    }
    side = {"width": size, "height": size, "batch_size": 1}
    return {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "5": {"class_type": "EmptyLatentImage", "inputs": side},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
        "3": {"class_type": "KSampler", "inputs": {"seed": 1, "denoise": 1.0, **sampler, **links}},
        "9": {"class_type": "SaveLatent", "inputs": {"samples": ["3", 0], "filename_prefix": "x"}},
    }


def with_loras(prompt: dict[str, Any]) -> dict[str, Any]:
    """The prompt with three LoRAs between its checkpoint and its sampler."""
    changed, model = copy.deepcopy(prompt), ["4", 0]
    for name, strength in (("a", 0.5), ("b", -0.2), ("c", 0.1)):
        inputs = {"model": model, "lora_name": "lora.safetensors", "strength_model": strength}
        changed[name] = {"class_type": "LoraLoaderModelOnly", "inputs": inputs}
        model = [name, 0]
    changed["3"]["inputs"]["model"] = model
    return changed


def cpu_seconds(run: Callable[[int], object], turn: int) -> float:
    """What a run takes of the processor."""
    started = time.process_time()
    with torch.no_grad():
        run(turn)
    return time.process_time() - started


if __name__ == "__main__":
    main(sys.argv[1:])
