"""What a picture of shapes world shows, and drawing one at random; no pixels here."""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from engine.diffusion.training.shapes_world.vocabulary import (
    BACKDROPS,
    ICONS,
    NAMELESS_SHAPES,
    PALETTE,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    STYLES,
    TEXTURES,
    WITHHELD_PAIRS,
)

T = TypeVar("T")
Rng = np.random.Generator
COLOURS = tuple(PALETTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One object. Units: centre and radius as fractions of the picture's shorter side."""

    shape: str
    colour: str
    cx: float
    cy: float
    radius: float
    angle_deg: float = 0.0
    texture: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A picture's content and everything a caption may say about it."""

    kind: str
    background: str
    things: tuple[Thing, ...]
    relation: str | None = None
    position: str | None = None
    size: str | None = None
    icon: str | None = None
    backdrop: str = "plain"
    style: str = "plain"
    aspect: tuple[float, float] = (1.0, 1.0)
    """Width and height in units of the shorter side."""
    seed: int = 0


def pick(rng: Rng, options: tuple[T, ...]) -> T:
    return options[int(rng.integers(len(options)))]


def pick_thing(rng: Rng, avoid: tuple[str, ...], *, withheld: bool = False) -> tuple[str, str]:
    """A colour and a shape; `withheld` draws only from the pairs kept out of training."""
    while True:
        colour, shape = pick(rng, COLOURS), pick(rng, SHAPES)
        if colour not in avoid and ((colour, shape) in WITHHELD_PAIRS) == withheld:
            return colour, shape


def _tilt(rng: Rng) -> float:
    return float(rng.uniform(-8, 8))


def single(rng: Rng, *, withheld: bool = False, nameless: bool = False) -> Scene:
    """One object, often centred and large; sometimes a size, a position or a texture."""
    background = pick(rng, COLOURS)
    colour, shape = pick_thing(rng, (background,), withheld=withheld)
    if nameless:
        shape = pick(rng, NAMELESS_SHAPES)
    texture = pick(rng, TEXTURES) if rng.random() < 0.05 and shape != "ring" else None
    size = position = None
    chance = rng.random()
    if chance < 0.14:
        position = pick(rng, tuple(POSITIONS))
        radius = rng.uniform(0.20, 0.24)
        dx, dy = POSITIONS[position]
        cx, cy = 0.5 + dx * 0.23, 0.5 + dy * 0.23
        spread = 0.02
    else:
        if chance < 0.26:
            size = pick(rng, SIZES)
        low, high = {"small": (0.19, 0.23), "large": (0.37, 0.42), None: (0.27, 0.36)}[size]
        radius = rng.uniform(low, high)
        cx = cy = 0.5
        spread = 0.05
    thing = Thing(
        shape=shape,
        colour=colour,
        cx=cx + rng.uniform(-spread, spread),
        cy=cy + rng.uniform(-spread, spread),
        radius=float(radius),
        angle_deg=_tilt(rng),
        texture=texture,
    )
    return Scene(
        kind="single", background=background, things=(thing,), size=size, position=position
    )


_COUNT_LAYOUTS = {
    2: (((0.26, 0.5), (0.74, 0.5)), ((0.5, 0.26), (0.5, 0.74)), ((0.27, 0.3), (0.73, 0.7))),
    3: (((0.27, 0.29), (0.73, 0.29), (0.5, 0.73)), ((0.5, 0.27), (0.27, 0.71), (0.73, 0.71))),
    4: (((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)),),
}


def count(rng: Rng) -> Scene:
    """Two, three or four equal objects that do not touch."""
    background = pick(rng, COLOURS)
    colour, shape = pick_thing(rng, (background,))
    number = int(rng.integers(2, 5))
    radius = float(rng.uniform(0.165, 0.19))
    things = tuple(
        Thing(
            shape=shape,
            colour=colour,
            cx=x + rng.uniform(-0.02, 0.02),
            cy=y + rng.uniform(-0.02, 0.02),
            radius=radius,
            angle_deg=_tilt(rng),
        )
        for x, y in pick(rng, _COUNT_LAYOUTS[number])
    )
    return Scene(kind="count", background=background, things=things)


def pair(rng: Rng) -> Scene:
    """Two different objects, the first standing in a relation to the second."""
    background = pick(rng, COLOURS)
    first = pick_thing(rng, (background,))
    second = pick_thing(rng, (background, first[0]))
    relation = pick(rng, RELATIONS)
    places = {
        "left of": ((0.26, 0.5), (0.74, 0.5)),
        "right of": ((0.74, 0.5), (0.26, 0.5)),
        "above": ((0.5, 0.26), (0.5, 0.74)),
        "below": ((0.5, 0.74), (0.5, 0.26)),
    }[relation]
    things = tuple(
        Thing(
            shape=shape,
            colour=colour,
            cx=x + rng.uniform(-0.02, 0.02),
            cy=y + rng.uniform(-0.02, 0.02),
            radius=float(rng.uniform(0.175, 0.2)),
            angle_deg=_tilt(rng),
        )
        for (colour, shape), (x, y) in zip((first, second), places, strict=True)
    )
    return Scene(kind="pair", background=background, things=things, relation=relation)


def composed(rng: Rng) -> Scene:
    """An icon built from primitives (house, tree, boat …) on a plain ground or a backdrop."""
    background = pick(rng, COLOURS)
    colour = pick(rng, tuple(c for c in COLOURS if c != background))
    icon = pick(rng, ICONS)
    thing = Thing(
        shape="icon",
        colour=colour,
        cx=0.5 + rng.uniform(-0.04, 0.04),
        cy=0.52 + rng.uniform(-0.04, 0.04),
        radius=float(rng.uniform(0.32, 0.4)),
    )
    backdrop = pick(rng, BACKDROPS[4:]) if rng.random() < 0.3 else "plain"
    return Scene(kind="icon", background=background, things=(thing,), icon=icon, backdrop=backdrop)


def backdrop(rng: Rng) -> Scene:
    """One object before a drawn backdrop: gradient, checkerboard, night sky, sea, grass."""
    return replace(single(rng), kind="backdrop", backdrop=pick(rng, BACKDROPS[1:]))


def training_scene(rng: Rng) -> Scene:
    """A scene of the mix that the denoiser learns from; never holds a withheld pair."""
    chance = rng.random()
    if chance < 0.55:
        scene = single(rng)
    elif chance < 0.60:
        scene = single(rng, nameless=True)
    elif chance < 0.76:
        scene = count(rng)
    elif chance < 0.92:
        scene = pair(rng)
    elif chance < 0.96:
        scene = composed(rng)
    else:
        scene = backdrop(rng)
    if scene.kind == "single" and rng.random() < 0.02:  # cut by the border, for outpainting
        thing = scene.things[0]
        moved = replace(thing, cx=float(rng.choice([0.08, 0.92])))
        scene = replace(scene, things=(moved,), position=None)
    return replace(scene, seed=int(rng.integers(2**31)))


def autoencoder_scene(rng: Rng) -> Scene:
    """A scene of the wider mix that the VAE learns from: all styles, textures, aspects, cuts."""
    makers = (single, count, pair, composed, backdrop)
    scene = makers[int(rng.choice(5, p=[0.3, 0.2, 0.2, 0.15, 0.15]))](rng)
    if scene.kind == "single" and rng.random() < 0.15:
        scene = single(rng, nameless=True)
    if rng.random() < 0.15:
        things = tuple(
            replace(t, cx=t.cx + rng.uniform(-0.4, 0.4), cy=t.cy + rng.uniform(-0.4, 0.4))
            for t in scene.things
        )
        scene = replace(scene, things=things)
    if rng.random() < 0.2:
        turned = tuple(replace(t, angle_deg=float(rng.uniform(0, 360))) for t in scene.things)
        scene = replace(scene, things=turned)
    style = "plain" if rng.random() < 0.62 else pick(rng, STYLES[1:])
    return replace(scene, style=style, seed=int(rng.integers(2**31)))
