"""Chooses the agent type and the backend of every task: the catalogue, the tables and the rules."""

from orchestrator.routing.backends import (
    backend_of_models,
    choose_backend,
    keyless,
    not_installed,
    provider_of_models,
    wanted_backend,
)
from orchestrator.routing.checks import checked_plan
from orchestrator.routing.rules import Route, Routing, Rule

__all__ = [
    "Route",
    "Routing",
    "Rule",
    "backend_of_models",
    "checked_plan",
    "choose_backend",
    "keyless",
    "not_installed",
    "provider_of_models",
    "wanted_backend",
]
