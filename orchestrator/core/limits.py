"""How many attempts may be live at once, in total, per agent type, tenant and plan; and what all may spend.

The settings give the limits; people override them while the scheduler runs, and the overrides outlive it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from orchestrator.core.task import GATE_POOL

#: More than anybody can run, or spend in micros: where there is no bound, reckoning is with this one.
UNBOUNDED = 10**15

K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of the settings. `agent_sessions_max` and `tenant_sessions_max` name exceptions.

    Attributes:
        tenant_budget_micros: what a tenant may spend in all its plans; 0 = no bound.
        day_budget_micros: what everybody may spend in a day, by UTC; 0 = no bound.
    """

    sessions_max: int = 16
    agent_default_max: int = 16
    agent_sessions_max: Mapping[str, int] = field(default_factory=dict)
    tenant_default_max: int = 0
    tenant_sessions_max: Mapping[str, int] = field(default_factory=dict)
    plan_default_max: int = 0
    tenant_budget_micros: int = 0
    day_budget_micros: int = 0

    def narrowed(self, agents: Mapping[str, int | None]) -> Limits:
        """Return these with what the files of agent types say, which never is more.

        An agent type that a plan brought along, `name@plan`, may have no more than its name has elsewhere.
        """
        narrower = dict(self.agent_sessions_max)
        for name, most in agents.items():
            elsewhere = self.agent_sessions_max.get(name.partition("@")[0], self.agent_default_max)
            allowed = self.agent_sessions_max.get(name, elsewhere)
            if (own := min(most or allowed, allowed)) != self.agent_default_max:
                narrower[name] = own
        return replace(self, agent_sessions_max=narrower)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What people have set instead, by name or id; what is not named follows the settings."""

    sessions_max: int | None = None
    agents: Mapping[str, int] = field(default_factory=dict)
    tenants: Mapping[str, int] = field(default_factory=dict)
    plans: Mapping[int, int] = field(default_factory=dict)
    tenant_budgets: Mapping[str, int] = field(default_factory=dict)
    day_budget: int | None = None

    def merged(self, newer: Overrides) -> Overrides:
        """Return these with the newer ones on top; a newer 0 means: back to the settings."""
        return Overrides(
            sessions_max=self.sessions_max if newer.sessions_max is None else newer.sessions_max or None,
            agents=_merged(self.agents, newer.agents),
            tenants=_merged(self.tenants, newer.tenants),
            plans=_merged(self.plans, newer.plans),
            tenant_budgets=_merged(self.tenant_budgets, newer.tenant_budgets),
            day_budget=self.day_budget if newer.day_budget is None else newer.day_budget or None,
        )

    def values(self) -> list[int]:
        """Return every number that is set."""
        single = [value for value in (self.sessions_max, self.day_budget) if value is not None]
        named = (self.agents, self.tenants, self.plans, self.tenant_budgets)
        return [*single, *(value for values in named for value in values.values())]

    def as_json(self) -> dict[str, object]:
        """Return them as they are stored and told."""
        return {
            "sessions_max": self.sessions_max,
            "agents": dict(self.agents),
            "tenants": dict(self.tenants),
            "plans": {str(plan_id): value for plan_id, value in self.plans.items()},
            "tenant_budgets": dict(self.tenant_budgets),
            "day_budget": self.day_budget,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Overrides:
        """Read what `as_json` gave; raises ValueError or TypeError if a limit is no number."""
        total, day_budget = told.get("sessions_max"), told.get("day_budget")
        budgets = told.get("tenant_budgets", {})
        return cls(
            sessions_max=None if total is None else int(total),
            agents={str(name): int(value) for name, value in told.get("agents", {}).items()},
            tenants={str(name): int(value) for name, value in told.get("tenants", {}).items()},
            plans={int(plan_id): int(value) for plan_id, value in told.get("plans", {}).items()},
            tenant_budgets={str(name): int(value) for name, value in budgets.items()},
            day_budget=None if day_budget is None else int(day_budget),
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

    def tenant_budget(self, tenant_id: str) -> int:
        """What a tenant may spend in all its plans, in micros; 0 = no bound."""
        return self.overrides.tenant_budgets.get(tenant_id) or self.limits.tenant_budget_micros

    @property
    def day_budget(self) -> int:
        """What everybody may spend in a day, in micros; 0 = no bound."""
        return self.overrides.day_budget or self.limits.day_budget_micros
