"""What a prompt costs before anything runs: reading, validation, keys, the plan.

    python -m tests.benchmarks.bench_graph [NODES]

CPU seconds of one core, the best of five. Aim: reading and validation of a chain of 1,000 nodes
within 12 ms.
"""

import sys
import time
from collections.abc import Callable

from engine.graph.fingerprint import fingerprint
from engine.graph.plan import Plan
from engine.graph.prompt import parse_prompt
from engine.graph.validate import validate
from engine.graph.walk import walk
from tests.graph.samples import CATALOGUE, chain, files_of


def best_ms(work: Callable[[], object]) -> float:
    """The shortest of five runs, in CPU milliseconds."""
    times: list[float] = []
    for _ in range(5):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def run_plan(plan: Plan) -> None:
    while (node_id := plan.next_ready()) is not None:
        plan.mark_done(node_id)


def main(length: int) -> None:
    prompt = chain(length)
    graph = parse_prompt(prompt)
    found = validate(graph, CATALOGUE, files_of)
    order = walk(found.graph, found.good_outputs).order

    def keys() -> object:
        return fingerprint(
            found.graph,
            CATALOGUE,
            order,
            file_digest=lambda folder, name: "",
            is_changed=lambda node: None,
            environment="bench",
        )

    steps: dict[str, Callable[[], object]] = {
        "read": lambda: parse_prompt(prompt),
        "validate": lambda: validate(graph, CATALOGUE, files_of),
        "walk": lambda: walk(found.graph, found.good_outputs),
        "keys": keys,
        "plan": lambda: run_plan(Plan(found.graph, CATALOGUE, found.good_outputs)),
    }
    print(f"chain of {length} nodes, CPU ms (µs a node)")
    for name, work in steps.items():
        ms = best_ms(work)
        print(f"  {name:9}{ms:8.2f}  ({1000 * ms / length:.2f})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
