"""Rendered pictures as memory-mapped arrays, made once and reused by every stage."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.api.whole_file import write_whole
from engine.diffusion.training.shapes_world.drawing import render
from engine.diffusion.training.shapes_world.scene import (
    Scene,
    autoencoder_scene,
    training_scene,
)

ASPECTS = ((1.0, 1.0), (1.5, 1.0), (1.0, 1.5))


def autoencoder_scenes(count: int, seed: int, aspect: tuple[float, float]) -> list[Scene]:
    """Scenes for the VAE; in wide and tall pictures the objects spread over the longer side."""
    rng = np.random.default_rng([seed, 1, int(aspect[0] * 10), int(aspect[1] * 10)])
    scenes = [autoencoder_scene(rng) for _ in range(count)]
    dx, dy = (aspect[0] - 1), (aspect[1] - 1)
    return [
        replace(
            scene,
            aspect=aspect,
            things=tuple(
                replace(t, cx=t.cx + dx * float(u), cy=t.cy + dy * float(u))
                for t in scene.things
                for u in rng.random(1)
            ),
        )
        for scene in scenes
    ]


def denoiser_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes for the denoiser, the same for the same seed."""
    rng = np.random.default_rng([seed, 2])
    return [training_scene(rng) for _ in range(count)]


def rendered(path: Path, scenes: list[Scene], size_px: int) -> np.ndarray:
    """The pictures of scenes, from `path` where they were rendered before.

    Shapes: (N, H, W, 3) uint8, memory-mapped; all scenes share one aspect.
    """
    if not path.exists():
        array = np.stack([render(scene, size_px) for scene in scenes])
        write_whole(path, lambda file: np.save(file, array))
    return np.load(path, mmap_mode="r")


def to_tensor(pictures: np.ndarray) -> Tensor:
    """Pictures for a network. Shapes: (N, H, W, 3) uint8 → (N, 3, H, W) float in -1..1."""
    tensor = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2)
    return tensor.float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def to_pictures(tensor: Tensor) -> np.ndarray:
    """The way back. Shapes: (N, 3, H, W) float in -1..1 → (N, H, W, 3) uint8."""
    scaled = tensor.detach().float().add(1).mul(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def object_crops(
    pictures: np.ndarray, scenes: list[Scene], indices: np.ndarray, side: int, uniform: np.ndarray
) -> np.ndarray:
    """Square crops around an object of each picture.

    Shapes: indices (B,), uniform (B, 3) in 0..1 → (B, side, side, 3) uint8.
    """
    height, width = pictures.shape[1:3]
    short = min(height, width)
    crops = np.empty((len(indices), side, side, 3), np.uint8)
    for row, (index, (which, u, v)) in enumerate(zip(indices, uniform, strict=True)):
        things = scenes[index].things
        thing = things[int(which * len(things))]
        x = thing.cx * short + (u - 0.5) * 1.4 * thing.radius * short - side / 2
        y = thing.cy * short + (v - 0.5) * 1.4 * thing.radius * short - side / 2
        left = int(np.clip(x, 0, width - side))
        top = int(np.clip(y, 0, height - side))
        crops[row] = pictures[index, top : top + side, left : left + side]
    return crops


KIND_SHARES = {"single": 0.40, "count": 0.26, "pair": 0.28, "icon": 0.03, "backdrop": 0.03}
"""How often the denoiser sees each kind: pairs and counts are learned more slowly."""


def kind_weights(scenes: list[Scene]) -> Tensor:
    """Weights that draw the kinds in their shares. Shapes: (N,)."""
    kinds = Counter(scene.kind for scene in scenes)
    return torch.tensor([KIND_SHARES[scene.kind] / kinds[scene.kind] for scene in scenes])
