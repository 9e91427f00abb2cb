"""The queue's own cost: submits and finishes in a batch, and one after the other.

    python -m tests.benchmarks.bench_queue

CPU seconds are those of this process, both threads together. The target is 1,000 submits with
their finishes a second on one core.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from engine.api.events import JobFinished, JobStarted, NodeRecord
from engine.run.job import Outcome, Submission
from engine.run.queue import JobQueue

PROMPT = {
    "1": {"class_type": "Number", "inputs": {"value": 1}},
    "2": {"class_type": "Add", "inputs": {"a": ["1", 0], "b": 2}},
    "3": {"class_type": "Show", "inputs": {"value": ["2", 0]}},
}


async def run_next(queue: JobQueue) -> None:
    """Lease the next job and end it with the outcome of three nodes."""
    lease = await queue.lease()
    assert lease is not None and queue.start_job(lease)
    events = (
        JobStarted(job_id=lease.job_id, timestamp_ms=1),
        JobFinished(job_id=lease.job_id, status="success", timestamp_ms=2),
    )
    records = {i: NodeRecord(state="ran", seconds=0.001, reason="first run") for i in PROMPT}
    results = {"3": {"value": [3]}}
    assert await queue.finish(
        lease,
        Outcome(
            state="success",
            started_ms=1,
            ended_ms=2,
            results=results,
            records=records,
            events=events,
        ),
    )


def submission() -> Submission:
    return Submission(prompt=PROMPT, outputs=["3"], client_id="bench")


async def in_a_batch(queue: JobQueue, count: int) -> None:
    await asyncio.gather(*[queue.submit(submission()) for _ in range(count)])
    await asyncio.gather(*[run_next(queue) for _ in range(count)])


async def in_turn(queue: JobQueue, count: int) -> None:
    for _ in range(count):
        await queue.submit(submission())
        await run_next(queue)


async def beside(queue: JobQueue, count: int) -> None:
    """Submits one after the other, while another task runs what is there."""

    async def run_all() -> None:
        left = count
        while left:
            if queue.pending_ids:
                await run_next(queue)
                left -= 1
            else:
                await queue.wait()

    runner = asyncio.create_task(run_all())
    for _ in range(count):
        await queue.submit(submission())
    await runner


async def measure(title: str, work: Callable[[JobQueue, int], Awaitable[None]], count: int) -> None:
    """Print jobs a second, by the clock and by the processor."""
    with tempfile.TemporaryDirectory() as folder:
        queue = JobQueue(Path(folder) / "jobs.sqlite")
        await queue.start()
        wall, cpu = time.perf_counter(), time.process_time()
        await work(queue, count)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        await queue.stop()
    print(f"{title:32} {count / wall:7.0f} jobs/s   {count / cpu:7.0f} jobs per CPU second")


async def main() -> None:
    await measure("in a batch", in_a_batch, 3000)
    await measure("one after the other", in_turn, 100)
    await measure("submits beside runs", beside, 300)


if __name__ == "__main__":
    asyncio.run(main())
