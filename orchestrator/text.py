"""Values that PostgreSQL can store: its text has no NUL and no surrogates, its ids have 64 bits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_ID_DIGITS_MAX = 18  #: every number of so many digits is a bigint


def storable(text: str) -> str:
    """Return the text with each character that cannot be stored replaced by U+FFFD; offsets stay true."""
    return _UNSTORABLE.sub("\ufffd", text)


def id_in(text: str) -> int | None:
    """Return the id that a text is, None if it is none: what people type may be a name or a key as well."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _ID_DIGITS_MAX else None


def storable_json(value: object) -> object:
    """Return a JSON value with every string in it made storable; JSON has no NaN and no infinity: null."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {storable(str(key)): storable_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable_json(item) for item in value]
    return value
