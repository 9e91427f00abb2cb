"""Outlines of every shape as one closed polygon in the unit square [-1, 1], y pointing down."""

from functools import cache

import numpy as np

Outline = np.ndarray


def _circle(radius: float, steps: int = 40) -> Outline:
    t = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return np.stack([np.cos(t), np.sin(t)], 1) * radius


def _star(points: int = 5, inner: float = 0.42) -> Outline:
    t = np.arange(2 * points) * np.pi / points - np.pi / 2
    radius = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return np.stack([np.cos(t), np.sin(t)], 1) * radius[:, None] * 1.06 + [0, 0.08]


def _heart() -> Outline:
    t = np.linspace(0, 2 * np.pi, 44, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x / 16, (y - 2.5) / 15.5], 1)


def _cross(arm: float = 0.36) -> Outline:
    a = arm
    points = [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a)]
    points += [(a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)]
    return np.array(points, float)


def _ring(hole: float = 0.52) -> Outline:
    outer, inner = _circle(1.0), _circle(hole)
    # A keyhole: along the outer circle, across, back along the inner one.
    return np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])


def _crescent() -> Outline:
    t = np.linspace(np.pi * 0.28, np.pi * 1.72, 36)
    outer = np.stack([np.cos(t), np.sin(t)], 1)
    start, end = outer[-1], outer[0]
    centre = np.array([0.62, 0.0])
    radius = float(np.hypot(*(start - centre)))
    a0, a1 = np.arctan2(*(start - centre)[::-1]), np.arctan2(*(end - centre)[::-1])
    u = np.linspace(a0, a1 - 2 * np.pi if a1 > a0 else a1, 24)
    inner = centre + radius * np.stack([np.cos(u), np.sin(u)], 1)
    return (np.concatenate([outer, inner]) + np.array([0.2, 0])) * np.array([1.15, 1.0])


def _polygon(*points: tuple[float, float]) -> Outline:
    return np.array(points, float)


def _drop() -> Outline:
    t = np.linspace(-np.pi * 0.2, np.pi * 1.2, 30)
    body = np.stack([np.cos(t), np.sin(t)], 1) * 0.62 + [0, 0.38]
    return np.concatenate([body, [[0.0, -1.0]]])


@cache
def outline(shape: str) -> Outline:
    """The polygon of a shape; for `ring` with its hole as a keyhole. Shapes: (N, 2)."""
    table = {
        "circle": lambda: _circle(1.0),
        "square": lambda: _polygon((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)),
        "triangle": lambda: _polygon((0, -0.95), (1.03, 0.85), (-1.03, 0.85)),
        "star": _star,
        "heart": _heart,
        "cross": _cross,
        "ring": _ring,
        "diamond": lambda: _polygon((0, -1.08), (0.82, 0), (0, 1.08), (-0.82, 0)),
        "crescent": _crescent,
        "arrow": lambda: _polygon(
            (-1, -0.3), (0.15, -0.3), (0.15, -0.8), (1, 0), (0.15, 0.8), (0.15, 0.3), (-1, 0.3)
        ),
        "bolt": lambda: _polygon(
            (0.15, -1), (-0.6, 0.15), (-0.08, 0.15), (-0.3, 1), (0.6, -0.25), (0.05, -0.25)
        ),
        "drop": _drop,
    }
    return table[shape]()


def placed(shape: str, cx: float, cy: float, radius: float, angle_deg: float = 0.0) -> Outline:
    """A shape's polygon at a place in the picture, in pixels. Shapes: (N, 2)."""
    a = np.deg2rad(angle_deg)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return outline(shape) @ turn.T * radius + [cx, cy]
