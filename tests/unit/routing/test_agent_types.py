"""The catalogue: its own files, files that users drop, names that no file has."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from orchestrator.errors import SettingsError
from orchestrator.plan.model import PlanTask
from orchestrator.ports import TOOLS
from orchestrator.routing import Routing
from orchestrator.settings import Settings


def drop(home: Path, name: str, text: str) -> None:
    folder = home / "agents"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")


def routing(home: Path) -> Routing:
    return Routing.from_settings(Settings(home=home))


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
    game_designer = found.agent_type("game-designer")
    assert "game-designer" in {agent_type.name for agent_type in found.agent_types()}
    assert game_designer.tools == ("Read", "Write")
    assert game_designer.model == "claude-opus-5-5"
    assert game_designer.domains == ("games",)
    assert game_designer.prompt == "You make games."
    title = PlanTask(key="1", has_own_key=True, title="Draw the boss fight")
    assert found.route_task(title).agent_type == "game-designer"


def test_a_file_that_lists_no_tools_has_all_and_an_empty_list_none(tmp_path: Path) -> None:
    drop(tmp_path, "silent", "---\nname: silent\n---\n")
    drop(tmp_path, "bare", "---\nname: bare\ntools: []\n---\n")
    found = routing(tmp_path)
    assert found.agent_type("silent").tools == found.agent_type("general-purpose").tools == TOOLS
    assert found.agent_type("bare").tools == ()


def test_dropped_file_replaces_one_of_ours(tmp_path: Path) -> None:
    drop(tmp_path, "mine", "---\nname: devops-engineer\nbackend: simulated\n---\nMine.")
    replaced = routing(tmp_path).agent_type("devops-engineer")
    assert (replaced.backend, replaced.prompt) == ("simulated", "Mine.")
    assert routing(tmp_path).backends() | {"devops-engineer": "auto"} == routing(tmp_path / "none").backends()


def test_unknown_name_works_like_general_purpose(tmp_path: Path) -> None:
    found = routing(tmp_path)
    unknown = found.agent_type("nobody-knows")
    assert unknown.name == "nobody-knows"
    assert unknown.prompt == found.agent_type("general-purpose").prompt


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no front matter", "does not start with front matter"),
        ("---\nname: Not Kebab\n---\n", "`name`: String should match pattern"),
        ("---\nname: a\nbackend: gpt\n---\n", "`backend`"),
        ("---\nname: a\nbackend: command\n---\n", "`backend`"),
        ("---\n: : :\n---\n", "malformed"),
        ("---\n- a list\n---\n", "malformed"),
        ("---\nname: gate\n---\n", "under which gates run"),
        ("---\nname: a\ntools: Read, Fly\n---\n", "no tool `Fly`; there are Bash, Edit, Glob, "),
    ],
)
def test_malformed_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    drop(tmp_path, "broken", text)
    with pytest.raises(SettingsError, match=re.escape(reason)) as caught:
        routing(tmp_path)
    assert "broken.md" in str(caught.value)
