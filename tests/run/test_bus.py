"""The bus: order, resume, and that a slow reader delays nobody."""

import asyncio

import pytest

from engine.api.events import JobStarted, LogLine, NodePreview, NodeProgress
from engine.run.bus import Batch, Bus, QueueStatus, Subscription
from engine.run.job_run import Outbox


def started(number: int) -> JobStarted:
    return JobStarted(job_id=f"j{number}", timestamp_ms=number)


def progress(value: float, node: str = "1") -> NodeProgress:
    return NodeProgress(job_id="j", node_id=node, display_id=node, value=value, maximum=9)


def names(batch: Batch) -> list[str]:
    return [getattr(p.event, "job_id", "") for p in batch.events]


async def test_state_events_come_in_order_and_numbered():
    bus = Bus()
    subscription = bus.subscribe()
    for number in range(3):
        bus.publish(started(number))
    batch = await subscription.next()
    assert [(p.seq, p.is_transient) for p in batch.events] == [(1, False), (2, False), (3, False)]
    assert bus.position == (bus.epoch, 3)
    assert subscription.take() == Batch(events=())


async def test_the_newest_transient_event_wins_and_keeps_its_place_between_states():
    bus = Bus()
    subscription = bus.subscribe()
    bus.publish(started(0))
    bus.publish(progress(1))
    bus.publish(progress(2, "other"))
    bus.publish(started(1))
    bus.publish(progress(3))
    preview = NodePreview(job_id="j", node_id="1", display_id="1", mime="image/jpeg", data=b"x")
    bus.publish(preview)
    events = [p.event for p in (await subscription.next()).events]
    assert events == [started(0), progress(2, "other"), started(1), progress(3), preview]


async def test_resume_after_a_position_gives_what_was_missed():
    bus = Bus()
    for number in range(5):
        bus.publish(started(number))
    subscription = bus.subscribe(after=(bus.epoch, 2))
    assert names(await subscription.next()) == ["j2", "j3", "j4"]
    assert bus.subscribe(after=bus.position).take() == Batch(events=())


@pytest.mark.parametrize("after", [("other", 3), ("", 1), ("same", 99), ("same", -1), ("same", 0)])
async def test_an_unknown_or_expired_position_is_a_gap(after: tuple[str, int]):
    bus = Bus(size=4)
    for number in range(10):
        bus.publish(started(number))
    epoch = bus.epoch if after[0] == "same" else after[0]
    subscription = bus.subscribe(after=(epoch, after[1]))
    assert await subscription.next() == Batch(events=(), is_gap=True)
    bus.publish(started(10))
    assert names(await subscription.next()) == ["j10"]


async def test_a_slow_reader_gets_a_gap_and_delays_nobody():
    bus = Bus(size=100)
    slow, fast = bus.subscribe(), bus.subscribe()
    seen: list[str] = []
    for number in range(1000):
        bus.publish(started(number))
        bus.publish(progress(number))
        if number % 50 == 0:
            seen += names(fast.take())
    seen += names(fast.take())
    assert [n for n in seen if n != "j"] == [f"j{i}" for i in range(1000)]
    batch = slow.take()
    assert batch.is_gap and names(batch) == ["j"]


async def test_events_of_a_job_go_to_its_client_and_common_ones_to_all():
    bus = Bus(size=4)
    mine, other, all_of_them = (bus.subscribe(client_id=c) for c in ("me", "other", None))
    bus.publish(started(1), "me")
    bus.publish(QueueStatus(remaining=1, is_paused=False))
    assert [type(p.event) for p in mine.take().events] == [JobStarted, QueueStatus]
    assert [type(p.event) for p in other.take().events] == [QueueStatus]
    assert len(all_of_them.take().events) == 2
    for number in range(20):
        bus.publish(started(number), "me")
    assert other.take() == Batch(events=())  # what concerns others makes no gap


async def test_log_lines_are_bounded():
    bus = Bus()
    subscription = bus.subscribe()
    for number in range(1000):
        bus.publish(LogLine(text=str(number)))
    texts = [p.event.text for p in subscription.take().events if isinstance(p.event, LogLine)]
    assert texts == [str(i) for i in range(1000 - len(texts), 1000)] and 100 < len(texts) < 1000


async def test_a_closed_subscription_gets_nothing():
    bus = Bus()
    subscription = bus.subscribe()
    subscription.close()
    subscription.close()
    bus.publish(progress(1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(subscription.next(), 0.01)


async def test_what_follows_a_finish_waits_for_it():
    bus = Bus()
    outbox = Outbox(bus)
    subscription: Subscription = bus.subscribe()
    outbox.post(started(0), None)
    first, second = outbox.hold(None), outbox.hold("me")
    outbox.post(started(3), None)
    assert names(subscription.take()) == ["j0"]
    second([started(2)])
    assert names(subscription.take()) == []
    first([started(1)])
    assert names(subscription.take()) == ["j1", "j2", "j3"]
    outbox.post(started(4), None)
    assert names(subscription.take()) == ["j4"]
