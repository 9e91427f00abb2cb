"""Nodes that make prompts, called as plain functions."""

from pathlib import Path
from typing import Any

import pytest

from engine.api.errors import EngineError
from engine.diffusion.checkpoint import open_checkpoint
from nodes.prompts import (
    clip_text_encode_scheduled,
    clip_token_count,
    dynamic_prompt,
    negative_prompt,
    prompt_styles,
)
from tests.nodes.context import context
from tests.tiny_checkpoint import write_tiny_checkpoint


def result(output: Any) -> tuple[Any, ...]:
    return output.result


def test_choices_are_made_by_the_seed_with_wildcards_of_the_user(tmp_path: Path):
    folder = tmp_path / "user" / "wildcards" / "hair"
    folder.mkdir(parents=True)
    (folder / "colour.txt").write_text("red\nblue\n")
    ctx = context(tmp_path)
    made = {result(dynamic_prompt("a __hair/colour__ {boat}", s, ctx))[0] for s in range(8)}
    assert made == {"a red boat", "a blue boat"}
    with pytest.raises(EngineError, match="no wildcard") as caught:
        dynamic_prompt("__hair/color__", 1, ctx)
    assert caught.value.hint == 'Did you mean "hair/colour"?'


def test_styles_come_from_the_user_folder_before_the_input_folder(tmp_path: Path):
    for folder, text in (("user", "mine {prompt}"), ("input", "theirs {prompt}")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "styles.csv"
        path.write_text(f"name,prompt,negative_prompt\nink,{text},blur\nonly {folder},x,\n")
    ctx = context(tmp_path)
    assert prompt_styles("a", "b", "ink", "styles.csv", ctx) == ("mine a", "b, blur")
    assert prompt_styles("a", "", "only input", "styles.csv", ctx)[0] == "a, x"
    with pytest.raises(EngineError, match=r"no styles file other\.csv"):
        prompt_styles("a", "b", "ink", "other.csv", ctx)
    assert prompt_styles("a", "b", "", "other.csv", ctx) == ("a", "b")


def test_a_negative_prompt_is_extended():
    assert negative_prompt("none", "") == ""
    assert negative_prompt("photo", " red ").endswith("cgi, red")


def test_tokens_and_schedules_of_a_real_clip(tmp_path: Path):
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    checkpoint = open_checkpoint(path, "tiny", "tiny")
    assert checkpoint.clip
    assert checkpoint.model
    ctx = context(tmp_path)
    assert result(clip_token_count("a (red:1.2) boat", checkpoint.clip, ctx)) == (
        3,
        1,
        "3 tokens in 1 chunk (3 of 75 each)",
    )
    found = clip_text_encode_scheduled("[a|b]", checkpoint.clip, 4, ctx, model=checkpoint.model)
    assert len(found) == 4
    assert found[0][1]["end_percent"] == found[1][1]["start_percent"]
