"""How small values are declared of which there are many: frozen to the type checker, cheap to make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a dataclass that nobody may change.

    The type checker sees to that. At run time a frozen dataclass sets each field by a call, which takes three
    times as long, and each task takes a score of them.
    """
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)
