"""Adds up what the answers of a model consumed, and tells it however a session ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.ports import Outcome, SessionCancelled, Transcript, Usage
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.pricing import cost_micros, price_of
from orchestrator.sessions.watch import TimedOut


class Meter:
    """Counts the answers of one conversation.

    Attributes:
        price_note: for the transcript: what to know of the price; empty if the price list has the model.
    """

    def __init__(self, model: str, config: SessionConfig) -> None:
        self.usage = Usage()
        self._price, is_known = price_of(model, config.prices)
        self.price_note = (
            ""
            if is_known
            else f"No price is known for {model}: it is counted like the dearest model of the price list.\n"
        )

    def add(self, spent: Usage) -> None:
        """Count the tokens of one answer, whole or broken off."""
        total = self.usage
        self.usage = Usage(
            input_tokens=total.input_tokens + spent.input_tokens,
            output_tokens=total.output_tokens + spent.output_tokens,
            cache_read_tokens=total.cache_read_tokens + spent.cache_read_tokens,
            cache_write_tokens=total.cache_write_tokens + spent.cache_write_tokens,
            cost_micros=total.cost_micros + cost_micros(self._price, spent),
            requests=total.requests + 1,
        )


async def counted(session: Awaitable[Outcome], *, meter: Meter, transcript: Transcript) -> Outcome:
    """Run a session to its outcome, with its usage; one that runs into a clock has timed out.

    Raises:
        SessionCancelled: it was cancelled; this tells the usage too.
    """
    if meter.price_note:
        transcript.write("note", meter.price_note)
    try:
        outcome = await session
    except TimedOut as late:
        outcome = Outcome(state=AttemptState.TIMED_OUT, failure_class=FailureClass.TIMEOUT, summary=str(late))
    except asyncio.CancelledError as cancel:
        raise SessionCancelled(meter.usage) from cancel
    return replace(outcome, usage=meter.usage)
