"""The routing tables of the package, with what the settings add to them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from orchestrator.settings import RoutingTables


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Look-ups by name: tracks and aliases give agent types, `models` gives ids of models.

    Attributes:
        package_tracks: what holds unless a file or the settings say otherwise.
        tracks: of the settings, which win.
    """

    package_tracks: dict[str, str]
    tracks: Mapping[str, str]
    aliases: Mapping[str, str]
    models: Mapping[str, str]


def load_tables(additions: RoutingTables) -> Tables:
    """Read `tables.toml` of the package; `additions` win."""
    text = resources.files("orchestrator.routing").joinpath("tables.toml").read_text(encoding="utf-8")
    ours = tomllib.loads(text)
    return Tables(
        package_tracks=ours["tracks"],
        tracks=additions.tracks,
        aliases=ours["aliases"] | additions.aliases,
        models=ours["models"],
    )
