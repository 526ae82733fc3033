"""What the command line hands in in mode `run`, at the Host's stdin.

One line `{"op": "submit", "request": SubmitRequest}`; the end of stdin means stop, however far the start has
come. This is read from the first moment, so nothing heavy is imported here.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from pydantic import BaseModel, ValidationError

from orchestrator.errors import OrchestratorError
from orchestrator.views import SubmitRequest

_LINE_BYTES_MAX = 64 * 2**20


class _Order(BaseModel):
    """A line of stdin."""

    op: str
    request: SubmitRequest


async def read_orders(stdin: asyncio.StreamReader) -> AsyncIterator[SubmitRequest]:
    """Yield the plans that are handed in, until stdin ends.

    Raises:
        OrchestratorError: a line is not understood.
    """
    while line := await stdin.readline():
        try:
            order = _Order.model_validate_json(line)
        except ValidationError as error:
            raise OrchestratorError(
                f"The Host does not understand {line[:200]!r}: {error}",
                remedy="Use the same version of both.",
            ) from error
        yield order.request


async def open_stdin() -> asyncio.StreamReader:
    """Return stdin as a stream."""
    reader = asyncio.StreamReader(limit=_LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    return reader
