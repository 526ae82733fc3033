"""Which agent type a task goes to: the rules in their order, each with the words that made it apply.

override (the author names one) → keyword (of the title) → track (of the key) → domain → general. Pure
look-ups: no clock, no database; what is learned from outcomes comes on top, and never against an override.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum
from typing import Self

from orchestrator.agent_types import GENERAL, AgentType
from orchestrator.core.words import TaskKind
from orchestrator.errors import Finding, PlanError
from orchestrator.plan.model import Plan, PlanTask
from orchestrator.routing.agent_catalogue import Catalogue, load_catalogue, read_texts
from orchestrator.routing.agent_fields import meant_name
from orchestrator.routing.tables import Tables, load_tables
from orchestrator.settings import Settings

_NEAR_CUTOFF = 0.7

#: Agent types that a plan may bring along: the scheduler keeps those of every unfinished plan in mind.
_OWN_MAX = 200

#: What a task is of whose words belong to no domain; see plan/classify.py.
_NO_DOMAIN = "other"


class Rule(StrEnum):
    """What decided; the values stand in `routing_decisions.rule`."""

    OVERRIDE = "override"
    KEYWORD = "keyword"
    TRACK = "track"
    DOMAIN = "domain"
    GENERAL = "general"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a task goes, by which rule, and the words that say so."""

    agent_type: str
    rule: Rule
    evidence: str


class Routing:
    """The rules over one catalogue and one set of tables.

    Attributes:
        own: the agent types that a plan brings along, by name; none unless `with_own` made this.
        own_findings: what is wrong with their files.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        tables: Tables,
        own: Iterable[AgentType] = (),
        own_findings: Iterable[Finding] = (),
    ) -> None:
        self.own: Mapping[str, AgentType] = {agent_type.name: agent_type for agent_type in own}
        self.own_findings = tuple(own_findings)
        self._catalogue = catalogue
        self._tables = tables
        self._agent_type_by_keyword = _keywords(catalogue)
        self._keyword_pattern = _any_word(self._agent_type_by_keyword)
        self._agent_type_by_track = {**tables.package_tracks, **_tracks(catalogue), **tables.tracks}
        self._agent_type_by_domain = _domains(catalogue)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read catalogue and tables."""
        return cls(catalogue=load_catalogue(settings), tables=load_tables(settings.routing))

    def with_stored(self, agent_types: Iterable[AgentType]) -> Routing:
        """Return these rules over the agent types that are stored for everybody, if any are."""
        stored = Catalogue(agent_types)
        return Routing(catalogue=stored, tables=self._tables) if GENERAL in stored else self

    def with_own(self, texts: Mapping[str, str]) -> Routing:
        """Return these rules for a plan that brings agent type files along, given by their paths.

        Raises:
            PlanError: they are too many.
        """
        if len(texts) > _OWN_MAX:
            raise PlanError(
                f"The plan brings {len(texts)} agent type files along, more than {_OWN_MAX}.",
                remedy="Leave those out that it does not need.",
            )
        files = read_texts(texts, models=self._tables.models)
        return Routing(
            catalogue=self._catalogue.extended(files),
            tables=self._tables,
            own=(file.agent_type for file in files),
            own_findings=(finding for file in files for finding in file.findings),
        )

    def with_own_types(self, own: Iterable[AgentType]) -> Routing:
        """Return these rules for a plan whose agent types were read before."""
        own = tuple(own)
        if not own:
            return self
        return Routing(catalogue=Catalogue((*self._catalogue.all, *own)), tables=self._tables, own=own)

    def agent_types(self) -> tuple[AgentType, ...]:
        """Return every agent type that a file defines."""
        return tuple(self._catalogue)

    def broken(self) -> dict[str, AgentType]:
        """Return the agent types whose files have a fault, by name."""
        return {agent_type.name: agent_type for agent_type in self._catalogue.all if agent_type.fault}

    def backends(self) -> dict[str, str]:
        """Return the backend that each file names, `auto` included, by agent type."""
        return {agent_type.name: agent_type.backend for agent_type in self._catalogue}

    def route(self, plan: Plan) -> dict[str, Route]:
        """Return where each leaf of `plan` goes, by key."""
        return {task.key: self.route_task(task) for task in _leaves(plan)}

    def route_task(self, task: PlanTask) -> Route:
        """Return where one task goes: the first rule that applies."""
        by_plan = self._by_override(task) or self._by_keyword(task) or self._by_track(task)
        return by_plan or self._by_domain(task) or _TO_GENERAL

    def unknown_agents(self, plan: Plan) -> Mapping[str, Sequence[PlanTask]]:
        """Return each agent type or reviewer that the plan names and no file defines, with its tasks."""
        found: dict[str, list[PlanTask]] = {}
        for task in _leaves(plan):
            for annotation in (task.agent, task.options.get("review", "")):
                name = self._meant(agent_name(annotation))
                if name and name not in self._catalogue:
                    found.setdefault(name, []).append(task)
        return found

    def is_known(self, name: str) -> bool:
        """Tell whether a file defines the agent type."""
        return name in self._catalogue

    def near(self, name: str) -> str:
        """Return the agent type whose name looks most like this one; empty if none does."""
        known = [agent_type.name for agent_type in self._catalogue]
        return next(iter(get_close_matches(name, known, n=1, cutoff=_NEAR_CUTOFF)), "")

    def with_reviewers(self, plan: Plan) -> Plan:
        """Return the plan with the reviewers that its authors mean, in place of what they call them."""
        return replace(plan, tasks=tuple(self._with_reviewer(task) for task in plan.tasks))

    def _with_reviewer(self, task: PlanTask) -> PlanTask:
        if "review" not in task.options:
            return task
        meant = self._meant(agent_name(task.options["review"]))
        return replace(task, options={**task.options, "review": meant})

    def _meant(self, name: str) -> str:
        """Return the agent type that a name means, which may be an alias of it."""
        return name if name in self._catalogue else self._tables.aliases.get(name, name)

    def _by_override(self, task: PlanTask) -> Route | None:
        name = agent_name(task.agent)
        if not name:
            return None
        meant = self._meant(name)
        alias = f", an alias of `{meant}`" if meant != name else ""
        evidence = f"the plan names `{name}`{alias}"
        return Route(agent_type=meant, rule=Rule.OVERRIDE, evidence=evidence)

    def _by_keyword(self, task: PlanTask) -> Route | None:
        match = self._keyword_pattern.search(task.title.lower())
        if match is None:
            return None
        keyword = match["keyword"]
        agent_type = self._agent_type_by_keyword[keyword]
        return Route(agent_type=agent_type, rule=Rule.KEYWORD, evidence=f"the title says `{keyword}` first")

    def _by_track(self, task: PlanTask) -> Route | None:
        track = re.split(r"[.-]", task.key, maxsplit=1)[0]
        agent_type = self._agent_type_by_track.get(track) if task.has_own_key else None
        if agent_type is None:
            return None
        return Route(agent_type=agent_type, rule=Rule.TRACK, evidence=f"`{task.key}` is of track {track}")

    def _by_domain(self, task: PlanTask) -> Route | None:
        agent_type = self._agent_type_by_domain.get(task.domain)
        if agent_type is None:
            return None
        return Route(agent_type=agent_type, rule=Rule.DOMAIN, evidence=f"its domain is {task.domain}")


