"""Chooses the agent type and the backend of every task: the catalogue, the tables and the rules."""

from orchestrator.routing.backends import choose_backend, not_installed, wanted_backend
from orchestrator.routing.checks import checked_plan
from orchestrator.routing.rules import Route, Routing, Rule

__all__ = [
    "Route",
    "Routing",
    "Rule",
    "checked_plan",
    "choose_backend",
    "not_installed",
    "wanted_backend",
]
