"""The one place where our plain classes become Ray actors, and where actors are found by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray._private.state import actors as actor_table

from actors.options import NAMESPACE

Handle = Any  # Ray types its handles dynamically


def make(kind: type, options: Mapping[str, Any], *arguments: object) -> Handle:
    """Make an actor of a plain class; with `get_if_exists` among the options, return the one that exists.

    Args:
        options: Ray's, from `actors.options`.
        arguments: of the constructor.
    """
    return ray.remote(kind).options(**options).remote(*arguments)


def find(name: str) -> Handle:
    """Return the actor of a name. Raises ValueError if there is none."""
    return ray.get_actor(name, namespace=NAMESPACE)


def names(prefix: str) -> list[str]:
    """Return the names of our actors that begin so, whatever namespace this process is in. Blocks."""
    found = ray.util.list_named_actors(all_namespaces=True)
    return [one["name"] for one in found if one["namespace"] == NAMESPACE and one["name"].startswith(prefix)]


def is_pending(actor: Handle) -> bool:
    """Tell whether Ray still seeks a place for an actor, or starts its process. Blocks."""
    row = actor_table(actor._actor_id.hex())  # noqa: SLF001 - the public call needs the dashboard
    return row.get("State") in ("DEPENDENCIES_UNREADY", "PENDING_CREATION")
