"""Nodes of the built-in model's world: pictures of shapes to train on, and a checker for them."""

from typing import Annotated

from engine.api import Choice, Dataset, Image, Int, NodeOutput, RunContext, Toggle, node
from engine.diffusion.training.data.cache import ContentStore
from engine.diffusion.training.shapes_world.pictures import (
    ALL_SHAPES,
    ANY,
    CONTENTS,
    Demand,
    ShapesWish,
    score,
    shapes_dataset,
)
from engine.diffusion.training.shapes_world.vocabulary import PALETTE, STYLES
from nodes.sampling import Seed

_CATEGORY = "training/shapes"
_STORE_BYTES = 20 << 30
_Colour = Annotated[str, Choice((ANY, *PALETTE))]
_Shape = Annotated[str, Choice((ANY, *ALL_SHAPES))]


@node(
    "ShapesDataset",
    title="Shapes Dataset",
    category=_CATEGORY,
    search=("example", "render", "toy", "built-in model"),
)
def shapes_dataset_node(
    count: Annotated[int, Int(100, min=1, max=200_000, tooltip="How many pictures.")],
    size: Annotated[int, Int(64, min=32, max=1024, step=8)],
    content: Annotated[str, Choice(tuple(CONTENTS))],
    style: Annotated[str, Choice(STYLES)],
    shape: _Shape,
    colour: _Colour,
    background: _Colour,
    edges: Annotated[
        bool, Toggle(False, tooltip="With the outlines as condition pictures, for a ControlNet.")
    ],
    seed: Seed,
    ctx: RunContext,
) -> Dataset:
    """Draws captioned pictures of coloured shapes, the world that the built-in model knows, so that
    every training can be tried at once. Bolts and drops were never shown to that model; crescents
    and arrows were, but it has no word for them."""
    wish = ShapesWish(
        number=count,
        size_px=size,
        content=content,
        style=style,
        shape=shape,
        colour=colour,
        background=background,
        edges=edges,
        seed=seed,
    )
    store = ContentStore(ctx.files.work_folder("dataset_pictures"), _STORE_BYTES)
    return shapes_dataset(wish, store, ctx.progress)


@node(
    "ShapesScore",
    title="Score Shapes",
    category=_CATEGORY,
    is_output=True,
    search=("check", "grade", "accuracy", "adherence"),
    output_names=("share", "text"),
)
def shapes_score(
    images: Image, background: _Colour, colour: _Colour, shape: _Shape
) -> Annotated[NodeOutput, float, str]:
    """Measures in how many pictures the largest object and the background are as demanded. Nothing
    in it is learned: colours are compared with the palette, outlines with drawn ones."""
    demand = Demand(background=background, colour=colour, shape=shape)
    share, seen = score(images, demand)
    lines = [f"{share:.0%} of {len(seen)} as demanded", *seen[:12]]
    text = "\n".join(lines)
    return NodeOutput(result=(share, text), ui={"text": (text,)})


NODES = [shapes_dataset_node, shapes_score]
