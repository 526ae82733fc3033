"""Text that PostgreSQL can store: its text has no NUL and no lone surrogates."""

from __future__ import annotations

import math
from collections.abc import Mapping


def storable(text: str) -> str:
    """Return the text with what cannot be stored replaced by the replacement character."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


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
