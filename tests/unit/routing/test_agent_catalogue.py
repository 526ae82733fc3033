"""The catalogue: its own files, files that users drop, names that no file has."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

from orchestrator.agent_types import TOOLS, AgentType
from orchestrator.plan.files import agents_beside
from orchestrator.plan.model import PlanTask
from orchestrator.routing import Routing, Rule
from orchestrator.routing.agent_catalogue import Catalogue, load_catalogue
from orchestrator.routing.agent_files import read_agent_type
from orchestrator.settings import RoutingTables, Settings


def drop(home: Path, name: str, text: str) -> None:
    folder = home / "agents"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")


def routing(home: Path) -> Routing:
    return Routing.from_settings(Settings(home=home))


def catalogue(home: Path) -> Catalogue:
    return load_catalogue(Settings(home=home))


def kind(of: Routing, name: str) -> AgentType:
    return {agent_type.name: agent_type for agent_type in of.agent_types()}[name]


def test_every_agent_type_of_the_package_is_complete(tmp_path: Path) -> None:
    found = routing(tmp_path).agent_types()
    assert len(found) == 12
    for agent_type in found:
        assert agent_type.description, agent_type.name
        assert agent_type.prompt, agent_type.name
        assert agent_type.domains, agent_type.name


def test_no_keyword_belongs_to_two(tmp_path: Path) -> None:
    keywords = [keyword for agent_type in routing(tmp_path).agent_types() for keyword in agent_type.keywords]
    assert len(keywords) == len(set(keywords))


def test_aliases_lead_to_agent_types_of_the_package(tmp_path: Path) -> None:
    names = {agent_type.name for agent_type in routing(tmp_path).agent_types()}
    text = resources.files("orchestrator.routing").joinpath("tables.toml").read_text(encoding="utf-8")
    aliases = tomllib.loads(text)["aliases"]
    assert set(aliases.values()) <= names
    assert not set(aliases) & names


def test_dropped_file_adds_a_type_in_the_shape_found_in_the_wild(tmp_path: Path) -> None:
    drop(
        tmp_path,
        "game-designer",
        "---\nname: game-designer\ndescription: Makes games.\ntools: Read, Write\nmodel: opus\n"
        "domain: [games]\nkeywords: [Level, boss fight]\nmoe_role: expert\n---\nYou make games.\n",
    )
    found = routing(tmp_path)
    game_designer = kind(found, "game-designer")
    assert "game-designer" in {agent_type.name for agent_type in found.agent_types()}
    assert game_designer.tools == ("Read", "Write")
    assert game_designer.model == "claude-opus-5-5"
    assert game_designer.domains == ("games",)
    assert game_designer.prompt == "You make games."
    title = PlanTask(key="1", has_own_key=True, title="Draw the boss fight")
    assert found.route_task(title).agent_type == "game-designer"


def test_a_file_that_lists_no_tools_has_all(tmp_path: Path) -> None:
    drop(tmp_path, "silent", "---\nname: silent\n---\n")
    found = routing(tmp_path)
    assert kind(found, "silent").tools == kind(found, "general-purpose").tools == TOOLS


def test_of_two_files_of_one_name_the_earlier_one_is_told_to_have_no_effect(tmp_path: Path) -> None:
    drop(tmp_path, "a", "---\nmodel: x\nname: poet\n---\n")
    drop(tmp_path, "b", "---\nname: poet\nmodel: y\n---\n")
    drop(tmp_path, "devops", "---\nname: devops-engineer\n---\n")  # replaces one of another folder
    (found,) = catalogue(tmp_path).findings
    assert (found.source, found.line, found.severity) == (f"{tmp_path}/agents/a.md", 3, "warning")
    assert f"{tmp_path}/agents/b.md defines `poet` too" in found.message
    assert kind(routing(tmp_path), "poet").model == "y"


def test_dropped_file_replaces_one_of_ours(tmp_path: Path) -> None:
    drop(tmp_path, "mine", "---\nname: devops-engineer\nbackend: simulated\n---\nMine.")
    replaced = kind(routing(tmp_path), "devops-engineer")
    assert (replaced.backend, replaced.prompt) == ("simulated", "Mine.")
    assert routing(tmp_path).backends() | {"devops-engineer": "auto"} == routing(tmp_path / "none").backends()


def test_a_broken_file_takes_no_other_down_and_nothing_stands_in_for_it(tmp_path: Path) -> None:
    drop(tmp_path, "broken", "---\nname: devops-engineer\nbackend: gpt\n---\n")
    drop(tmp_path, "mine", "---\nname: mine\n---\n")
    found = routing(tmp_path)
    names = {agent_type.name for agent_type in found.agent_types()}
    assert "mine" in names
    assert "devops-engineer" not in names, (
        "the one of the package has tools that the broken file may not have"
    )
    assert "agents/broken.md:3: `backend: gpt`" in found.broken()["devops-engineer"].fault
    ((place, line, severity),) = {(f.source, f.line, f.severity) for f in catalogue(tmp_path).findings}
    assert (place, line, severity) == (f"{tmp_path}/agents/broken.md", 3, "error")


def test_a_later_file_mends_a_broken_one(tmp_path: Path) -> None:
    broken = read_agent_type("---\nname: poet\nbackend: gpt\n---\n", file="a.md", models={})
    whole = read_agent_type("---\nname: poet\n---\n", file="b.md", models={})
    assert "poet" in Catalogue([]).extended([broken, whole])
    assert "poet" not in Catalogue([]).extended([whole, broken])


def test_a_readme_and_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    drop(tmp_path, "README", "What the files here are for.")
    drop(tmp_path, "bad", "")
    (tmp_path / "agents" / "bad.md").write_bytes(b"---\nname: caf\xe9\n---\n")
    (tmp_path / "agents" / "folder.md").mkdir()
    (finding,) = catalogue(tmp_path).findings
    assert (finding.line, finding.message) == (2, "The file is not UTF-8 text.")


def test_settings_define_agent_types_too(tmp_path: Path) -> None:
    drop(tmp_path, "poet", "---\nname: poet\n---\nOf the home.")
    fields = {"prompt": "Of the settings.", "tools": ["Read"], "limits": {"sessions": 2}}
    tables = RoutingTables(agent_types={"poet": fields, "bad": {"backend": "gpt"}})
    settings = Settings(home=tmp_path, routing=tables)
    found = Routing.from_settings(settings)
    poet = kind(found, "poet")
    assert (poet.prompt, poet.tools, poet.limits.sessions) == ("Of the settings.", ("Read",), 2)
    assert (poet.file, poet.lines["tools"]) == ("settings, routing.agent_types.poet", 0)
    ((source, line),) = [(finding.source, finding.line) for finding in load_catalogue(settings).findings]
    assert (source, line) == ("settings, routing.agent_types.bad", 0)
    assert found.broken()["bad"].fault.startswith("settings, routing.agent_types.bad: `backend: gpt`")


def test_a_plan_brings_its_own_along(tmp_path: Path) -> None:
    drop(tmp_path, "poet", "---\nname: poet\nkeywords: [ode]\n---\nOf the home.")
    text = "---\nname: poet\nkeywords: [sonnet]\ntracks: [Z]\n---\nOf the plan."
    found = routing(tmp_path).with_own({"agents/poet.md": text})
    assert set(found.own) == {"poet"}
    assert kind(found, "poet").prompt == "Of the plan."
    assert kind(routing(tmp_path), "poet").prompt == "Of the home."
    assert found.route_task(PlanTask(key="1", has_own_key=True, title="Write a sonnet")).agent_type == "poet"
    assert found.route_task(PlanTask(key="Z.1", has_own_key=True, title="Do")).rule is Rule.TRACK
    assert found.route_task(PlanTask(key="1", has_own_key=True, title="Write an ode")).agent_type != "poet"


def test_the_stored_agent_types_are_those_of_everybody(tmp_path: Path) -> None:
    drop(tmp_path, "poet", "---\nname: poet\n---\nAs it was.")
    here = routing(tmp_path)
    stored = [kind.model_copy(update={"prompt": "Stored."}) for kind in here.agent_types()]
    assert kind(here.with_stored(stored), "poet").prompt == "Stored."
    assert kind(here.with_stored([]), "poet").prompt == "As it was."


def test_beside_a_plan_may_lie_what_is_no_agent_type(tmp_path: Path) -> None:
    drop(tmp_path, "poet", "\ufeff---\nname: poet\n---\n")
    drop(tmp_path, "notes", "# Notes on our agents\n")
    assert list(agents_beside(tmp_path)) == [str(tmp_path / "agents" / "poet.md")]
    assert list(agents_beside(tmp_path / "plan.md")) == [str(tmp_path / "agents" / "poet.md")]
