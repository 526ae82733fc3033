"""How events are written as server-sent events."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from orchestrator.views import EventView
from serve_app.routes_events import server_sent

EVENT = EventView(
    seq=7,
    plan_id=1,
    task_id=None,
    task_key="",
    token=None,
    type="plan.done",
    payload={"words": "two\nlines"},
    at=datetime(2026, 1, 2, tzinfo=UTC),
)


class Source:
    """Events as a watcher gets them; tells whether it was closed."""

    def __init__(self):
        self.queue = asyncio.Queue()
        self.is_closed = False

    async def events(self):
        try:
            while True:
                yield await self.queue.get()
        finally:
            self.is_closed = True


async def test_an_event_is_three_lines_and_a_blank_one():
    source = Source()
    source.queue.put_nowait(EVENT)
    stream = server_sent(source.events())
    assert (await anext(stream)).startswith(b":")
    lines = (await anext(stream)).decode().split("\n")
    assert lines[:2] == ["id: 7", "event: plan.done"]
    assert EventView.model_validate(json.loads(lines[2].removeprefix("data: "))) == EVENT
    assert lines[3:] == ["", ""]


async def test_silence_is_filled_with_comments_and_loses_nothing():
    source = Source()
    stream = server_sent(source.events(), heartbeat_s=0.01)
    first = [await anext(stream) for _ in range(4)]
    assert all(chunk.startswith(b":") and chunk.endswith(b"\n\n") for chunk in first)
    source.queue.put_nowait(EVENT)
    async with asyncio.timeout(60):
        while (await anext(stream)).startswith(b":"):
            pass


async def test_closing_the_stream_ends_the_watch():
    source = Source()
    stream = server_sent(source.events(), heartbeat_s=0.01)
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert source.is_closed


async def test_a_watch_that_fails_ends_the_stream():
    async def failing():
        yield EVENT
        raise RuntimeError("gone")

    stream = server_sent(failing())
    await anext(stream)
    await anext(stream)
    with pytest.raises(RuntimeError, match="gone"):
        await anext(stream)
