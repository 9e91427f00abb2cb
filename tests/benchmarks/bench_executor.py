"""What running a graph costs beside its nodes: trivial integer nodes in a worker core.

    python -m tests.benchmarks.bench_executor [NODES]

CPU milliseconds of one core, the best of five. Aims for 1,000 nodes: cold 120 ms, cached 20 ms, one
leaf changed 20 ms. Saving is measured in an empty folder and in one with 20,000 files.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.plugins.class_nodes import class_node
from engine.run.assets import Assets
from engine.run.digests import Digests
from engine.run.folders import make_folders
from nodes.logic import NODES as LOGIC
from tests.run.small_engine import SmallEngine, described


class ClassAdd:
    """Adds, as packs write it."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"a": ("INT", {"default": 0}), "b": ("INT", {"default": 1})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    CATEGORY = "bench"

    def run(self, a: int, b: int) -> tuple[int]:
        return (a + b,)


def chain(length: int, kind: str, seed: int, leaf: int = 1) -> dict[str, Any]:
    nodes = {"0": described(kind, a=seed, b=1)}
    for i in range(1, length):
        nodes[str(i)] = described(kind, a=(str(i - 1), 0), b=1)
    nodes["out"] = described("Show", value=(str(length - 1), 0))
    nodes[str(length - 1)]["inputs"]["b"] = leaf
    return nodes


def fan_out(width: int, seed: int) -> dict[str, Any]:
    nodes = {"root": described("Add", a=seed)}
    for i in range(width):
        nodes[f"n{i}"] = described("Add", a=("root", 0), b=i)
        nodes[f"o{i}"] = described("Show", value=(f"n{i}", 0))
    return nodes


def loop(turns: int, seed: int) -> dict[str, Any]:
    return {
        "s": described("ForLoopStart", count=turns, value=seed),
        "b": described("Add", a=("s", 2)),
        "e": described("ForLoopEnd", loop=("s", 0), value=("b", 0)),
        "o": described("Show", value=("e", 0)),
    }


def best_ms(engine: SmallEngine, prompts: Callable[[int], dict[str, Any]]) -> float:
    """The shortest of five runs; `prompts` gives the prompt of each."""
    times: list[float] = []
    for i in range(5):
        prompt = prompts(i)
        start = time.process_time()
        engine.run(prompt)
        times.append(time.process_time() - start)
        assert engine.status == "success"
    return 1000 * min(times)


def saving_us(folder: Path, files: int) -> float:
    (folder / "output").mkdir(parents=True)
    for i in range(files):
        (folder / "output" / f"pic_{i:05}_.png").touch()
    state = folder / "user" / "weft"
    assets = Assets(
        make_folders(base=folder, models=folder / "models"),
        Digests(state / "digests.sqlite"),
        state / "names.sqlite",
    )

    def save(job: int) -> None:
        view = assets.view(str(job), "9", 0, dict)
        view.save(lambda file: None, prefix="pic", extension="png")

    save(-1)
    start = time.process_time()
    for job in range(200):
        save(job)
    seconds = time.process_time() - start
    assets.close()
    return 1e6 * seconds / 200


def main(length: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = SmallEngine(
            folder / "engine",
            [class_node(ClassAdd, "ClassAdd", pack="bench"), *LOGIC],
            budget_bytes=1 << 30,
        )
        for kind in ("Add", "ClassAdd"):
            cold = best_ms(engine, lambda i, k=kind: chain(length, k, seed=i))
            cached = best_ms(engine, lambda _i, k=kind: chain(length, k, seed=0))
            leaf = best_ms(engine, lambda i, k=kind: chain(length, k, seed=0, leaf=50 + i))
            print(
                f"chain of {length} {kind}: cold {cold:.1f}, cached {cached:.1f}, leaf {leaf:.1f}"
            )
        print(f"fan-out of {length}: {best_ms(engine, lambda i: fan_out(length, 7000 + i)):.1f}")
        print(f"loop of 100 turns: {best_ms(engine, lambda i: loop(100, 9000 + i)):.1f}")
        engine.close()
        for files in (0, 20_000):
            print(f"saving beside {files} files: {saving_us(folder / str(files), files):.0f} µs")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
