"""A TCP proxy in front of PostgreSQL that decides what becomes of a commit and of its answer.

A commit is a COMMIT, or a statement that writes outside of a transaction. The proxy runs in a thread with a
loop of its own, so tests of every kind use it alike, and it takes each commit for itself: everything before
it is undone with the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

from orchestrator.store.urls import DatabaseUrls
from tests.support.pg_messages import Frames, Statements

_CHUNK = 65536


class Fate(StrEnum):
    """What becomes of a commit."""

    PASSED = "passed"
    BEFORE = "before"  #: the connection ends before it takes place
    AFTER = "after"  #: it takes place, and the connection ends before the answer
    DELAYED = "delayed"  #: it takes place, and the answer comes late
    HELD = "held"  #: it takes place, and the answer never comes


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """Shares of all commits, from 0 to 1, that have each fate; the rest pass."""

    before: float = 0.0
    after: float = 0.0
    delayed: float = 0.0
    delay_max_s: float = 0.1


class _Session:
    """What has been said on one connection; `fates` has one for each answer that is still to come."""

    def __init__(self) -> None:
        self.fates: list[Fate] = []
        self.statements = Statements()
        self._asking = Frames(untyped=-1)
        self._answering = Frames()

    def asked(self, data: bytes) -> Iterator[list[bytes]]:
        """Yield the statements of every message that has the server answer."""
        for kind, body, _ in self._asking.feed(data):
            if not kind:
                self._answering.untyped += self._asking.untyped < 0
            elif (statements := self.statements.take(kind, body)) is not None:
                yield statements

    def answered(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Yield every message of the server, and whether it ends an answer."""
        for kind, body, raw in self._answering.feed(data):
            is_end = kind == b"Z"
            if is_end:
                self.statements.is_in_transaction = body != b"I"
            yield raw, is_end


class CommitProxy:
    """Forwards everything; `next_fate` is that of the next commit, else the odds decide.

    `next_fate` waits for a transaction with a statement that has `next_words`, if they are set. `counts` has
    how many commits had each fate, `held` is set once an answer is held back.
    """

    def __init__(self, url: str, *, seed: int) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._dice = random.Random(seed)
        self._port = 0
        self.odds = Odds()
        self.next_fate: Fate | None = None
        self.next_words = b""
        self.counts: Counter[Fate] = Counter()
        self.held = threading.Event()

    def through(self, url: str) -> str:
        """Return the URL that leads to the same database through the proxy."""
        parts = urlsplit(url)
        credentials = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{self._port}"))

    def all_through(self, urls: DatabaseUrls) -> DatabaseUrls:
        """Return the URLs of scheduler, executors and front end through the proxy; the others as they are."""
        return replace(
            urls,
            service=self.through(urls.service),
            api=self.through(urls.api),
            direct=self.through(urls.direct),
        )

    async def serve(self, is_up: threading.Event, is_over: asyncio.Event) -> None:
        """Listen on a free port until it is over."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        is_up.set()
        async with server:
            await is_over.wait()

    async def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            to_client.close()
            return
        session = _Session()
        ways = {
            asyncio.create_task(self._ask(client, to_server, session)),
            asyncio.create_task(self._answer(server, to_client, session)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for writer in (to_client, to_server):
                writer.close()

    async def _ask(
        self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter, session: _Session
    ) -> None:
        has_words = False
        with contextlib.suppress(ConnectionError):
            while data := await client.read(_CHUNK):
                has_words = has_words or self._has_words(data)
                for statements in session.asked(data):
                    fate = Fate.PASSED
                    if session.statements.commit(statements):
                        has_words = has_words or any(map(self._has_words, statements))
                        fate, has_words = self._choose(has_words), False
                        self.counts[fate] += 1
                    if fate is Fate.BEFORE:
                        return
                    session.fates.append(fate)
                to_server.write(data)
                await to_server.drain()

    async def _answer(
        self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter, session: _Session
    ) -> None:
        answer = b""
        with contextlib.suppress(ConnectionError):
            while data := await server.read(_CHUNK):
                for message, is_end in session.answered(data):
                    answer += message
                    fate = session.fates[0] if session.fates else Fate.PASSED
                    if not is_end and fate is not Fate.PASSED:
                        continue  # until it has taken place
                    if fate is Fate.AFTER:
                        return
                    if fate is Fate.HELD:
                        self.held.set()
                        await asyncio.Event().wait()  # until the client hangs up
                    if fate is Fate.DELAYED:
                        await asyncio.sleep(self._dice.uniform(0, self.odds.delay_max_s))
                    if is_end:
                        session.fates = session.fates[1:]
                    to_client.write(answer)
                    answer = b""
                await to_client.drain()

    def _has_words(self, text: bytes) -> bool:
        return bool(self.next_words) and self.next_words in text

    def _choose(self, has_words: bool) -> Fate:
        chosen = self.next_fate
        if chosen is not None and (has_words or not self.next_words):
            self.next_fate = None
            return chosen
        odds, thrown = self.odds, self._dice.random()
        for fate, share in (
            (Fate.BEFORE, odds.before),
            (Fate.AFTER, odds.after),
            (Fate.DELAYED, odds.delayed),
        ):
            if thrown < share:
                return fate
            thrown -= share
        return Fate.PASSED


@contextmanager
def commit_proxy(url: str, *, seed: int = 0) -> Iterator[CommitProxy]:
    """A running proxy in front of the server of a libpq URL."""
    proxy = CommitProxy(url, seed=seed)
    loop = asyncio.new_event_loop()
    is_up, is_over = threading.Event(), asyncio.Event()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(proxy.serve(is_up, is_over))

    thread = threading.Thread(target=run, name="commit-proxy")
    thread.start()
    try:
        assert is_up.wait(60)
        yield proxy
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join(20)
        assert not thread.is_alive()
