"""Datasets as values: identity by content, merge, subset, split, captions."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.api.errors import NodeError
from engine.diffusion.training.data.captions import CaptionEdit, edited, with_texts
from engine.diffusion.training.data.dataset import Dataset, merge, split, subset
from tests.diffusion.training.data.pictures import dataset


def test_the_digest_is_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    here, there = dataset(tmp_path / "a", 3), dataset(tmp_path / "b", 3)
    assert here.digest == there.digest
    first = here.examples[0]
    for changed in (
        replace(first, text="other"),
        replace(first, repeats=2),
        replace(first, is_class=True),
        replace(first, mask_digest="00"),
        replace(first, digest="00"),
    ):
        assert replace(here, examples=(changed, *here.examples[1:])).digest != here.digest
    assert replace(here, examples=here.examples[::-1]).digest != here.digest


def test_merge_keeps_order_and_findings(tmp_path: Path) -> None:
    a, b = dataset(tmp_path / "a", 2), dataset(tmp_path / "b", 3)
    both = merge([a, b])
    assert both.examples == a.examples + b.examples and len(both) == 5


def test_subset_is_the_first_or_random_ones_in_order(tmp_path: Path) -> None:
    data = dataset(tmp_path, 10)
    assert subset(data, 3).examples == data.examples[:3]
    assert subset(data, 0) is data and subset(data, 99) is data
    some = subset(data, 4, seed=1).examples
    assert some == subset(data, 4, seed=1).examples != subset(data, 4, seed=2).examples
    assert [data.examples.index(e) for e in some] == sorted(data.examples.index(e) for e in some)


def test_split_has_its_share_and_keeps_equal_pictures_together(tmp_path: Path) -> None:
    data = dataset(tmp_path, 10)
    doubled = Dataset(examples=data.examples + data.examples)
    train, held = split(doubled, 0.3, seed=1)
    assert len(held) == 6 and len(train) == 14
    assert not {e.digest for e in train.examples} & {e.digest for e in held.examples}
    again = split(Dataset(examples=doubled.examples[::-1]), 0.3, seed=1)[1]
    assert {e.digest for e in again.examples} == {e.digest for e in held.examples}
    with pytest.raises(NodeError, match="one side would be empty"):
        split(subset(data, 1), 0.5, seed=1)


def test_caption_edits_come_in_their_order(tmp_path: Path) -> None:
    data = dataset(tmp_path, 1)
    edit = CaptionEdit(
        find="picture",
        replace_with="dog",
        template="{caption} of {name} {x}",
        prefix="sks, ",
        suffix="!",
    )
    assert edited(data, edit).examples[0].text == "sks, dog 0 of 00 {x}!"


def test_new_texts_must_be_as_many_as_the_pictures(tmp_path: Path) -> None:
    data = dataset(tmp_path, 2)
    assert [e.text for e in with_texts(data, ["a", " b "]).examples] == ["a", "b"]
    assert [e.text for e in with_texts(data, ["a"]).examples] == ["a", "a"]
    with pytest.raises(NodeError, match="3 captions for 2 pictures"):
        with_texts(data, ["a", "b", "c"])
