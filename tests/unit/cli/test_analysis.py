"""graph, forecast and export of a plan file: no stack, no database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.program import run

PLAN = """# Release

- [x] **A.1** Lay out the package (1 h)
- [ ] **A.2** Write the left half (2 h)
  - agent: backend-development
  - depends: A.1
- [ ] **A.3** Write the right half (3 h)
  - depends: A.1
- [!] **A.4** Get the certificate (1 h)
- [ ] **A.5** Sign it (1 h)
  - depends: A.3, A.4
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    path = tmp_path / "release.md"
    path.write_text(PLAN)
    return str(path)


def _data(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)["data"]


def test_the_graph_of_a_file(plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph", plan, "--json"]) == 0
    data = _data(capsys)
    assert data["ready"] == ["A.2", "A.3"]
    assert data["held"] == [{"key": "A.4", "reason": "blocked in the plan"}]
    assert data["blocked"] == [{"key": "A.5", "waits_for": ["A.3", "A.4"], "behind": "A.4"}]
    assert data["waves"] == [["A.2", "A.3", "A.4"], ["A.5"]]
    assert data["critical_path"] == ["A.3", "A.5"]
    tasks = {task["key"]: task for task in data["tasks"]}
    assert (tasks["A.2"]["slack_ms"], tasks["A.2"]["agent_type"]) == (2 * 3_600_000, "backend-development")
    assert data["bottlenecks"][0]["key"] == "A.3"


def test_the_graph_reads_well(plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph", plan]) == 0
    out = capsys.readouterr().out
    assert "4 open tasks in 2 waves: 2 ready, 1 held, 1 blocked" in out
    assert "Work 7 h 00 min, critical path 4 h 00 min: A.3 → A.5" in out


def test_a_finished_plan_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "done.md"
    path.write_text("# P\n- [x] **A.1** One\n- [x] **A.2** Two\n- [-] **A.3** Three\n")
    assert run(["graph", str(path)]) == 0
    assert capsys.readouterr().out == "Nothing is left to do: 1 cancelled, 2 done.\n"
    assert run(["forecast", str(path)]) == 0
    assert capsys.readouterr().out == "Nothing is left to do.\n"


def test_the_forecast_of_a_file(plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["forecast", plan, "--width", "2", "--seed", "3", "--json"]) == 0
    data = _data(capsys)
    assert (data["width"], data["seed"], data["tasks"]) == (2, 3, 4)
    assert 4 * 3600 < data["finish_s"]["p50"] < data["finish_s"]["p90"]
    assert (data["cost_micros"], data["unpriced"], data["attempts_known"]) == (None, 4, 0)
    assert run(["forecast", plan, "--width", "auto"]) == 0
    assert "times as fast as one" in capsys.readouterr().out


@pytest.mark.parametrize("width", ["many", "0", "-3"])
def test_a_width_is_a_number_or_auto(plan: str, width: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["forecast", plan, "--width", width]) == 2
    assert f"'{width}' is no number of sessions" in capsys.readouterr().err


def test_the_export_of_a_file(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", plan, "--to", "mermaid"]) == 0
    assert capsys.readouterr().out.startswith("flowchart TD\n")
    out = tmp_path / "release.csv"
    assert run(["export", plan, "--to", "csv", "-o", str(out)]) == 0
    assert out.read_bytes().startswith(b"key,title,")
    assert out.read_bytes().count(b"\r\n") == 6
    assert run(["export", plan, "--to", "docx"]) == 3
    assert run(["export", plan, "--to", "csv", "-o", str(tmp_path / "no" / "folder.csv")]) == 6
    assert "folder.csv" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["graph"], ["forecast"], ["export", "--to", "json"]])
def test_without_a_file_a_stack_is_asked(
    command: list[str], plan: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "no-such-plan"]) == 6
    assert "no-such-plan" in capsys.readouterr().err
