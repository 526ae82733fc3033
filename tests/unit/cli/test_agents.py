"""The commands on agent types where nothing runs: they tell what the files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.program import run

POET = "---\nname: poet\ntools: Read\nlimits:\n  sessions: 2\n  cost: 1.50\n---\nYou write odes.\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "poet.md").write_text(POET, encoding="utf-8")
    return tmp_path


def data(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert run(["agents", *arguments, "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    return found.get("data", found.get("error"))


def test_the_list_names_those_of_the_package_and_of_the_home(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {view["pool"]: view for view in data(capsys, "list")}
    assert found["poet"]["file"] == str(home / "agents" / "poet.md")
    assert found["poet"]["live"] is None
    assert found["general-purpose"]["file"] == "package/general-purpose.md"


def test_each_field_is_shown_with_where_it_comes_from(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["agents", "show", "poet"]) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    file = home / "agents" / "poet.md"
    assert ["tools", "Read", f"{file}:3"] in told
    assert ["sessions", "2", f"{file}:4"] in told
    assert ["cost", "$1.50", f"{file}:4"] in told
    assert ["turns", "that", "of", "the", "settings", "settings"] in told
    assert ["You", "write", "odes."] in told
    assert data(capsys, "show", "nobody", code=4)["code"] == "NotFound"


def test_check_finds_what_is_wrong_and_says_so_by_its_exit_code(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data(capsys, "check")["findings"] == []
    bad = home / "agents" / "bad.md"
    bad.write_text("---\nname: bad\nlimits:\n  turns: many\n---\n", encoding="utf-8")
    (finding,) = data(capsys, "check", code=1)["findings"]
    assert (finding["source"], finding["line"], finding["severity"]) == (str(bad), 4, "error")
    assert run(["agents", "check", str(home / "agents" / "poet.md")]) == 0
    assert "1 agent type can be read" in capsys.readouterr().out
    assert run(["agents", "check", str(bad)]) == 1
    assert f"{bad}:4: error: `turns: many` is no number" in capsys.readouterr().out
    assert data(capsys, "check", "nowhere", code=4)["code"] == "NotFound"


def test_a_file_that_cannot_be_read_is_listed_and_shown_by_its_name_and_its_fault(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = home / "agents" / "bad.md"
    bad.write_text("---\nname: bad\ntools: []\nlimits: none\n---\n", encoding="utf-8")
    checked = data(capsys, "check", code=1)
    assert checked["unreadable"] == [str(bad)]
    assert "poet" in checked["agent_types"]
    assert "bad" not in checked["agent_types"]
    assert [finding["line"] for finding in checked["findings"]] == [3, 4]
    listed = {view["name"]: view["fault"] for view in data(capsys, "list")}
    assert listed["bad"].startswith(f"{bad}:3: `tools` is empty")
    assert data(capsys, "show", "bad", code=1)["fault"] == listed["bad"]
    assert run(["agents", "show", "bad"]) == 1
    assert f"The file cannot be read: {bad}:3:" in capsys.readouterr().out