_TO_GENERAL = Route(
    agent_type=GENERAL, rule=Rule.GENERAL, evidence="no agent, keyword, track or domain says more"
)


def agent_name(annotation: str) -> str:
    """Return the name in an author's annotation as kebab-case; empty if there is none.

    Marks, a bracketed remark and every name but the first are left out: `` `QA Specialist` (Python) `` is
    `qa-specialist`.
    """
    first = re.split(r"[,;+&/(\[]|\b(?:and|or)\b", annotation.lower(), maxsplit=1)[0]
    return meant_name(first)


def _leaves(plan: Plan) -> Iterable[PlanTask]:
    return (task for task in plan.tasks if task.kind is TaskKind.LEAF)


def _keywords(catalogue: Catalogue) -> Mapping[str, str]:
    """Return the agent type of each keyword; where two claim one, the later file has it."""
    return {keyword: agent_type.name for agent_type in catalogue for keyword in agent_type.keywords}


def _tracks(catalogue: Catalogue) -> dict[str, str]:
    """Return the agent type of each track that a file claims; where two claim one, the later file has it."""
    return {track: agent_type.name for agent_type in catalogue for track in agent_type.tracks}


def _domains(catalogue: Catalogue) -> dict[str, str]:
    """Return the agent type of each domain: whoever has no other, then the later file.

    A task without a domain is nobody's.
    """
    widest_first = sorted(catalogue, key=lambda agent_type: -len(agent_type.domains))
    found = {domain: agent_type.name for agent_type in widest_first for domain in agent_type.domains}
    found.pop(_NO_DOMAIN, None)
    return found


def _any_word(words: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds the first of `words`, the longest one where several start there.

    The first word decides because titles are imperatives: "Test the API" is about testing. A word in a path
    or a file name (`src/server.ts`) says nothing about the work.
    """
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    alternatives = "|".join(re.escape(word) for word in longest_first) or "(?!)"  # no words: nothing is found
    return re.compile(rf"(?<![\w/.@-])(?P<keyword>{alternatives})(?:s|es|ed|ing)?(?![\w/]|\.\w)")
