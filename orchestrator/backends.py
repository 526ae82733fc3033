"""The backends that there are, by name: all else that knows them takes them from here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Literal, TypeAlias

#: Every backend → the provider of models whose key it needs; empty = it asks no model.
PROVIDERS: Mapping[str, str] = {
    "command": "",
    "simulated": "",
    "anthropic": "anthropic",
    "claude-code": "anthropic",
    "openai": "openai",
}


def without_key(backends: Iterable[str], keyless: AbstractSet[str]) -> str:
    """Return the providers whose keys some backends lack, such as `anthropic, openai`; empty if none."""
    return ", ".join(sorted({PROVIDERS[name] for name in backends if name in keyless}))


def key_names(providers: str) -> str:
    """Return the variables that hold the keys of providers, given as `without_key` returns them."""
    return " and ".join(f"{name.upper()}_API_KEY" for name in providers.split(", ") if name)


#: What a person may ask for; `auto` leaves it to us. Who checks types takes no list that is made elsewhere.
if TYPE_CHECKING:
    BackendChoice: TypeAlias = str
else:
    BackendChoice = Literal[("auto", *PROVIDERS)]
