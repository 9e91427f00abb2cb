"""The engine's own cost through HTTP and websocket: start, chains, fan-out, prompts a second.

    python -m tests.benchmarks.bench_server [start] [chain] [fan] [rate]

CPU seconds are those of the server and its worker, without process start, unless said.
"""

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from aiohttp import ClientSession, WSMsgType

from tests.e2e.server_process import ServerProcess

PACK = Path(__file__).parent / "packs" / "trivial"
Prompt = dict[str, Any]


def chain(length: int, leaf: int = 0) -> Prompt:
    """A chain of additions that ends in an output node."""
    prompt: Prompt = {"0": {"class_type": "TrivialInt", "inputs": {"value": leaf}}}
    for i in range(1, length - 1):
        inputs = {"a": [str(i - 1), 0], "b": i}
        prompt[str(i)] = {"class_type": "TrivialAdd", "inputs": inputs}
    end = {"value": [str(length - 2), 0]}
    prompt[str(length - 1)] = {"class_type": "TrivialSink", "inputs": end}
    return prompt


def fan_out(width: int, leaf: int = 0) -> Prompt:
    """One node feeds `width` others, which a sum brings together."""
    prompt: Prompt = {"0": {"class_type": "TrivialInt", "inputs": {"value": leaf}}}
    for i in range(1, width + 1):
        prompt[str(i)] = {"class_type": "TrivialAdd", "inputs": {"a": ["0", 0], "b": i}}
    values = {f"v{i - 1}": [str(i), 0] for i in range(1, width + 1)}
    prompt["sum"] = {"class_type": "TrivialSum", "inputs": values}
    prompt["end"] = {"class_type": "TrivialSink", "inputs": {"value": ["sum", 0]}}
    return prompt


def cpu_seconds(server: ServerProcess) -> float:
    """User and system time of the server and all of its children so far."""
    assert server.process is not None
    root = psutil.Process(server.process.pid)
    times = [p.cpu_times() for p in (root, *root.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def make_base(folder: Path) -> Path:
    """A data folder with the trivial pack."""
    shutil.copytree(PACK, folder / "custom_nodes" / "trivial")
    return folder


async def run_and_count(server: ServerProcess, prompts: list[Prompt]) -> tuple[float, float, int]:
    """(wall seconds, CPU seconds, websocket bytes) until the last of the prompts has ended."""
    async with (
        ClientSession() as client,
        client.ws_connect(f"{server.url}/ws?clientId=bench", max_msg_size=0) as socket,
    ):
        await socket.receive()
        cpu, wall, size, ended = cpu_seconds(server), time.perf_counter(), 0, 0

        async def send() -> None:
            for prompt in prompts:
                body = {"prompt": prompt, "client_id": "bench"}
                async with client.post(f"{server.url}/prompt", json=body) as answer:
                    assert answer.status == 200, await answer.text()

        sender = asyncio.create_task(send())
        while ended < len(prompts):
            message = await socket.receive()
            size += len(message.data)
            if message.type == WSMsgType.TEXT:
                data = message.json()
                assert data["type"] != "execution_error", data
                ended += data["type"] == "executing" and data["data"]["node"] is None
        await sender
        return time.perf_counter() - wall, cpu_seconds(server) - cpu, size


def measure(title: str, server: ServerProcess, make: Callable[[int], list[Prompt]]) -> None:
    """Print the median of three runs."""
    rows = [asyncio.run(run_and_count(server, make(i))) for i in range(3)]
    wall, cpu = statistics.median(r[0] for r in rows), statistics.median(r[1] for r in rows)
    count = len(make(0))
    rate = f"  {count / wall:7.0f} prompts/s" if count > 1 else ""
    print(f"{title:34} {cpu:7.3f} s CPU  {wall:7.3f} s wall  {rows[0][2] / 1e6:7.3f} MB{rate}")


def bench_start(base: Path) -> None:
    """From process start to the first answered /object_info, with the catalogue stored."""
    with ServerProcess(base, "--allow-packs", "all") as server:
        server.run(chain(3))
    server = ServerProcess(base, "--allow-packs", "all")
    started = time.perf_counter()
    server.start()
    server.get("/object_info")
    wall = time.perf_counter() - started
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    times, memory = process.cpu_times(), process.memory_info().rss / 1e6
    cpu = times.user + times.system
    print(f"start to object_info {cpu:.2f} s server CPU, {wall:.2f} s wall, {memory:.0f} MB")
    server.stop()


def main(names: list[str]) -> None:
    names = names or ["start", "chain", "fan", "rate"]
    with tempfile.TemporaryDirectory() as folder:
        base = make_base(Path(folder))
        if "start" in names:
            bench_start(base)
        with ServerProcess(base, "--allow-packs", "all") as server:
            server.run(chain(3, leaf=-1))
            if "chain" in names:
                measure("chain of 1,000, cold", server, lambda i: [chain(1000, 1000 + i)])
                measure("chain of 1,000, cached", server, lambda i: [chain(1000, 1000)])
                change = [chain(1000, 1000) for _ in range(4)]
                for i in range(4):
                    change[i]["998"]["inputs"]["b"] = i
                measure("chain of 1,000, one leaf changed", server, lambda i: [change[i]])
                measure("chain of 10,000, cold", server, lambda i: [chain(10_000, 50 + i)])
            if "fan" in names:
                measure("fan-out of 1,000, cold", server, lambda i: [fan_out(1000, 70 + i)])
            if "rate" in names:
                distinct = [[chain(3, 10_000 * r + i) for i in range(600)] for r in range(1, 4)]
                measure("3 nodes, distinct prompts", server, lambda i: distinct[i])
                measure("3 nodes, identical prompts", server, lambda i: [chain(3)] * 1200)


if __name__ == "__main__":
    main(sys.argv[1:])
