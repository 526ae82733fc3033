"""Routing: the order of the rules, what makes each apply, and the reason it gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.agent_types import AgentType
from orchestrator.core.words import TaskKind
from orchestrator.errors import Finding
from orchestrator.plan.model import Checkboxes, Plan, PlanTask
from orchestrator.routing import Route, Routing, Rule, checked_plan
from orchestrator.routing.agent_catalogue import Catalogue
from orchestrator.routing.rules import agent_name
from orchestrator.routing.tables import load_tables
from orchestrator.settings import RoutingTables, Settings


@pytest.fixture
def routing(tmp_path: Path) -> Routing:
    return Routing.from_settings(Settings(home=tmp_path))


def task(
    title: str = "Do it", *, key: str = "1", agent: str = "", line: int = 0, **values: object
) -> PlanTask:
    return PlanTask(key=key, has_own_key=True, title=title, agent=agent, line=line, **values)


def plan(*tasks: PlanTask) -> Plan:
    return Plan(
        format="checklist", format_reason="", title="", name="", tasks=tasks, dependencies=(), findings=(),
        checkboxes=Checkboxes(), with_id=0, source="",
    )  # fmt: skip


def _findings(given: Plan, routing: Routing) -> tuple[Finding, ...]:
    return checked_plan(given, routing=routing, settings=Settings()).findings


def test_rules_apply_in_their_order(routing: Routing) -> None:
    everything = task("Test the parser", key="C.1.1", agent="database-architect")
    assert routing.route_task(everything).rule is Rule.OVERRIDE
    assert routing.route_task(task("Test the parser", key="C.1.1")).rule is Rule.KEYWORD
    assert routing.route_task(task("Do it", key="C.1.1")).rule is Rule.TRACK
    by_domain = routing.route_task(task("Do it", key="1", domain="devops"))
    assert (by_domain.rule, by_domain.agent_type) == (Rule.DOMAIN, "devops-engineer")
    assert by_domain.evidence == "its domain is devops"
    assert routing.route_task(task("Do it", key="1", domain="other")) == Route(
        agent_type="general-purpose",
        rule=Rule.GENERAL,
        evidence="no agent, keyword, track or domain says more",
    )


@pytest.mark.parametrize(
    ("title", "agent_type", "word"),
    [
        ("Test the API endpoint", "testing-specialist", "test"),
        ("Deploy the frontend", "devops-engineer", "deploy"),
        ("Add JWT authentication to the API", "security-specialist", "jwt"),
        ("Write unit tests for the parser", "testing-specialist", "unit test"),
        ("Refactoring of the queue", "code-reviewer", "refactor"),
        ("Docker-compose file", "devops-engineer", "docker"),
    ],
)
def test_first_word_of_the_title_decides(routing: Routing, title: str, agent_type: str, word: str) -> None:
    route = routing.route_task(task(title))
    assert (route.agent_type, route.rule) == (agent_type, Rule.KEYWORD)
    assert f"`{word}`" in route.evidence


def test_where_no_file_has_keywords_no_title_says_anything() -> None:
    only = Catalogue([AgentType(name="general-purpose")])
    bare = Routing(catalogue=only, tables=load_tables(RoutingTables()))
    assert bare.route_task(task("Do it!")).rule is Rule.GENERAL


@pytest.mark.parametrize(
    "title",
    ["Build the latest rapid thing", "Squid the fruits", "Attest to it", "Delete `src/server.ts`, `api/v1`"],
)
def test_words_inside_of_words_and_paths_do_not_count(routing: Routing, title: str) -> None:
    assert routing.route_task(task(title)).rule is Rule.GENERAL


@pytest.mark.parametrize(
    ("annotation", "agent_type"),
    [
        ("`qa-specialist` (Python)", "testing-specialist"),
        ("QA Specialist", "testing-specialist"),
        ("rust_expert_developer", "rust-expert-developer"),
        ("**devops-engineer**, security-specialist", "devops-engineer"),
    ],
)
def test_override_is_read_as_the_author_writes_it(routing: Routing, annotation: str, agent_type: str) -> None:
    route = routing.route_task(task(agent=annotation))
    assert (route.agent_type, route.rule) == (agent_type, Rule.OVERRIDE)


def test_annotation_without_a_name_is_none() -> None:
    assert agent_name(" ** (anybody)") == ""
    assert len(agent_name("x" * 300)) == 64


def test_only_leaves_are_routed(routing: Routing) -> None:
    tasks = plan(task(key="1", kind=TaskKind.CONTAINER), task(key="1.1"))
    assert set(routing.route(tasks)) == {"1.1"}


def test_unknown_agent_is_accepted_and_warned_about_once(routing: Routing) -> None:
    tasks = plan(
        task(key="1", agent="rust-expert-developer", line=3),
        task(key="2", agent="Rust Expert Developer", line=9),
        task(key="3", agent="devops-engineer", line=12),
    )
    (finding,) = _findings(tasks, routing)
    assert (finding.line, finding.code, finding.severity) == (3, "unknown-agent", "warning")
    assert "of 1 and 1 more: it works with" in finding.message
    assert routing.route(tasks)["2"].agent_type == "rust-expert-developer"


def test_derived_keys_have_no_track(routing: Routing) -> None:
    derived = PlanTask(key="C.1.1", has_own_key=False, title="Do it")
    assert routing.route_task(derived).rule is Rule.GENERAL


def test_settings_add_tracks_and_aliases(tmp_path: Path) -> None:
    tables = {"tracks": {"E001": "backend-development"}, "aliases": {"ann": "code-reviewer"}}
    routing = Routing.from_settings(Settings(home=tmp_path, routing=tables))
    assert routing.route_task(task(key="E001-T004")).agent_type == "backend-development"
    assert routing.route_task(task(agent="Ann")).agent_type == "code-reviewer"
    assert routing.route_task(task(key="C.1.1")).agent_type == "devops-engineer"


def test_a_file_claims_a_track_and_the_settings_have_the_last_word(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "poet.md").write_text("---\nname: poet\ntracks: C, D\n---\n", encoding="utf-8")
    tables = RoutingTables(tracks={"D": "code-reviewer"})
    routing = Routing.from_settings(Settings(home=tmp_path, routing=tables))
    chosen = [routing.route_task(task(key=f"{track}.1")).agent_type for track in "CDE"]
    assert chosen == ["poet", "code-reviewer", "testing-specialist"]


def test_a_domain_goes_to_whoever_has_no_other(routing: Routing) -> None:
    chosen = {routing.route_task(task(domain=domain)).agent_type for domain in ("backend", "data")}
    assert chosen == {"backend-development", "database-architect"}


def test_a_plan_that_names_a_type_with_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "poet.md").write_text("---\nname: poet\nbackend: gpt\n---\n", encoding="utf-8")
    routing = Routing.from_settings(Settings(home=tmp_path))
    (found,) = _findings(plan(task(agent="poet", line=7)), routing)
    assert (found.severity, found.line) == ("error", 7)
    assert f"{tmp_path}/agents/poet.md:3: `backend: gpt`" in found.remedy
    assert not _findings(plan(task(agent="devops-engineer")), routing)


def test_a_reviewer_is_meant_like_an_agent_and_one_without_a_file_is_a_warning(routing: Routing) -> None:
    alias, meant = next(iter(load_tables(RoutingTables()).aliases.items()))
    given = plan(
        task(key="1", options={"review": alias, "attempts": "2"}),
        task(key="2", options={"review": "`Stern Poet` (Python)"}, line=7),
        task(key="3", options={"attempts": "2"}),
    )
    options = [found.options for found in routing.with_reviewers(given).tasks]
    assert options == [{"review": meant, "attempts": "2"}, {"review": "stern-poet"}, {"attempts": "2"}]
    (finding,) = _findings(given, routing)
    assert (finding.line, finding.code, finding.severity) == (7, "unknown-agent", "warning")
    assert "`stern-poet`" in finding.message


@pytest.mark.parametrize(
    ("written", "near"),
    [
        ("test-specialist", "Write `testing-specialist` if that is meant; else"),
        ("backend development", ""),
        ("Backend Developments", "Write `backend-development` if that is meant; else"),
        ("stern-poet", "Describe it in agents/stern-poet.md"),
    ],
)
def test_an_agent_type_that_no_file_defines_is_told_the_names_near_it(
    routing: Routing, written: str, near: str
) -> None:
    remedies = [finding.remedy for finding in _findings(plan(task(agent=written)), routing)]
    assert len(remedies) == bool(near)
    assert all(remedy.startswith(near) for remedy in remedies)
