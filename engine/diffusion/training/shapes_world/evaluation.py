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


def _mark(grade_: Grade) -> str:
    good = grade_.all_three and grade_.count and grade_.relation is not False
    failed = [
        name
        for name, held in (
            ("background", grade_.background),
            ("colour", grade_.colour),
            ("shape", grade_.shape),
            ("count", grade_.count),
            ("relation", grade_.relation is not False),
        )
        if not held
    ]
    return "ok" if good else "wrong: " + ", ".join(failed)


def sample_sheet(
    samples: Sequence[tuple[Trial, np.ndarray, Grade]], columns: int = 6, zoom: int = 2
) -> Image.Image:
    """A labelled grid of pictures with prompt, seed and verdict; nothing is picked or left out."""
    height, width = (side * zoom for side in samples[0][1].shape[:2])
    cell_width, label = width + 24, 44
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * (height + label)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for index, (trial, picture, grade_) in enumerate(samples):
        x, y = index % columns * cell_width + 12, index // columns * (height + label) + 4
        sheet.paste(
            Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST), (x, y)
        )
        words, lines = trial.prompt.split(" "), [""]
        for text in words:
            if draw.textlength(f"{lines[-1]} {text}") > cell_width - 6:
                lines.append("")
            lines[-1] = f"{lines[-1]} {text}".strip()
        for row, line in enumerate(lines[:2]):
            draw.text((x, y + height + 1 + row * 11), line, fill=(0, 0, 0))
        verdict = _mark(grade_)
        colour = (0, 120, 0) if verdict == "ok" else (190, 0, 0)
        draw.text((x, y + height + 23), f"{trial.seed}: {verdict}", fill=colour)
    return sheet
