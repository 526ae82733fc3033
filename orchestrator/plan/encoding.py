"""The bytes of a plan's file as text, and back.

Plans are UTF-8. Single bytes that are none of it come from old editors and are read as Windows-1252, one
character a byte; whoever writes marks back leaves them as they are. UTF-16 is read if its mark says so.
"""

from __future__ import annotations

import re

from orchestrator.errors import Finding, PlanError
from orchestrator.plan.findings import Code

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: A byte that is no UTF-8 as `with_strays` has it, and what it is in Windows-1252, where it is anything.
_STRAY = re.compile("[\udc80-\udcff]")
_WINDOWS = {
    0xDC00 + byte: character
    for byte in range(0x80, 0x100)
    if (character := bytes([byte]).decode("cp1252", "ignore"))
}


def decode(content: bytes, name: str) -> str:
    """Return the text of a file, each stray byte as the character that it is in Windows-1252.

    Raises:
        PlanError: it is UTF-16 with a fault.
    """
    if not is_utf16(content):
        return with_strays(content).translate(_WINDOWS)
    try:
        return content.decode("utf-16")
    except UnicodeDecodeError as error:
        message = f"The plan {name!r} is no UTF-16 text: byte {error.start}."
        raise PlanError(message, remedy="Save it as UTF-8.") from error


def is_utf16(content: bytes) -> bool:
    """Tell whether a file is UTF-16, by its byte-order mark."""
    return content.startswith(_UTF16_MARKS)


def with_strays(content: bytes) -> str:
    """Return the text of a file with a surrogate for each stray byte: as long as `decode` has it, and
    `without_loss` makes the same bytes of it."""
    return content.decode("utf-8", "surrogateescape")


def without_loss(text: str) -> bytes:
    """Return the bytes of a text, its stray ones included."""
    return text.encode("utf-8", "surrogateescape")


def stray_bytes(content: bytes, *, source: str) -> list[Finding]:
    """Return what is found of bytes that are no UTF-8."""
    if content.isascii() or is_utf16(content):
        return []
    text = with_strays(content)
    if (first := _STRAY.search(text)) is None:
        return []
    line = text.count("\n", 0, first.start()) + 1
    count = sum(1 for _ in _STRAY.finditer(text))
    what = "A byte is" if count == 1 else f"{count} bytes are"
    message = f"{what} no UTF-8 (0x{ord(first[0]) - 0xDC00:02x}) and read as Windows-1252."
    return [Code.STRAY_BYTES.at(line, message, remedy="Save the file as UTF-8.", source=source)]
