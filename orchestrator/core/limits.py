"""How many attempts may be live at once: in total, per agent type, per tenant and per plan.

The settings give the limits; people override them while the scheduler runs, and the overrides outlive it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.core.task import GATE_POOL

#: More than anybody can run: what a limit of 0 in `tenant_default_max` and `plan_default_max` means.
UNBOUNDED = 10**9

K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of the settings. `agent_sessions_max` and `tenant_sessions_max` name exceptions."""

    sessions_max: int = 16
    agent_default_max: int = 16
    agent_sessions_max: Mapping[str, int] = field(default_factory=dict)
    tenant_default_max: int = 0
    tenant_sessions_max: Mapping[str, int] = field(default_factory=dict)
    plan_default_max: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What people have set instead, by name or id; what is not named follows the settings."""

    sessions_max: int | None = None
    agents: Mapping[str, int] = field(default_factory=dict)
    tenants: Mapping[str, int] = field(default_factory=dict)
    plans: Mapping[int, int] = field(default_factory=dict)

    def merged(self, newer: Overrides) -> Overrides:
        """Return these with the newer ones on top; a newer 0 means: back to the settings."""
        return Overrides(
            sessions_max=self.sessions_max if newer.sessions_max is None else newer.sessions_max or None,
            agents=_merged(self.agents, newer.agents),
            tenants=_merged(self.tenants, newer.tenants),
            plans=_merged(self.plans, newer.plans),
        )

    def values(self) -> list[int]:
        """Return every number that is set."""
        total = [] if self.sessions_max is None else [self.sessions_max]
        return [*total, *self.agents.values(), *self.tenants.values(), *self.plans.values()]

    def as_json(self) -> dict[str, object]:
        """Return them as they are stored and told."""
        return {
            "sessions_max": self.sessions_max,
            "agents": dict(self.agents),
            "tenants": dict(self.tenants),
            "plans": {str(plan_id): value for plan_id, value in self.plans.items()},
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Overrides:
        """Read what `as_json` gave; raises ValueError or TypeError if a limit is no number."""
        total = told.get("sessions_max")
        return cls(
            sessions_max=None if total is None else int(total),
            agents={str(name): int(value) for name, value in told.get("agents", {}).items()},
            tenants={str(name): int(value) for name, value in told.get("tenants", {}).items()},
            plans={int(plan_id): int(value) for plan_id, value in told.get("plans", {}).items()},
        )


def _merged(old: Mapping[K, int], new: Mapping[K, int]) -> dict[K, int]:
    return {key: value for key, value in {**old, **new}.items() if value}


@dataclass(slots=True, kw_only=True)
class Bounds:
    """The limits that hold now."""

    limits: Limits = field(default_factory=Limits)
    overrides: Overrides = field(default_factory=Overrides)

    @property
    def total(self) -> int:
        """The most attempts that may be live. Settings of 0 stop all leasing; nobody overrides them."""
        chosen = self.overrides.sessions_max
        return self.limits.sessions_max if chosen is None or not self.limits.sessions_max else chosen

    def of_pool(self, pool: str) -> int:
        """The most of a pool; gates have no limit of their own."""
        if pool == GATE_POOL:
            return self.total
        limits = self.limits
        return self.overrides.agents.get(pool) or limits.agent_sessions_max.get(
            pool, limits.agent_default_max
        )

    def of_tenant(self, tenant_id: str) -> int:
        """The most of a tenant."""
        limits = self.limits
        named = self.overrides.tenants.get(tenant_id) or limits.tenant_sessions_max.get(tenant_id)
        return named or limits.tenant_default_max or UNBOUNDED

    def of_plan(self, plan_id: int) -> int:
        """The most of a plan."""
        return self.overrides.plans.get(plan_id) or self.limits.plan_default_max or UNBOUNDED
