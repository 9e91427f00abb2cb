"""Training of a LoRA on a network of Stable Diffusion 1.5's size, random weights, on the CPU.

    python -m tests.benchmarks.bench_training step [SIDE_PX] [ROUNDS]
    python -m tests.benchmarks.bench_training memory [SIDE_PX]

`step`: our step beside a bare loop over diffusers' UNet with peft's adapters (forward, backward,
AdamW), in turns in one process; CPU seconds. `memory`: the peak of a process that trains one step
through the whole job, and of one that does the bare step. Set OMP_NUM_THREADS.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

from engine.diffusion.checkpoint import CheckpointParts, open_checkpoint
from engine.diffusion.residency import ModelPool
from engine.diffusion.training.adapters import AdapterSettings
from engine.diffusion.training.data.batches import BatchOptions
from engine.diffusion.training.data.dataset import Dataset, Example
from engine.diffusion.training.finetune import FineTune
from engine.diffusion.training.job import Places, train
from engine.diffusion.training.loop import LoopConfig, train_step
from engine.diffusion.training.methods import Lora
from engine.diffusion.training.optimizers import OptimizerSettings, make_optimizer
from engine.diffusion.training.settings import TrainingSettings
from engine.diffusion.training.state import Trainee
from tests.diffusion.training.parity import UNET_TARGETS
from tests.tiny_checkpoint import Keys, clip_keys, fill, unet_keys, vae_keys

RANK = 16
TARGETS = [*UNET_TARGETS]


def checkpoint_of(folder: Path) -> CheckpointParts:
    """A random checkpoint of SD1.5's sizes (2 GB), made once."""
    path = folder / "sd15_sized.safetensors"
    if not path.exists():
        keys = Keys()
        unet_keys(keys, width=320, mult=(1, 2, 4, 4), blocks=2, depth=(1, 1, 1, 0), context=768)
        vae_keys(keys, width=128, mult=(1, 2, 4, 4), blocks=2)
        clip_keys(keys, width=768, layers=12)
        save_file(fill(keys), path)
    return open_checkpoint(path, "sd15 sized", "sd15")


def job_of(folder: Path, side_px: int) -> FineTune:
    """A LoRA of rank 16 on one picture, batch 1."""
    picture = folder / "picture.png"
    Image.effect_noise((side_px, side_px), 60).convert("RGB").save(picture)
    example = Example(
        path=picture, digest="one", text="a photo", width_px=side_px, height_px=side_px
    )
    parts = checkpoint_of(folder)
    return FineTune(
        method=Lora(shape=AdapterSettings(rank=RANK, alpha=RANK)),
        model=parts.model,
        clip=parts.clip,
        vae=parts.vae,
        dataset=Dataset(examples=(example,)),
        steps=1,
        seed=1,
        settings=TrainingSettings(batches=BatchOptions(size_px=side_px)),
    )


def places_of(folder: Path) -> Places:
    return Places(
        result=folder / "result.safetensors", runs=folder / "runs", latents=folder / "latents"
    )


def bare_step(folder: Path, side_px: int) -> Callable[[], float]:
    """Forward, backward and update of diffusers' UNet with peft's LoRA."""
    from peft import LoraConfig

    unet = ModelPool().own_copy(checkpoint_of(folder).model).unet
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))
    optimizer = torch.optim.AdamW([p for p in unet.parameters() if p.requires_grad], lr=1e-4)
    side = side_px // 8
    x, noise, context = (torch.randn(s) for s in ((1, 4, side, side),) * 2 + ((1, 77, 768),))

    def step() -> float:
        optimizer.zero_grad()
        said = unet(x, torch.tensor([500]), encoder_hidden_states=context, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(said, noise)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def our_step(folder: Path, side_px: int) -> Callable[[], float]:
    """One step of the loop on the prepared job; its picture is encoded after the first."""
    prepared = job_of(folder, side_px).prepare(ModelPool(), places_of(folder))
    optimizer = make_optimizer(prepared.net, OptimizerSettings())
    trainee = Trainee(net=prepared.net, optimizer=optimizer, data=prepared.data)
    loss = partial(prepared.loss, 0.0, torch.Generator().manual_seed(1))
    return lambda: train_step(trainee, loss, LoopConfig(steps=1), 0)


def steps(folder: Path, side_px: int, rounds: int) -> None:
    """Print each round's CPU seconds and the median ratio."""
    ours, bare = our_step(folder, side_px), bare_step(folder, side_px)
    ratios: list[float] = []
    for turn in range(rounds + 1):
        order = (ours, bare) if turn % 2 else (bare, ours)
        spent: dict[object, float] = {}
        for step in order:
            started = time.process_time()
            step()
            spent[step] = time.process_time() - started
        if turn:  # the first turn encodes the picture and warms up
            ratios.append(spent[ours] / spent[bare])
            print(f"bare {spent[bare]:.2f} s, ours {spent[ours]:.2f} s, {ratios[-1]:.3f} times")
    print(f"median {statistics.median(ratios):.3f} times")


def memory(side_px: int, folder: Path) -> None:
    """Print the peak memory of each way, in processes of their own."""
    checkpoint_of(folder)
    for way in ("bare", "ours"):
        command = [sys.executable, "-m", __spec__.name, f"peak-{way}", str(side_px), str(folder)]
        subprocess.run(command, check=True)


def peak(way: str, folder: Path, side_px: int) -> None:
    """Do one step, and print the peak of this process."""
    with torch.enable_grad():
        if way == "bare":
            bare_step(folder, side_px)()
        else:
            train(job_of(folder, side_px), ModelPool(), places_of(folder))
    print(f"{way}: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def main(arguments: list[str]) -> None:
    """Run what is asked for."""
    what, side_px = arguments[0], int(arguments[1]) if arguments[1:] else 512
    if what.startswith("peak-"):
        peak(what.removeprefix("peak-"), Path(arguments[2]), side_px)
        return
    with tempfile.TemporaryDirectory() as name:
        if what == "memory":
            memory(side_px, Path(name))
        else:
            steps(Path(name), side_px, int(arguments[2]) if arguments[2:] else 5)


if __name__ == "__main__":
    main(sys.argv[1:])
