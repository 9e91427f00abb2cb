"""LoRA tags of every form."""

import pytest

from engine.api.errors import NodeError
from engine.text.lora_tags import lora_tags, without_lora_tags


@pytest.mark.parametrize(
    ("inside", "name", "model", "clip"),
    [
        ("ink", "ink", 1.0, 1.0),
        ("style/my ink:0.5", "style/my ink", 0.5, 0.5),
        ("ink:-1.5:0.25", "ink", 0.25, -1.5),
        ("ink:te=0.5:unet=2", "ink", 2.0, 0.5),
        ("ink:unet=2", "ink", 2.0, 2.0),
    ],
)
def test_a_tag_names_a_file_and_two_strengths(
    inside: str, name: str, model: float, clip: float
) -> None:
    (tag,) = lora_tags(f"a boat <lora:{inside}>, sea")
    assert (tag.name, tag.model, tag.clip) == (name, model, clip)
    assert tag.file_names[:2] == (name, f"{name}.safetensors")


def test_the_text_is_left() -> None:
    text = "<lora:a:1> a boat<lora:b> , sea <lora:c:0.5>"
    assert [tag.name for tag in lora_tags(text)] == ["a", "b", "c"]
    assert without_lora_tags(text) == "a boat , sea"
    assert lora_tags("a < b > c <lyco:a:1>") == ()


@pytest.mark.parametrize("inside", ["", ":1", "ink:much", "ink:1:2:3", "ink:lbw=1"])
def test_a_tag_that_says_nothing_is_named(inside: str) -> None:
    with pytest.raises(NodeError, match="is no LoRA tag"):
        lora_tags(f"a <lora:{inside}>")
