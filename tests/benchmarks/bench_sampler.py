"""A UNet step through KSampler beside the bare diffusers call, in turns in one process.

    python -m tests.benchmarks.bench_sampler CHECKPOINT [ROUNDS]

512 x 512, batch 1, no guidance, previews off; wall seconds of three steps and of three calls.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from engine.config import Config
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.residency import ModelPool
from engine.local import Weft

STEPS = 3


def main(arguments: list[str]) -> None:
    """Print each round and the median ratio."""
    checkpoint, rounds = Path(arguments[0]).absolute(), int(arguments[1]) if arguments[1:] else 5
    sampler = {"steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    links = {
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["6", 0],
        "latent_image": ["5", 0],
    }
    prompt = {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint.name}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
        "3": {"class_type": "KSampler", "inputs": {"seed": 1, "denoise": 1.0, **sampler, **links}},
        "9": {"class_type": "SaveLatent", "inputs": {"samples": ["3", 0], "filename_prefix": "x"}},
    }
    prompt["5"]["inputs"]["batch_size"] = 1
    x, t, c = torch.randn(1, 4, 64, 64), torch.tensor([500.0]), torch.randn(1, 77, 768)
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models" / "checkpoints"
        models.mkdir(parents=True)
        (models / checkpoint.name).symlink_to(checkpoint)
        recipe = open_checkpoint(checkpoint, "known", checkpoint.name).model
        with Weft(Config(base_dir=Path(folder))) as weft, ModelPool().use(recipe) as part:
            job, ratios = weft.load(prompt), []
            for turn in range(rounds + 1):
                started = time.perf_counter()
                with torch.no_grad():
                    for _ in range(STEPS):
                        part.unet(x, t, c, return_dict=False)
                bare = time.perf_counter() - started
                ours = job.set("3.seed", turn).run().records["3"].seconds
                if turn:  # the first turn reads and casts the weights
                    ratios.append(ours / bare)
                    print(f"bare {bare:.2f} s, KSampler {ours:.2f} s, {ratios[-1]:.3f} times")
    print(f"median {statistics.median(ratios):.3f} times")


if __name__ == "__main__":
    main(sys.argv[1:])
