"""Captioned pictures of shapes world as a dataset: for trying out a training, and for tests."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.image_ops import to_pil
from engine.diffusion.training.data.cache import ContentStore
from engine.diffusion.training.data.dataset import Dataset, Example
from engine.diffusion.training.data.pictures import inspect
from engine.diffusion.training.data.tensors import stored_picture
from engine.diffusion.training.shapes_world.captions import describe
from engine.diffusion.training.shapes_world.checker import Sight, look
from engine.diffusion.training.shapes_world.drawing import edge_map, render
from engine.diffusion.training.shapes_world.scene import (
    Rng,
    Scene,
    autoencoder_scene,
    composed,
    count,
    pair,
    single,
    training_scene,
)
from engine.diffusion.training.shapes_world.vocabulary import (
    NAMELESS_SHAPES,
    SHAPES,
    UNDRAWN_SHAPES,
)

ANY = "any"
ALL_SHAPES = (*SHAPES, *NAMELESS_SHAPES, *UNDRAWN_SHAPES)
CONTENTS: dict[str, Callable[[Rng], Scene]] = {
    "mix": training_scene,
    "one object": single,
    "equal objects": count,
    "two objects": pair,
    "icons": composed,
    "every style": autoencoder_scene,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapesWish:
    """What pictures are wanted. `shape`, `colour` and `background` may be `any`.

    `edges` draws the outlines of each as its condition picture (for a ControlNet).
    """

    number: int
    size_px: int = 64
    content: str = "one object"
    style: str = "plain"
    shape: str = ANY
    colour: str = ANY
    background: str = ANY
    edges: bool = False
    seed: int = 0


def shapes_dataset(
    wish: ShapesWish, store: ContentStore, progress: Callable[[int, int], None] = lambda *_: None
) -> Dataset:
    """Renders pictures and describes each; the same wish gives the same dataset.

    Raises: NodeError for a wish that contradicts itself, StorageError.
    """
    rng = np.random.default_rng([wish.seed, 1_700])
    examples: list[Example] = []
    for done in range(wish.number):
        scene = _scene(wish, rng)
        picture = Image.fromarray(render(scene, wish.size_px))
        path, digest = stored_picture(picture, store)
        edges = (None, None)
        if wish.edges:
            edges = stored_picture(Image.fromarray(edge_map(scene, wish.size_px)), store)
        examples.append(
            Example(
                path=path,
                digest=digest,
                text=describe(scene, rng).text,
                width_px=picture.width,
                height_px=picture.height,
                condition_path=edges[0],
                condition_digest=edges[1],
                look=inspect(path).look,
            )
        )
        progress(done + 1, wish.number)
    return Dataset(examples=tuple(examples), name="shapes")


def _scene(wish: ShapesWish, rng: Rng) -> Scene:
    fixed = [c for c in (wish.colour, wish.background) if c != ANY]
    if len(fixed) == 2 and fixed[0] == fixed[1]:
        raise NodeError(
            f"A {fixed[0]} object on a {fixed[0]} background cannot be seen.",
            hint="Choose two colours.",
        )
    while True:
        scene = CONTENTS[wish.content](rng)
        if wish.style != "plain":
            scene = replace(scene, style=wish.style)
        if wish.background != ANY:
            scene = replace(scene, background=wish.background)
        if not scene.icon:
            things = tuple(
                replace(
                    thing,
                    shape=thing.shape if wish.shape == ANY else wish.shape,
                    colour=thing.colour if wish.colour == ANY else wish.colour,
                )
                for thing in scene.things
            )
            scene = replace(scene, things=things)
        if all(thing.colour != scene.background for thing in scene.things):
            return replace(scene, seed=int(rng.integers(2**31)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a picture should show; `any` asks for nothing."""

    background: str = ANY
    colour: str = ANY
    shape: str = ANY

    def is_met(self, sight: Sight) -> bool:
        """Whether the largest object (and the background) are as demanded."""
        main = sight.objects[0] if sight.objects else None
        wants_object = self.colour != ANY or self.shape != ANY
        return (
            self.background in (ANY, sight.background)
            and (main is not None or not wants_object)
            and (main is None or self.colour in (ANY, main.colour))
            and (main is None or self.shape in (ANY, main.shape))
        )


def score(images: Tensor, demand: Demand) -> tuple[float, list[str]]:
    """The share of pictures that meet a demand, and what is seen in each.

    Shapes: images (B, H, W, C) 0..1.
    """
    sights = [look(np.asarray(to_pil(image[..., :3])), ALL_SHAPES) for image in images]
    share = float(np.mean([demand.is_met(sight) for sight in sights]))
    return share, [_words(sight) for sight in sights]


def _words(sight: Sight) -> str:
    things = ", ".join(f"{seen.colour} {seen.shape}" for seen in sight.objects) or "nothing"
    return f"{things} on {sight.background}"
