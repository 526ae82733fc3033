"""Bounds of one request: how large its body may be, and how long until its answer begins.

The time stops counting when the answer begins, so a stream of events may last for ever.
"""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.errors import ServerUnavailable
from serve_app.errors import problem_response


class RequestLimits:
    """ASGI middleware that answers 413 and 504."""

    def __init__(self, app: ASGIApp, *, body_bytes_max: int, request_timeout_s: float) -> None:
        self._app = app
        self._body_bytes_max = body_bytes_max
        self._request_timeout_s = request_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on within its bounds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        deadline = asyncio.timeout(self._request_timeout_s)

        async def send_begun(message: Message) -> None:
            deadline.reschedule(None)
            await send(message)

        try:
            async with deadline:
                await self._app(scope, self._limited(receive), send_begun)
        except TimeoutError:
            if not deadline.expired():
                raise
            detail = f"The request took longer than {self._request_timeout_s:g} s."
            await problem_response(504, code=ServerUnavailable, detail=detail)(scope, receive, send)

    def _limited(self, receive: Receive) -> Receive:
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._body_bytes_max:
                raise HTTPException(413, f"The body is larger than {self._body_bytes_max} bytes.")
            return message

        return limited
