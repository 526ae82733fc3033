"""The backends that there are, by name: all else that knows them takes them from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

#: Every backend → the provider of models whose key it needs; empty = it asks no model.
PROVIDERS: Mapping[str, str] = {
    "command": "",
    "simulated": "",
    "anthropic": "anthropic",
    "claude-code": "anthropic",
    "openai": "openai",
}

#: What a person may ask for; `auto` leaves it to us. Who checks types takes no list that is made elsewhere.
if TYPE_CHECKING:
    BackendChoice: TypeAlias = str
else:
    BackendChoice = Literal[("auto", *PROVIDERS)]
