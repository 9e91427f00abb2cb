"""Peak memory of a tiled VAE beside the whole one, and of a UNet that is read as it runs.

    python -m tests.benchmarks.bench_memory CHECKPOINT [VAE SIZE IN CELLS]

Anonymous memory above that before the work, each case in a process of its own; an SD1.5 file.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch

from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.host_memory import keep_freed_memory
from engine.diffusion.residency import ModelPool
from engine.diffusion.vae import decode, decode_tiled
from engine.run.process_memory import anonymous_bytes
from tests.benchmarks.bench_diffusion import PeakMemory, inputs

CASES = ("vae whole", "vae tiles of 128", "unet resident", "unet within 300 MB")


def measure(case: str, path: Path, side: int) -> None:
    """Print the peak of one case."""
    torch.set_num_threads(1)
    keep_freed_memory()
    parts = open_checkpoint(path, "bench", path.name)
    assert parts.vae
    budget = 300_000_000 if case == "unet within 300 MB" else None
    part = parts.vae if case.startswith("vae") else parts.model
    before = anonymous_bytes(os.getpid()) or 0
    with PeakMemory() as memory, ModelPool(budget_bytes=budget).use(part) as loaded:
        if case == "vae whole":
            decode(loaded, torch.randn(1, 4, side, side))
        elif case == "vae tiles of 128":
            decode_tiled(loaded, torch.randn(1, 4, side, side), tile=128, overlap=32)
        else:
            loaded.predict(*inputs(16, 768))
    print(f"{case}: {(memory.peak_bytes - before) / 1e6:.0f} MB", flush=True)


def main(arguments: list[str]) -> None:
    """Measure one case, or each in a process of its own."""
    path, side = arguments[0], arguments[1] if arguments[1:] else "64"
    if len(arguments) > 2:
        measure(arguments[2], Path(path), int(side))
        return
    for case in CASES:
        command = [sys.executable, "-m", "tests.benchmarks.bench_memory", path, side, case]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
