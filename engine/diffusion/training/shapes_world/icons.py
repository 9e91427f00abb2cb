"""Composed icons (house, tree, boat …) as coloured polygons in the unit square."""

import numpy as np

from engine.diffusion.training.shapes_world.outlines import placed
from engine.diffusion.training.shapes_world.vocabulary import PALETTE, Colour

Part = tuple[np.ndarray, Colour]


def _box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)


def _disc(x: float, y: float, radius: float) -> np.ndarray:
    return placed("circle", x, y, radius)


def icon_parts(icon: str, colour: Colour) -> list[Part]:
    """The polygons of an icon from back to front; `colour` paints its main part."""
    brown, black, white = PALETTE["brown"], PALETTE["black"], PALETTE["white"]
    yellow, green, gray = PALETTE["yellow"], PALETTE["green"], PALETTE["gray"]
    roof: Colour = brown if colour != brown else PALETTE["red"]
    match icon:
        case "house":
            return [
                (_box(-0.75, -0.1, 0.75, 1.0), colour),
                (np.array([(-1.0, -0.1), (0, -1.0), (1.0, -0.1)]), roof),
                (_box(-0.2, 0.35, 0.2, 1.0), roof),
                (_box(-0.6, 0.1, -0.3, 0.4), yellow),
                (_box(0.3, 0.1, 0.6, 0.4), yellow),
            ]
        case "tree":
            return [
                (_box(-0.16, 0.2, 0.16, 1.0), roof),
                (_disc(-0.35, 0.0, 0.5), colour),
                (_disc(0.35, 0.0, 0.5), colour),
                (_disc(0.0, -0.45, 0.55), colour),
            ]
        case "boat":
            return [
                (np.array([(-1.0, 0.4), (1.0, 0.4), (0.65, 1.0), (-0.65, 1.0)]), colour),
                (_box(-0.06, -1.0, 0.06, 0.4), roof),
                (np.array([(0.12, -0.9), (0.85, 0.25), (0.12, 0.25)]), white),
            ]
        case "face":
            mouth = np.array([(-0.5, 0.25), (0.5, 0.25), (0.3, 0.6), (-0.3, 0.6)])
            dark = black if colour != black else white
            return [
                (_disc(0, 0, 1.0), colour),
                (_disc(-0.36, -0.25, 0.16), dark),
                (_disc(0.36, -0.25, 0.16), dark),
                (mouth, dark),
            ]
        case "snowman":
            return [
                (_disc(0, 0.5, 0.55), white),
                (_disc(0, -0.3, 0.4), white),
                (_box(-0.42, -0.75, 0.42, -0.6), colour),
                (_box(-0.26, -1.05, 0.26, -0.7), colour),
                (_disc(-0.14, -0.36, 0.07), black),
                (_disc(0.14, -0.36, 0.07), black),
            ]
        case "traffic light":
            return [
                (_box(-0.5, -1.0, 0.5, 1.0), colour),
                (_disc(0, -0.6, 0.27), PALETTE["red"]),
                (_disc(0, 0.0, 0.27), yellow),
                (_disc(0, 0.6, 0.27), green),
            ]
        case "sun":
            rays = placed("star", 0, -0.04, 1.0)
            return [(rays, colour), (placed("star", 0, 0.04, 1.0, 180.0), colour)]
        case "flower":
            t = np.arange(6) * np.pi / 3
            petals: list[Part] = [
                (_disc(0.42 * float(np.cos(a)), 0.42 * float(np.sin(a)) - 0.3, 0.3), colour)
                for a in t
            ]
            stem = (_box(-0.06, 0.0, 0.06, 1.0), green if colour != green else gray)
            middle = (_disc(0, -0.3, 0.26), yellow if colour != yellow else roof)
            return [stem, *petals, middle]
    raise ValueError(f"no such icon: {icon}")
