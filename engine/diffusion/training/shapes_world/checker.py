"""Grades a picture against what its prompt asked for, by measuring; nothing here is learned."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from engine.diffusion.training.shapes_world.outlines import placed
from engine.diffusion.training.shapes_world.scene import Scene
from engine.diffusion.training.shapes_world.vocabulary import NAMELESS_SHAPES, PALETTE, SHAPES

MASK_SIDE = 32
MIN_OVERLAP = 0.72
"""A component that overlaps every template less is no shape at all."""
MAX_AREA_SHARE = 0.75
"""A component that fills the picture is a ground, not an object."""
DIFFERENT = 40.0
"""Distance in RGB from which a pixel does not belong to the background."""
DRAWN_SHAPES = (*SHAPES, *NAMELESS_SHAPES)
COLOUR_NAMES = tuple(PALETTE)
_COLOURS = np.array(list(PALETTE.values()), float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One object found in a picture. Units: centre in fractions of width and height."""

    colour: str
    shape: str
    overlap: float
    cx: float
    cy: float
    area_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a picture shows, measured: its background colour and its objects, largest first."""

    background: str
    objects: tuple[Seen, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """Which demands of a scene a picture meets; None where the scene does not make one."""

    background: bool
    colour: bool
    shape: bool
    count: bool
    relation: bool | None

    @property
    def all_three(self) -> bool:
        return self.background and self.colour and self.shape


def nearest_colour(rgb: np.ndarray) -> str:
    """The palette's name for a colour. Shapes: (3,) in 0..255."""
    return COLOUR_NAMES[int(((_COLOURS - rgb) ** 2).sum(1).argmin())]


def _normalised(mask: np.ndarray) -> np.ndarray:
    """The mask's bounding box centred in a square and scaled to it. Shapes: (32, 32) in 0..1."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = box.shape
    side = max(height, width)
    square = np.zeros((side, side), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = box * 255
    image = Image.fromarray(square).resize((MASK_SIDE, MASK_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image, float) / 255


@cache
def _templates(shapes: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    """Shapes over rotations and scales. Shapes: names (N,), masks (N, 1024)."""
    names: list[str] = []
    masks: list[np.ndarray] = []
    for shape in shapes:
        for angle in range(-12, 13, 4):
            for side in (24, 28, 40):
                image = Image.new("L", (side * 8, side * 8))
                polygon = placed(shape, side * 4, side * 4, side * 3, angle)
                ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in polygon], fill=255)
                small = np.asarray(image.reduce(8)) > 127
                names.append(shape)
                masks.append(_normalised(small).ravel())
    return tuple(names), np.stack(masks)


def best_shape(mask: np.ndarray, shapes: tuple[str, ...] = DRAWN_SHAPES) -> tuple[str, float]:
    """The one of `shapes` whose template overlaps a component best, and how well (0..1)."""
    names, masks = _templates(shapes)
    found = _normalised(mask).ravel()
    overlap = np.minimum(masks, found).sum(1) / np.maximum(masks, found).sum(1)
    best = int(overlap.argmax())
    is_shape = overlap[best] >= MIN_OVERLAP and mask.mean() <= MAX_AREA_SHARE
    name = names[best] if is_shape else "none"
    return name, float(overlap[best])


def look(picture: np.ndarray, shapes: tuple[str, ...] = DRAWN_SHAPES) -> Sight:
    """Measures a picture, telling `shapes` apart. Shapes: (H, W, 3) uint8.

    Background is the median of the 2 px frame; objects are connected regions that differ from it.
    """
    pixels = picture.astype(float)
    height, width = pixels.shape[:2]
    frame = np.ones((height, width), bool)
    frame[2:-2, 2:-2] = False
    ground = np.median(pixels[frame], axis=0)
    differs = np.sqrt(((pixels - ground) ** 2).sum(2)) > DIFFERENT
    regions = np.empty(differs.shape, np.int32)
    ndimage.label(differs, np.ones((3, 3)), output=regions)
    smallest = height * width * 0.006
    objects: list[Seen] = []
    for index in range(1, int(regions.max()) + 1):
        mask = regions == index
        area = int(mask.sum())
        if area < smallest:
            continue
        core = ndimage.binary_erosion(mask)
        colour = np.median(pixels[core if core.sum() >= 8 else mask], axis=0)
        shape, overlap = best_shape(mask, shapes)
        ys, xs = np.nonzero(mask)
        seen = Seen(
            colour=nearest_colour(colour),
            shape=shape,
            overlap=overlap,
            cx=float(xs.min() + xs.max() + 1) / 2 / width,
            cy=float(ys.min() + ys.max() + 1) / 2 / height,
            area_share=area / (height * width),
        )
        objects.append(seen)
    objects.sort(key=lambda seen: -seen.area_share)
    return Sight(background=nearest_colour(ground), objects=tuple(objects))


def _relation_holds(relation: str, first: Seen, second: Seen) -> bool:
    dx, dy = first.cx - second.cx, first.cy - second.cy
    return {
        "left of": dx < -abs(dy),
        "right of": dx > abs(dy),
        "above": dy < -abs(dx),
        "below": dy > abs(dx),
    }[relation]


def grade(scene: Scene, picture: np.ndarray) -> Grade:
    """Holds a picture against a scene of plain objects.

    Colour and shape hold when the objects' colours (shapes), taken as a bag, are exactly those
    asked for; the relation is judged on the objects matched by colour.
    """
    sight = look(picture)
    wanted_colours = sorted(thing.colour for thing in scene.things)
    wanted_shapes = sorted(thing.shape for thing in scene.things)
    number = len(scene.things)
    main = sight.objects[:number]
    relation = None
    if scene.relation is not None:
        by_colour = {seen.colour: seen for seen in main}
        pair = [by_colour.get(thing.colour) for thing in scene.things]
        first, second = pair[0], pair[1]
        relation = bool(first and second and _relation_holds(scene.relation, first, second))
    return Grade(
        background=sight.background == scene.background,
        colour=sorted(seen.colour for seen in main) == wanted_colours,
        shape=sorted(seen.shape for seen in main) == wanted_shapes,
        count=len(sight.objects) == number,
        relation=relation,
    )
