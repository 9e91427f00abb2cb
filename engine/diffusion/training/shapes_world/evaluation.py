"""Figures of a text-to-image model on unseen seeds, and the labelled sheet of its samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from engine.diffusion.training.shapes_world.captions import describe
from engine.diffusion.training.shapes_world.checker import Grade, grade
from engine.diffusion.training.shapes_world.scene import Scene, count, pair, single

Generate = Callable[[Sequence[str], Sequence[int]], np.ndarray]
"""(prompts, seeds) → pictures. Shapes: (N, H, W, 3) uint8."""
KINDS = ("single", "withheld", "count", "pair")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One prompt that was never trained on, and what a good picture of it shows."""

    kind: str
    seed: int
    prompt: str
    scene: Scene


def trials(kind: str, seeds: Sequence[int]) -> list[Trial]:
    """The prompts of a kind: `withheld` holds single objects of pairs kept out of training."""
    makers = {
        "single": single,
        "withheld": lambda rng: single(rng, withheld=True),
        "count": count,
        "pair": pair,
    }
    made: list[Trial] = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 990_001, KINDS.index(kind)])
        scene = makers[kind](rng)
        scene = replace(scene, things=tuple(replace(t, texture=None) for t in scene.things))
        caption = describe(scene, rng, name_background=1.0)
        made.append(Trial(kind=kind, seed=seed, prompt=caption.text, scene=scene))
    return made


def figures_of(grades: Sequence[Grade]) -> dict[str, float]:
    """Shares of fulfilled demands; `relation` only where it was asked for."""
    figures = {
        "background": float(np.mean([g.background for g in grades])),
        "colour": float(np.mean([g.colour for g in grades])),
        "shape": float(np.mean([g.shape for g in grades])),
        "all three": float(np.mean([g.all_three for g in grades])),
        "count": float(np.mean([g.count for g in grades])),
    }
    relations = [g.relation for g in grades if g.relation is not None]
    if relations:
        figures["relation"] = float(np.mean(relations))
    return figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Figures per kind of prompt, and every trial with its picture and grade."""

    figures: dict[str, dict[str, float]]
    samples: list[tuple[Trial, np.ndarray, Grade]]


def evaluate(
    generate: Generate, seeds: Sequence[int], kinds: Sequence[str] = KINDS, batch: int = 25
) -> Evaluation:
    """Makes a picture per seed and kind and grades it with the checker."""
    figures: dict[str, dict[str, float]] = {}
    samples: list[tuple[Trial, np.ndarray, Grade]] = []
    for kind in kinds:
        asked = trials(kind, seeds)
        grades: list[Grade] = []
        for start in range(0, len(asked), batch):
            part = asked[start : start + batch]
            pictures = generate([t.prompt for t in part], [t.seed for t in part])
            for trial, picture in zip(part, pictures, strict=True):
                grades.append(grade(trial.scene, picture))
                samples.append((trial, picture, grades[-1]))
        figures[kind] = figures_of(grades)
    return Evaluation(figures=figures, samples=samples)


def verdict(grade_: Grade) -> str:
    """`ok`, or the demands that the picture misses."""
    held = {
        "background": grade_.background,
        "colour": grade_.colour,
        "shape": grade_.shape,
        "count": grade_.count,
        "relation": grade_.relation is not False,
    }
    missed = [name for name, holds in held.items() if not holds]
    return "wrong: " + ", ".join(missed) if missed else "ok"


def _wrapped(draw: ImageDraw.ImageDraw, text: str, width: float) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def sample_sheet(
    samples: Sequence[tuple[Trial, np.ndarray, Grade]], columns: int = 6, zoom: int = 2
) -> Image.Image:
    """A labelled grid of pictures with prompt, seed and verdict, failures included."""
    height, width = (side * zoom for side in samples[0][1].shape[:2])
    cell_width, cell_height = width + 32, height + 68
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for index, (trial, picture, grade_) in enumerate(samples):
        x, y = index % columns * cell_width + 16, index // columns * cell_height + 6
        enlarged = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (x, y))
        lines = [(line, (0, 0, 0)) for line in _wrapped(draw, trial.prompt, cell_width - 20)[:3]]
        said = verdict(grade_)
        colour = (0, 120, 0) if said == "ok" else (190, 0, 0)
        lines += [(line, colour) for line in _wrapped(draw, said, cell_width - 20)[:2]]
        for row, (line, ink) in enumerate(lines):
            draw.text((x, y + height + 1 + row * 12), line, fill=ink)
    return sheet
