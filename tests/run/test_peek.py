"""What a peek finds: the value of the prompt as it is now, or why there is none."""

from pathlib import Path
from threading import Event, Thread

from engine.api import node
from tests.run.small_engine import SmallEngine, described


def prompt_of(a: int = 1) -> dict:
    return {
        "1": described("Add", a=a),
        "2": described("Add", a=("1", 0)),
        "3": described("Show", value=("2", 0)),
    }


def test_gives_the_value_of_the_prompt_as_it_is_now(engine: SmallEngine):
    core = engine.core
    assert core.peek(prompt_of(), "2", 0, "").values is None
    engine.run(prompt_of())
    found = core.peek(prompt_of(), "2", 0, "")
    assert found.values == [3]
    assert found.words == "its result was in memory"
    changed = core.peek(prompt_of(5), "2", 0, "")
    assert changed.values is None
    assert changed.words.startswith("It is not computed yet. Since then: node")
    assert core.peek(prompt_of(), "2", 7, "").values is None
    assert core.peek(prompt_of(), "3", 0, "").values is None  # an output node has no outputs


def test_says_so_when_a_result_was_thrown_out(engine: SmallEngine):
    engine.run(prompt_of())
    engine.core.free(free_memory=True)
    found = engine.core.peek(prompt_of(), "2", 0, "")
    assert found.values is None
    assert "no longer in the cache" in found.words


def test_a_node_that_runs_in_every_job_shows_what_it_gave_in_that_job(engine: SmallEngine):
    prompt = {"1": described("Dice"), "2": described("Show", value=("1", 0))}
    engine.run(prompt, job_id="first")
    assert engine.core.peek(prompt, "1", 0, "first").values == ["first"]
    assert engine.core.peek(prompt, "1", 0, "second").values is None


def test_a_list_comes_whole(engine: SmallEngine):
    prompt = {"1": described("Count", n=3), "2": described("Total", values=("1", 0))}
    engine.run(prompt, "2")
    assert engine.core.peek(prompt, "1", 0, "").values == [0, 1, 2]


def test_a_result_on_disk_is_found_after_a_restart_and_leaves_the_memory_alone(tmp_path: Path):
    @node("Slow", category="test")
    def slow() -> str:
        """Takes longer than the store's threshold."""
        Event().wait(0.12)
        return "slow"

    prompt = {"1": described("Slow"), "2": described("Show", value=("1", 0))}
    first = SmallEngine(tmp_path, [slow])
    first.run(prompt)
    first.close()
    second = SmallEngine(tmp_path, [slow])
    found = second.core.peek(prompt, "1", 0, "")
    assert (found.values, found.words) == (["slow"], "its result was on disk")
    assert found.seconds > 0.1
    assert len(second.memory) == 0
    second.close()


def test_works_while_a_job_runs_and_runs_nothing(tmp_path: Path):
    is_in, may_end = Event(), Event()

    @node("Hold", category="test")
    def hold(value: int) -> int:
        """Waits for the test."""
        is_in.set()
        assert may_end.wait(20)
        return value

    engine = SmallEngine(tmp_path, [hold])
    prompt = {
        "1": described("Add", a=1),
        "2": described("Hold", value=("1", 0)),
        "3": described("Show", value=("2", 0)),
    }
    job = Thread(target=lambda: engine.run(prompt))
    job.start()
    assert is_in.wait(20)
    assert engine.core.peek(prompt, "1", 0, "").values == [2]
    assert engine.core.peek(prompt, "2", 0, "").values is None
    may_end.set()
    job.join()
    assert engine.status == "success"
    assert engine.core.peek(prompt, "2", 0, "").values == [2]
    engine.close()
