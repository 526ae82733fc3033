"""Whether the models that agent types name are those of the provider that their sessions ask.

The price lists of the settings tell whose a model is. Where a provider has another address than the vendor's,
any model may be served there, and none is found fault with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import partial
from typing import NamedTuple

from orchestrator.agent_types import GENERAL, AgentType
from orchestrator.backends import PROVIDERS
from orchestrator.core.words import TaskKind
from orchestrator.errors import Finding
from orchestrator.list_prices import listed_name
from orchestrator.plan.findings import Code
from orchestrator.plan.model import Mark, Plan
from orchestrator.routing.backends import AUTO, backend_of_models, choose_backend
from orchestrator.routing.rules import Routing
from orchestrator.settings import ANTHROPIC, OPENAI, Anthropic, OpenAI, Settings


class _Wrong(NamedTuple):
    """What is wrong with the model of an agent type."""

    code: Code
    message: str
    remedy: str


def wrong_models_of(agent_types: Iterable[AgentType], *, settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each file with a wrong model, as far as no plan decides who is asked."""
    for each in agent_types:
        own = {each.name: each.backend}
        backend = choose_backend(
            own, settings.sessions.backend, each.name, False, of_models=_of_models(settings)
        )
        if wrong := _wrong(each, backend, settings):
            yield wrong.code.at(each.lines["model"], wrong.message, remedy=wrong.remedy, source=each.file)


def wrong_models_in(plan: Plan, *, routing: Routing, wanted: str, settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each agent type with a wrong model, at the first open task that asks it.

    Args:
        wanted: the backend that is wanted for all of the plan; see `wanted_backend`.
    """
    choose = partial(choose_backend, routing.backends(), wanted, of_models=_of_models(settings))
    found = {each.name: _wrong(each, choose(each.name, False), settings) for each in routing.agent_types()}
    if not any(found.values()):
        return
    for task in routing.with_reviewers(plan).tasks:
        if task.kind is not TaskKind.LEAF or task.mark is not Mark.OPEN or task.manual:
            continue
        worker = routing.route_task(task).agent_type
        asks_model = choose(worker, bool(task.run)) == choose(worker, False)
        for name in (worker if asks_model else "", task.options.get("review", "")):
            known = name if not name or routing.is_known(name) else GENERAL
            if wrong := found.pop(known, None):
                message = f"{task.key}: {wrong.message}"
                yield wrong.code.at(task.line, message, remedy=wrong.remedy, source=task.source)


def _of_models(settings: Settings) -> str:
    """Return what asks a model where nothing names a backend; without a key nobody is asked yet."""
    return backend_of_models(settings) if settings.credentials else AUTO


def _wrong(agent_type: AgentType, backend: str, settings: Settings) -> _Wrong | None:
    """Tell what is wrong with the model of an agent type whose sessions this backend runs."""
    sections: dict[str, Anthropic | OpenAI] = {ANTHROPIC: settings.anthropic, OPENAI: settings.openai}
    provider, model = PROVIDERS.get(backend, ""), agent_type.model
    if not (provider and model) or sections[provider].base_url:
        return None
    owners = [name for name, section in sections.items() if listed_name(model, section.prices)]
    if provider in owners:
        return None
    named = f"The agent type `{agent_type.name}` names the model `{model}`"
    if owners:
        message = f"{named}, which is a model of {owners[0]}; its sessions ask {provider}."
        line = f", line {agent_type.lines['model']}" if agent_type.lines.get("model") else ""
        remedy = f"Name one of {provider}'s in {agent_type.file}{line}, or choose the backend `{owners[0]}`."
        return _Wrong(Code.FOREIGN_MODEL, message, remedy)
    prices = sections[provider].prices
    message = f"{named}, which no price list has: {provider} may not know it."
    near = next(iter(get_close_matches(model, prices, n=1)), "")
    meant = f"Write `{near}` if that is meant; else add" if near else "Add"
    return _Wrong(Code.UNLISTED_MODEL, message, f"{meant} it to `{provider}.prices` of the settings.")
