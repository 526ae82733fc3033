"""How events and commands are declared: frozen to the type checker, cheap to make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def value(cls: type[T]) -> type[T]:
    """Make a dataclass that nobody may change.

    The type checker sees to that. At run time a frozen dataclass sets each field by a call, which takes three
    times as long, and a scheduler makes a score of them for each task.
    """
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)
