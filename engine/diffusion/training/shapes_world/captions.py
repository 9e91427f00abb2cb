"""Captions of scenes in varied wording, and the attributes that each caption truly states."""

from dataclasses import dataclass

import numpy as np

from engine.diffusion.training.shapes_world.scene import Rng, Scene, pick
from engine.diffusion.training.shapes_world.vocabulary import (
    BACKDROPS,
    ICONS,
    NAMELESS_SHAPES,
    PALETTE,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    WORDS,
    plural,
)

COLOUR_CLASSES = tuple(PALETTE)
SHAPE_CLASSES = (*SHAPES, "shape", "icon")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "background": COLOUR_CLASSES,
    "colour 1": COLOUR_CLASSES,
    "shape 1": SHAPE_CLASSES,
    "colour 2": COLOUR_CLASSES,
    "shape 2": SHAPE_CLASSES,
    "relation": RELATIONS,
    "count": ("1", "2", "3", "4"),
    "size": SIZES,
    "position": tuple(POSITIONS),
    "texture": TEXTURES,
    "icon": ICONS,
    "backdrop": BACKDROPS[1:],
}
"""What a caption can state; class 0 of each is "not said"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """A caption and what it states. `labels` holds one class index per entry of `ATTRIBUTES`."""

    text: str
    labels: tuple[int, ...]


def word(rng: Rng, name: str) -> str:
    """One of the words for a name, the plainest most often."""
    return pick(rng, WORDS.get(name, (name,)))


def _article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _noun(rng: Rng, shape: str) -> str:
    return "shape" if shape in NAMELESS_SHAPES else word(rng, shape)


def _place(rng: Rng, position: str) -> str:
    if position == "center":
        return f"in the {word(rng, 'center')}"
    if " " in position:
        return pick(rng, (f"in the {position}", f"in the {position} corner", f"at the {position}"))
    preposition = "on" if position in ("left", "right") else "at"
    return f"{preposition} the {position}"


def _backdrop_phrase(rng: Rng, scene: Scene, colour: str, tags: bool) -> str:
    options = {
        "night sky": ("at night", "under a night sky", "in the night sky"),
        "sea": ("at sea", "in front of the sea", "by the sea"),
        "grass": ("on grass", "on the grass", "in a meadow"),
    }
    if scene.backdrop in options:
        phrase = pick(rng, options[scene.backdrop])
        return scene.backdrop if tags else phrase
    pattern = {"gradient": "gradient", "checkerboard": "checkerboard", "stripes": "striped"}
    phrase = f"{colour} {pattern[scene.backdrop]} {word(rng, 'background')}"
    return phrase if tags else f"on {_article(phrase)}"


def _background(rng: Rng, scene: Scene, tags: bool) -> str:
    colour = word(rng, scene.background)
    if scene.backdrop != "plain":
        return _backdrop_phrase(rng, scene, colour, tags)
    ground = f"{colour} {word(rng, 'background')}"
    if tags:
        return ground
    chance = rng.random()
    if chance < 0.7:
        return f"on {_article(ground)}"
    if chance < 0.85:
        return f"on {ground}"
    return f"on {colour}" if chance < 0.93 else f"against {_article(ground)}"


def _subject(rng: Rng, scene: Scene, tags: bool) -> str:
    """The objects of a scene in words, without the background."""
    first = scene.things[0]
    noun = word(rng, scene.icon) if scene.icon else _noun(rng, first.shape)
    before = [word(rng, scene.size)] if scene.size else []
    before += [first.texture] if first.texture else []
    phrase = " ".join([*before, word(rng, first.colour), noun])
    if scene.kind == "count":
        return f"{word(rng, str(len(scene.things)))} {word(rng, first.colour)} {plural(noun)}"
    bare = tags or rng.random() < 0.15
    subject = phrase if bare else _article(phrase)
    if scene.kind == "pair":
        second = scene.things[1]
        other = f"{word(rng, second.colour)} {_noun(rng, second.shape)}"
        assert scene.relation is not None
        return f"{subject} {word(rng, scene.relation)} {other if bare else _article(other)}"
    return subject


_PREFIXES = ("a picture of ", "a drawing of ", "an image of ", "there is ")


def describe(scene: Scene, rng: Rng, *, name_background: float = 0.85) -> Caption:
    """A caption of a scene; the background is named with the given probability."""
    tags = rng.random() < 0.15
    named = rng.random() < name_background or scene.backdrop != "plain"
    subject = _subject(rng, scene, tags)
    parts = [subject]
    if scene.position and scene.kind != "pair":
        parts.append(_place(rng, scene.position) if not tags else scene.position)
    if named:
        if not tags and scene.backdrop == "plain" and rng.random() < 0.12:
            ground = f"{word(rng, scene.background)} {word(rng, 'background')}"
            parts = [f"{_article(ground)} with", *parts]
        elif tags and rng.random() < 0.3:
            parts = [_background(rng, scene, tags), *parts]
        else:
            parts.append(_background(rng, scene, tags))
    text = ", ".join(parts) if tags else " ".join(parts)
    if not tags and scene.kind != "count" and not text.startswith("there") and rng.random() < 0.12:
        text = pick(rng, _PREFIXES) + text
    return Caption(text=text, labels=labels_of(scene, named))


def labels_of(scene: Scene, background_named: bool) -> tuple[int, ...]:
    """The class index of every attribute, 0 where the caption does not say it."""
    drawn_ground = scene.backdrop in ("night sky", "sea", "grass")
    first = scene.things[0]
    second = scene.things[1] if scene.kind == "pair" else None
    shape = "icon" if scene.icon else _shape_class(first.shape)
    said = {
        "background": scene.background if background_named and not drawn_ground else None,
        "colour 1": first.colour,
        "shape 1": shape,
        "colour 2": second.colour if second else None,
        "shape 2": _shape_class(second.shape) if second else None,
        "relation": scene.relation,
        "count": str(len(scene.things)) if scene.kind == "count" else "1",
        "size": scene.size,
        "position": scene.position,
        "texture": first.texture,
        "icon": scene.icon,
        "backdrop": scene.backdrop if scene.backdrop != "plain" else None,
    }
    return tuple(
        0 if (value := said[name]) is None else 1 + classes.index(value)
        for name, classes in ATTRIBUTES.items()
    )


def _shape_class(shape: str) -> str:
    """Shapes without a word of their own in training count as just a shape."""
    return shape if shape in SHAPES else "shape"


def cut(text: str, rng: np.random.Generator) -> str:
    """A caption that breaks off somewhere, as people's prompts do."""
    words = text.split(" ")
    return " ".join(words[: int(rng.integers(1, len(words) + 1))])
