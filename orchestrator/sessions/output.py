"""The output of commands: streamed to the transcript line by line, its head and tail kept, never all of it.

Rule: whatever a command prints, memory stays bounded, and what is left out is counted and said.
"""

from __future__ import annotations

import codecs

from orchestrator.ports import Transcript

_LINE_BYTES_MAX = 8_192


class Excerpt:
    """The first and the last part of a text that may be long.

    Args:
        head_max, tail_max: how many characters of each to keep.
    """

    def __init__(self, *, head_max: int, tail_max: int) -> None:
        self._head_max = head_max
        self._tail_max = tail_max
        self._head = ""
        self._tail = ""
        self._chars = 0

    def add(self, text: str) -> None:
        """Add what comes next."""
        self._chars += len(text)
        room = self._head_max - len(self._head)
        self._head += text[:room]
        self._tail += text[room:]
        if len(self._tail) > 2 * self._tail_max:  # not at each chunk: cutting copies
            self._tail = self._tail[-self._tail_max :]

    @property
    def text(self) -> str:
        """Head and tail, and between them how many characters are missing."""
        tail = self._tail[-self._tail_max :]
        left_out = self._chars - len(self._head) - len(tail)
        between = f"\n[... {left_out:,} characters left out ...]\n" if left_out else ""
        return self._head + between + tail


class OutputTap:
    """Passes the output of an attempt on to its transcript, whole lines at a time, up to a cap in bytes.

    Past the cap the transcript gets nothing until `finish`, which adds how much was left out and the end.
    """

    def __init__(self, transcript: Transcript, *, bytes_max: int) -> None:
        self._transcript = transcript
        self._bytes_left = bytes_max
        self._bytes_left_out = 0
        self._lines: dict[str, _Lines] = {}
        self._end = Excerpt(head_max=0, tail_max=4_000)

    def add(self, stream: str, chunk: bytes) -> str:
        """Take one chunk of `stdout` or `stderr`; returns those lines of it that are complete by now."""
        text = self._lines.setdefault(stream, _Lines()).add(chunk)
        self._pass_on(stream, text)
        return text

    def finish(self) -> str:
        """Pass on what waits for the end of its line; returns it."""
        rest = ""
        for stream, lines in self._lines.items():
            text = lines.finish()
            self._pass_on(stream, text)
            rest += text
        self._lines.clear()
        if self._bytes_left_out:
            note = f"[{self._bytes_left_out:,} bytes of output left out; the last of them:]\n{self._end.text}"
            self._transcript.write("note", note)
            self._bytes_left_out = 0
        return rest

    def _pass_on(self, stream: str, text: str) -> None:
        size = len(text.encode())
        if size > self._bytes_left:
            self._bytes_left = 0
            self._bytes_left_out += size
            self._end.add(text)
        elif text:
            self._bytes_left -= size
            self._transcript.write(stream, text)


class _Lines:
    """Cuts a byte stream into whole lines of valid text; a line that is too long is cut."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = ""

    def add(self, chunk: bytes) -> str:
        self._waiting += self._decoder.decode(chunk)
        end = len(self._waiting) if len(self._waiting) > _LINE_BYTES_MAX else self._waiting.rfind("\n") + 1
        lines, self._waiting = self._waiting[:end], self._waiting[end:]
        return lines

    def finish(self) -> str:
        rest, self._waiting = self._waiting + self._decoder.decode(b"", final=True), ""
        return rest
