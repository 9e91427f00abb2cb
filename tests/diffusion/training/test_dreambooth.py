"""DreamBooth's pictures: the subject and its class, by prompts or captions of their own."""

from pathlib import Path

import pytest

from engine.api.errors import NodeError
from engine.diffusion.training.data.captions import with_texts
from engine.diffusion.training.dreambooth import dreambooth_dataset
from tests.diffusion.training.tiny_runs import dataset_of


def test_an_empty_prompt_keeps_captions(tmp_path: Path) -> None:
    subject = with_texts(dataset_of(tmp_path / "subject", 2), ["sks in rain", "sks at sea"])
    others = with_texts(dataset_of(tmp_path / "class", 2), ["a pug", "a collie"])
    kept = dreambooth_dataset(subject, "", others, "")
    assert [e.text for e in kept.examples] == ["sks in rain", "sks at sea", "a pug", "a collie"]
    assert [e.is_class for e in kept.examples] == [False, False, True, True]
    said = dreambooth_dataset(subject, "sks dog", others, "dog")
    assert [e.text for e in said.examples] == ["sks dog", "sks dog", "dog", "dog"]


def test_class_pictures_say_what_they_show(tmp_path: Path) -> None:
    pictures = dataset_of(tmp_path)
    with pytest.raises(NodeError, match="class pictures without captions"):
        dreambooth_dataset(pictures, "sks dog", with_texts(pictures, [""]), " ")
