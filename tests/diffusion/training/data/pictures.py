"""Small pictures on disk, as the readers and batches find them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.diffusion.training.data.dataset import Dataset, Example
from engine.diffusion.training.data.pictures import inspect

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")


def pattern(number: int, size: tuple[int, int] = (48, 48)) -> Image.Image:
    """Blocks of colour, different for each number."""
    random = np.random.default_rng(number)
    small = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.NEAREST)


def put(folder: Path, name: str, number: int = 0, size: tuple[int, int] = (48, 48)) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pattern(number, size).save(path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def example(path: Path, text: str = "a picture", **more: Any) -> Example:
    facts = inspect(path)
    return Example(
        path=path,
        digest=digest(path),
        text=text,
        width_px=facts.size[0],
        height_px=facts.size[1],
        look=facts.look,
        **more,
    )


def dataset(folder: Path, count: int, size: tuple[int, int] = (48, 48), **more: Any) -> Dataset:
    paths = [put(folder, f"{i:02}.png", i, size) for i in range(count)]
    return Dataset(examples=tuple(example(p, f"picture {i}", **more) for i, p in enumerate(paths)))
