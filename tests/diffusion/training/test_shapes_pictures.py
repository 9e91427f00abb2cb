"""Shapes world as a dataset, and its checker on pictures of a workflow."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.api.errors import NodeError
from engine.diffusion.training.data.cache import ContentStore
from engine.diffusion.training.data.tensors import to_images
from engine.diffusion.training.shapes_world.pictures import (
    CONTENTS,
    Demand,
    ShapesWish,
    score,
    shapes_dataset,
)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path, 1 << 24)


@pytest.mark.parametrize("content", CONTENTS)
def test_the_same_wish_gives_the_same_dataset(store: ContentStore, content: str):
    wish = ShapesWish(number=3, content=content, seed=5)
    first, again = shapes_dataset(wish, store), shapes_dataset(wish, store)
    assert first.digest == again.digest
    assert all(example.text for example in first.examples)
    other = shapes_dataset(ShapesWish(number=3, content=content, seed=6), store)
    assert other.digest != first.digest


def test_what_is_wished_is_drawn_said_and_seen(store: ContentStore):
    wish = ShapesWish(number=6, shape="bolt", colour="red", background="white", seed=1)
    dataset = shapes_dataset(wish, store)
    assert all("bolt" in example.text for example in dataset.examples)
    images = torch.cat(to_images(dataset, lambda *_: None))
    share, seen = score(images, Demand(background="white", colour="red", shape="bolt"))
    assert share >= 5 / 6
    assert "red bolt on white" in seen
    assert score(images, Demand(shape="circle"))[0] == 0
    assert score(images, Demand(background="black"))[0] == 0
    assert score(torch.ones(1, 64, 64, 3), Demand(colour="red"))[0] == 0


def test_edges_are_condition_pictures_of_the_same_size(store: ContentStore):
    dataset = shapes_dataset(ShapesWish(number=2, edges=True, size_px=96), store)
    for example in dataset.examples:
        assert example.condition_path is not None
        with Image.open(example.condition_path) as edges:
            assert edges.size == (example.width_px, example.height_px) == (96, 96)
            assert 0 < np.asarray(edges).mean() < 60


def test_a_thing_that_cannot_be_seen_is_refused(store: ContentStore):
    with pytest.raises(NodeError, match="cannot be seen"):
        shapes_dataset(ShapesWish(number=1, colour="red", background="red"), store)
