"""Files that nodes read under names that come over links: replaced ones are noticed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest

from engine.api import AnyValue, Choice, NodeOutput, RunContext, node
from engine.api.errors import MissingModel
from tests.run.small_engine import SmallEngine, described


@node("Join", category="test")
def join(a: str, b: str) -> str:
    """Two texts as one."""
    return a + b


@node("Read", category="test")
def read(name: str, ctx: RunContext) -> str:
    """What a LoRA file holds."""
    try:
        return ctx.files.resolve("loras", name).read_text()
    except MissingModel:
        return "nothing"


@node("Loud", category="test")
def loud(value: AnyValue, ctx: RunContext) -> str:
    """The text in capitals; a picture would tell of the files that went into it as well."""
    names = [n["inputs"].get("name") for n in ctx.prompt.values()]
    for name in [name for name in names if isinstance(name, str)]:
        ctx.files.resolve("loras", name)
    return str(value).upper()


@node("Twice", category="test")
def twice(name: str) -> Annotated[NodeOutput, str]:
    """Reads by a node of its own."""
    return NodeOutput(
        expand={"r": {"class_type": "Read", "inputs": {"name": name}}}, result=(["r", 0],)
    )


@node("Named", category="test")
def named(name: Annotated[str, Choice(folder="loras")], ctx: RunContext) -> str:
    """What a chosen file holds."""
    return ctx.files.resolve("loras", name).read_text()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SmallEngine]:
    engine = SmallEngine(tmp_path, (join, read, loud, twice, named))
    (tmp_path / "models" / "loras").mkdir(parents=True)
    put(engine, "ink", "one")
    yield engine
    engine.close()


def put(engine: SmallEngine, name: str, text: str) -> None:
    path = engine.folders.join("loras", name)
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def prompt(reader: str = "Read") -> dict[str, Any]:
    return {
        "1": described("Join", a="i", b="nk"),
        "2": described(reader, name=("1", 0)),
        "3": described("Loud", value=("2", 0)),
        "4": described("Show", value=("3", 0)),
    }


@pytest.mark.parametrize("reader", ["Read", "Twice"])
def test_a_file_whose_name_came_over_a_link_counts_by_content(
    engine: SmallEngine, reader: str
) -> None:
    engine.run(prompt(reader))
    assert engine.shown("4") == ["ONE"]
    engine.run(prompt(reader))
    assert set(engine.states.values()) == {"memory"}
    put(engine, "ink", "two")
    engine.run(prompt(reader))
    assert engine.shown("4") == ["TWO"]
    assert engine.states["1"] == "memory"
    assert engine.reason("2") == "ink in loras changed, which was read"
    assert engine.reason("4") == "ink in loras changed, which was read"
    engine.run(prompt(reader))
    assert set(engine.states.values()) == {"memory"}


def test_a_file_that_was_missing_counts_once_it_is_there(engine: SmallEngine) -> None:
    asked = prompt()
    asked["1"] = described("Join", a="o", b="il")
    engine.run(asked)
    assert engine.shown("4") == ["NOTHING"]
    put(engine, "oil", "three")
    engine.run(asked)
    assert engine.shown("4") == ["THREE"]


def test_it_is_known_after_a_restart(tmp_path: Path, engine: SmallEngine) -> None:
    @node("Slow", category="test", is_output=True)
    def slow(value: AnyValue, ctx: RunContext) -> NodeOutput:
        """Shows a saved file, so that its result is on the disk."""
        saved = ctx.files.save(lambda f: f.write(b"x"), prefix="x", extension="txt")  # pyright: ignore[reportArgumentType]
        return NodeOutput(ui={"files": [saved], "values": [value]})

    asked = prompt()
    asked["4"] = described("Slow", value=("3", 0))
    for text, state in (("one", "ran"), ("one", "disk"), ("two", "ran")):
        put(engine, "ink", text)
        started = SmallEngine(tmp_path, (join, read, loud, slow))
        started.run(asked)
        assert started.states["4"] == state
        assert started.shown("4") == [text.upper()]
        started.close()


def test_files_named_by_constants_are_in_the_keys_already(engine: SmallEngine) -> None:
    """A moved file of the same content changes nothing, also for who reads it again later."""
    asked = prompt()
    asked["2"] = described("Named", name="ink")
    engine.run(asked)
    assert engine.shown("4") == ["ONE"]
    engine.folders.join("loras", "ink").rename(engine.folders.join("loras", "pen"))
    asked["2"] = described("Named", name="pen")
    engine.run(asked)
    assert set(engine.states.values()) == {"memory"}


def test_a_look_at_a_result_of_a_replaced_file_says_so(engine: SmallEngine) -> None:
    engine.run(prompt())
    assert engine.core.peek(prompt(), "3", 0, "job").values == ["ONE"]
    put(engine, "ink", "two")
    peeked = engine.core.peek(prompt(), "3", 0, "job")
    assert peeked.values is None
    assert "ink in loras changed" in peeked.words
