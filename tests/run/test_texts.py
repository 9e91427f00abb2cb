"""Prompts that nodes make are known to what saves pictures, and files that nodes read count."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest

from engine.api import NodeOutput, Options, RunContext, Text, node
from tests.run.small_engine import SmallEngine, described


@node("Encode", category="test")
def encode(text: Annotated[str, Text(dynamicPrompts=True)]) -> int:
    """Stands for a text encoder."""
    return len(text)


@node("Letter", category="test", reads=("user/words/",))
def letter(number: int, ctx: RunContext) -> str:
    """A letter, after the words that the user has."""
    words = [path.read_text() for _, path in sorted(ctx.files.below("user", "words").items())]
    return "".join(words) + "abc"[number]


@node("Save", category="test", is_output=True)
def save(value: int, name: str, ctx: RunContext) -> NodeOutput:
    """Shows what a picture would carry."""
    return NodeOutput(ui={"values": [ctx.extra_pnginfo.get("texts")]})


@node("Either", category="test", check_lazy=lambda **_: [])
def either(value: Annotated[int, Options(lazy=True)] = 0) -> int:
    """Never asks for its input."""
    return 7


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SmallEngine]:
    engine = SmallEngine(tmp_path, (encode, letter, save, either))
    yield engine
    engine.close()


def prompt(number: int = 0, name: str = "a") -> dict[str, Any]:
    return {
        "1": described("Letter", number=number),
        "2": described("Encode", text=("1", 0)),
        "3": described("Save", value=("2", 0), name=name),
    }


def test_a_picture_carries_the_texts_it_was_made_of(engine: SmallEngine):
    engine.run(prompt(1))
    assert engine.shown("3") == [{"2": {"text": "b"}}]


def test_also_when_everything_before_it_is_cached(engine: SmallEngine):
    engine.run(prompt())
    engine.run(prompt(name="b"))
    assert engine.started == ["3"]
    assert engine.shown("3") == [{"2": {"text": "a"}}]


def test_also_when_only_the_text_was_let_go(tmp_path: Path):
    engine = SmallEngine(tmp_path, (encode, letter, save, either), max_entries=2)
    engine.run(prompt())
    engine.run(prompt(name="b"))
    assert engine.started == ["1", "3"]
    assert engine.shown("3") == [{"2": {"text": "a"}}]
    engine.close()


def test_each_output_carries_its_own(engine: SmallEngine):
    other = {str(int(i) + 10): n for i, n in prompt(2).items()}
    other["12"]["inputs"]["text"] = ["11", 0]
    other["13"]["inputs"]["value"] = ["12", 0]
    constant = {
        "22": described("Encode", text="plain"),
        "23": described("Save", value=("22", 0), name="c"),
    }
    engine.run({**prompt(1), **other, **constant})
    assert engine.shown("3") == [{"2": {"text": "b"}}]
    assert engine.shown("13") == [{"12": {"text": "c"}}]
    assert engine.shown("23") == [None]


def test_texts_that_only_a_lazy_input_leads_to_are_not_made(engine: SmallEngine):
    lazy = {**prompt(), "4": described("Either", value=("2", 0))}
    lazy["3"]["inputs"]["value"] = ["4", 0]
    engine.run(lazy)
    assert engine.started == ["4", "3"]


def test_files_that_a_node_reads_are_part_of_its_key(engine: SmallEngine):
    folder = engine.folders.user / "words" / "deep"
    folder.mkdir(parents=True)
    engine.run(prompt())
    engine.run(prompt())
    assert engine.started == []
    (folder / "a.txt").write_text("x-")
    engine.run(prompt())
    assert engine.shown("3") == [{"2": {"text": "x-a"}}]
    assert engine.reason("1") == "user/words/ changed, which the node reads"
