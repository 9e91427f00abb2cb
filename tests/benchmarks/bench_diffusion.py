"""What the engine adds to a diffusers network: loading, one call, memory.

    python -m tests.benchmarks.bench_diffusion [CHECKPOINT] [LATENT SIZE]

Without a checkpoint a random one of full SD1.5 size (2.1 GB) is written first. Aims:
ready to sample within 1.5 times reading the file's bytes once; a call at most 1.03 times the bare
call; peak anonymous memory at most 1.1 times that of the bare call. CPU seconds on one thread.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.families import identify
from engine.diffusion.keymap import from_ldm
from engine.diffusion.network import build_unet
from engine.diffusion.residency import ModelPool
from engine.diffusion.weightfile import open_weights
from engine.run.process_memory import anonymous_bytes
from tests.tiny_checkpoint import Keys, clip_keys, fill, unet_keys, vae_keys

ROUNDS = 3


def write_sd15(path: Path) -> Path:
    """A random checkpoint of full SD1.5 size."""
    keys = Keys()
    unet_keys(keys, width=320, mult=(1, 2, 4, 4), blocks=2, depth=(1, 1, 1, 0), context=768)
    vae_keys(keys, width=128, mult=(1, 2, 4, 4), blocks=2)
    clip_keys(keys, width=768, layers=12)
    save_file(fill(keys), path)
    return path


def read_once(path: Path) -> float:
    """CPU seconds to read a file's bytes into memory that is there already."""
    buffer = bytearray(1 << 24)
    start = time.process_time()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.process_time() - start


class PeakMemory:
    """The largest anonymous memory of this process while the block runs, in bytes."""

    def __enter__(self) -> "PeakMemory":
        self.peak_bytes = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.01):
            self.peak_bytes = max(self.peak_bytes, anonymous_bytes(os.getpid()) or 0)


def inputs(size: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, size, size, generator=generator)
    return x, torch.full((2,), 500.0), torch.randn(2, 77, width, generator=generator)


def bare(path: Path, size: int) -> None:
    """The plain diffusers network with fp32 weights."""
    file = open_weights(path)
    layout = identify(file).unet
    assert layout is not None
    unet = build_unet(layout).requires_grad_(False).eval()
    names = list(file.keys(layout.prefix))
    state = {
        k: v.float() for k, v in from_ldm("denoiser", {n: file.tensor(n) for n in names}).items()
    }
    unet.load_state_dict(state, assign=True)
    del state
    x, t, c = inputs(size, layout.context_dim)
    with PeakMemory() as memory, torch.no_grad():
        times = []
        for _ in range(ROUNDS):
            start = time.process_time()
            unet(x, t, c, return_dict=False)
            times.append(time.process_time() - start)
    print(f"bare call {min(times):.3f} s, peak {memory.peak_bytes / 1e9:.2f} GB", flush=True)


def ours(path: Path, size: int) -> None:
    """The same network from the model pool."""
    importlib.import_module("diffusers.models.unets.unet_2d_condition")  # no part of loading
    reading = min(read_once(path) for _ in range(2))
    start = time.process_time()
    recipe = open_checkpoint(path, "known", path.name).model
    pool = ModelPool()
    with PeakMemory() as memory, pool.use(recipe) as denoiser:
        ready = time.process_time() - start
        x, t, c = inputs(size, denoiser.context_dim)
        times = []
        for _ in range(ROUNDS + 1):
            start = time.process_time()
            denoiser.predict(x, t, c)
            times.append(time.process_time() - start)
    print(f"reading {reading:.3f} s, ready {ready:.3f} s ({ready / reading:.2f} times)")
    first = times[0] - min(times)
    print(f"our call {min(times[1:]):.3f} s, peak {memory.peak_bytes / 1e9:.2f} GB")
    print(f"the first call reads and casts the weights: {first:.3f} s more")


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    if arguments[:1] in (["bare"], ["ours"]):
        {"bare": bare, "ours": ours}[arguments[0]](Path(arguments[1]), int(arguments[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(arguments[0]) if arguments else write_sd15(Path(folder) / "sd15.safetensors")
        size = arguments[1] if len(arguments) > 1 else "64"
        for name in ("bare", "ours"):  # each in a process of its own, for its memory
            command = [sys.executable, "-m", "tests.benchmarks.bench_diffusion"]
            subprocess.run([*command, name, str(path), size], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
