"""The frames of PostgreSQL's protocol 3, as far as a proxy needs them to see what commits.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

_ENCRYPTION_REQUESTS = (80877103, 80877104)  # of TLS and of GSSAPI: each is answered by one byte

#: A statement that writes, and so commits by itself outside of a transaction.
_WRITES = (b"INSERT", b"UPDATE ", b"DELETE", b"commit_batch", b"nextval")


@dataclass(slots=True)
class Frames:
    """Cuts a stream into messages: (type, body, the bytes of both). Until the start they have no type."""

    untyped: int = 0  #: bytes or messages without a type still to come; -1 = until the start is over
    _rest: bytes = b""

    def feed(self, data: bytes) -> list[tuple[bytes, bytes, bytes]]:
        """Take bytes; return the messages that are whole now."""
        self._rest += data
        found = []
        while (message := self._next()) is not None:
            found.append(message)
            self._rest = self._rest[len(message[2]) :]
        return found

    def _next(self) -> tuple[bytes, bytes, bytes] | None:
        if self.untyped > 0:
            self.untyped -= bool(self._rest)
            return (b"", b"", self._rest[:1]) if self._rest else None
        head = 0 if self.untyped else 1
        if len(self._rest) < head + 4:
            return None
        (length,) = struct.unpack("!i", self._rest[head : head + 4])
        if len(self._rest) < head + length:
            return None
        raw = self._rest[: head + length]
        body = raw[head + 4 :]
        if self.untyped and struct.unpack("!i", body[:4])[0] not in _ENCRYPTION_REQUESTS:
            self.untyped = 0
        return raw[:head], body, raw


@dataclass(slots=True)
class Statements:
    """Which statements a client has carried out since it last waited, by the messages that it sends."""

    is_in_transaction: bool = False  #: as the server said last
    _named: dict[bytes, bytes] = field(default_factory=dict)
    _bound: list[bytes] = field(default_factory=list)

    def take(self, kind: bytes, body: bytes) -> list[bytes] | None:
        """Take a message; return the statements when it is the one that has the server answer."""
        if kind == b"P":
            name, text = body.split(b"\0", 2)[:2]
            self._named[name] = text
        elif kind == b"B":
            name = body.split(b"\0", 2)[1]
            self._bound.append(self._named.get(name, b""))
        elif kind == b"Q":
            return [body]
        elif kind == b"S":
            bound, self._bound = self._bound, []
            return bound
        return None

    def commit(self, statements: list[bytes]) -> bool:
        """Tell whether the answer to these is that of a commit of something."""
        if any(statement.startswith(b"COMMIT") for statement in statements):
            return True
        has_begun = self.is_in_transaction or any(text.startswith(b"BEGIN") for text in statements)
        return not has_begun and any(word in text for text in statements for word in _WRITES)
