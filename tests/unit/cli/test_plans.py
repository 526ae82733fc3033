"""What run, submit and import do with a plan before anything is started."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.output import Output
from orchestrator.cli.plan_files import Choices, read, request_for
from orchestrator.cli.plans import limits_of
from orchestrator.cli.program import run
from orchestrator.settings import load_settings

DIAMOND = """# Diamond

- [ ] **A.1** Lay out the package (1 h)
  - agent: backend-development
  - run: `true`
  - verify: `true`
- [ ] **A.2** Write the left half (2 h)
  - agent: backend-development
  - depends: A.1
  - run: `true`
- [ ] **A.3** Write the right half (3 h)
  - agent: testing-specialist
  - depends: A.1
- [ ] **A.4** Sign it off (30 min)
  - depends: A.2, A.3
  - manual: sign here
- [x] **A.0** Think first
"""

CYCLE = """# Cycle

- [ ] **A.1** One
  - depends: A.2
- [ ] **A.2** Two
  - depends: A.1
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an ORCHESTRATOR_HOME of its own, which nothing here may make, and a key for Claude."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-a-test")
    home = tmp_path / "home"
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(home))
    return home


@pytest.fixture
def diamond(tmp_path: Path) -> Path:
    path = tmp_path / "diamond.md"
    path.write_text(DIAMOND)
    return path


def _data(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)["data"]


def test_a_dry_run_tells_waves_routes_sessions_and_times(
    diamond: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", str(diamond), "--dry-run", "--json"]) == 0
    data = _data(capsys)
    assert data["waves"] == [["A.1"], ["A.2", "A.3"], ["A.4"]]
    assert data["sessions"] == {"backend-development": 2, "testing-specialist": 1, "gate": 1}
    assert data["sessions_total"] == 4
    assert data["estimate_ms"] == 6.5 * 3_600_000
    assert data["critical_path"] == ["A.1", "A.3", "A.4"]
    assert data["critical_path_ms"] == 4.5 * 3_600_000
    tasks = {task["key"]: task for task in data["tasks"]}
    assert (tasks["A.1"]["backend"], tasks["A.3"]["backend"]) == ("command", "anthropic")
    assert (tasks["A.1"]["rule"], tasks["A.1"]["has_gate"]) == ("override", True)
    assert tasks["A.4"]["held"] == "manual"
    assert not home.exists()


def test_a_dry_run_without_credentials_tells_what_would_be_held(
    diamond: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert run(["run", str(diamond), "--dry-run", "--json"]) == 0
    held = {task["key"]: task["held"] for task in _data(capsys)["tasks"]}
    assert held == {"A.1": "", "A.2": "", "A.3": "no credentials: anthropic", "A.4": "manual"}


def test_a_dry_run_takes_the_backend_that_the_plan_names(
    diamond: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diamond.write_text("---\nbackend: simulated\n---\n" + DIAMOND)
    assert run(["run", str(diamond), "--dry-run", "--json"]) == 0
    assert {task["backend"] for task in _data(capsys)["tasks"]} == {"simulated"}


def test_a_dry_run_takes_the_backend_of_the_agent_type_where_no_line_says_what_to_do(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "agents").mkdir(parents=True)
    (home / "agents" / "poet.md").write_text("---\nname: poet\nbackend: simulated\n---\n")
    path = tmp_path / "plan.md"
    path.write_text("# Verse\n\n- [ ] One\n  - agent: poet\n- [ ] Two\n  - agent: poet\n  - run: `true`\n")
    assert run(["run", str(path), "--dry-run", "--json"]) == 0
    assert [task["backend"] for task in _data(capsys)["tasks"]] == ["simulated", "command"]


def test_a_dry_run_until_a_task_tells_only_of_what_it_needs(
    diamond: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", str(diamond), "--dry-run", "--until", "A.2", "--json"]) == 0
    data = _data(capsys)
    assert data["waves"] == [["A.1"], ["A.2"]]
    assert (data["sessions_total"], data["critical_path"]) == (3, ["A.1", "A.2"])
    assert run(["run", str(diamond), "--dry-run", "--until", "Z.9"]) == 3
    assert "no task 'Z.9'" in capsys.readouterr().err


def test_a_dry_run_reads_well(diamond: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", str(diamond), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "4 tasks in 3 waves, 1 held" in out
    assert "Critical path: A.1 → A.3 → A.4" in out
    assert out.endswith("Nothing was started.\n")


def test_a_dry_run_tells_a_warning_of_the_plan_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.md"
    path.write_text("# Plan\n\n- [ ] One\n  - depends: the office key\n  - run: `true`\n")
    assert run(["run", str(path), "--dry-run"]) == 0
    told = capsys.readouterr()
    assert (told.out + told.err).count("[P502 outside-dependency]") == 1


def test_a_backend_that_cannot_run_a_task_is_told_before_the_start(
    diamond: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", str(diamond), "--dry-run", "--backend", "command"]) == 3
    assert "A.3" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["run"], ["run", "--dry-run"], ["submit"]])
def test_errors_of_a_plan_stop_it_before_anything_is_started(
    arguments: list[str], tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cycle.md"
    path.write_text(CYCLE)
    assert run([*arguments, str(path)]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{path}:" in told.err
    assert "[P504 cycle]" in told.err
    assert not home.exists()


def test_errors_of_a_plan_with_json_carry_the_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cycle.md"
    path.write_text(CYCLE)
    assert run(["run", str(path), "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["exit_code"]) == ("PlanError", 3)
    assert "cycle" in {finding["code"] for finding in error["findings"]}


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.write_text(""),
        lambda path: path.write_text("# Nothing to do\n"),
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
    ],
    ids=["missing", "empty", "no tasks", "no text"],
)
def test_what_is_no_plan_is_refused(make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.md"
    make(path)
    assert run(["run", str(path)]) == 3
    assert capsys.readouterr().err.count("error: ") >= 1


def test_import_reports_and_stores_nothing(
    diamond: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", str(diamond), "--dry-run", "--json"]) == 0
    data = _data(capsys)
    assert set(data) == {"format", "format_reason", "counts", "findings", "tasks"}
    assert data["counts"]["checkboxes"] == {"open": 4, "done": 1, "other": {}}
    assert data["counts"]["dependencies"] == {"explicit": 4, "inferred": 0}
    assert not home.exists()


def test_import_says_what_format_it_chose_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tasks.json"
    path.write_text('{"master": {"tasks": [{"id": 1, "title": "Build", "status": "pending"}]}}')
    assert run(["import", str(path), "--dry-run"]) == 0
    chosen = "format        taskmaster: JSON with the task lists of Task Master: master\n"
    assert chosen in capsys.readouterr().out
    assert run(["import", str(path), "--dry-run", "--format", "native"]) == 3
    assert "no `plan_version`" in capsys.readouterr().out
    assert run(["lint", str(path), "--format", "yaml"]) == 3
    assert "Use auto, backlog, beads," in capsys.readouterr().err


def test_import_without_a_stack_has_nothing_to_revise(
    diamond: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", str(diamond)]) == 6
    assert "orchestrator up" in capsys.readouterr().err


def test_import_of_a_plan_with_errors_reports_them_and_exits_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cycle.md"
    path.write_text(CYCLE)
    assert run(["import", str(path), "--dry-run", "--json"]) == 3
    assert "cycle" in {finding["code"] for finding in _data(capsys)["findings"]}


def test_import_reads_folders_and_stdin(
    diamond: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["import", str(diamond.parent), "--dry-run", "--json"]) == 0
    assert _data(capsys)["counts"]["tasks"] == 5
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(DIAMOND.encode())))
    assert run(["import", "-", "--dry-run", "--json"]) == 0
    assert _data(capsys)["counts"]["tasks"] == 5


def test_a_request_carries_absolute_folders_and_every_choice(
    diamond: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(diamond.parent)
    choices = Choices(
        name="n",
        workdir=Path("w"),
        backend="simulated",
        budget_usd=1.5,
        until_key="A.2",
        take=True,
        is_fresh=True,
    )
    request = request_for(read("diamond.md", choices, output=Output()), "diamond.md", choices)
    assert request.text == DIAMOND
    assert (request.source, request.base_dir) == ("diamond.md", str(diamond.parent))
    assert (request.name, request.workdir) == ("n", str(diamond.parent / "w"))
    assert (request.backend, request.budget_micros, request.until_key) == ("simulated", 1_500_000, "A.2")
    assert request.take
    assert request.is_fresh


def test_a_plan_without_name_and_title_is_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "weekly.md"
    path.write_text("- [ ] Sweep the floor\n")
    assert request_for(read(str(path), Choices(), output=Output()), str(path), Choices()).name == "weekly"
    path.write_text("# Cleaning\n\n- [ ] Sweep the floor\n")
    assert request_for(read(str(path), Choices(), output=Output()), str(path), Choices()).name == ""


def test_workers_are_shared_by_the_agent_types_unless_the_settings_limit_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert limits_of(load_settings(), workers=0) == {}
    both = {"ORCHESTRATOR_LIMITS__SESSIONS_MAX": "40", "ORCHESTRATOR_LIMITS__AGENT_DEFAULT_MAX": "40"}
    assert limits_of(load_settings(), workers=40) == both
    monkeypatch.setenv("ORCHESTRATOR_LIMITS__AGENT_DEFAULT_MAX", "4")
    assert limits_of(load_settings(), workers=40) == {"ORCHESTRATOR_LIMITS__SESSIONS_MAX": "40"}


def test_a_dry_run_sees_that_a_review_needs_a_model_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.md"
    path.write_text("# Plan\n\n- [ ] A.1 One\n  - run: `true`\n  - review: code-reviewer\n")
    assert run(["run", str(path), "--dry-run", "--json"]) == 0
    data = _data(capsys)
    assert (data["tasks"][0]["review"], data["tasks"][0]["held"]) == ("code-reviewer", "")
    assert data["sessions"]["code-reviewer"] == 1
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert run(["run", str(path), "--dry-run", "--json"]) == 0
    data = _data(capsys)
    assert (data["tasks"][0]["held"], data["sessions"]) == ("no credentials: anthropic", {})
    assert run(["run", str(path), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "Held, no credentials: anthropic: A.1\n  set ANTHROPIC_API_KEY" in out
    assert "no `review:`" in out
    assert run(["run", str(path), "--dry-run", "--backend", "command"]) == 3
    assert "P604 command-review" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["run", "--dry-run"], ["import", "--dry-run"], ["lint"]])
def test_an_unknown_agent_type_is_told_with_the_name_near_it_and_what_happens(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.md"
    path.write_text("# Plan\n\n- [ ] A.1 One\n  - run: `true`\n  - agent: test-specialist\n")
    run([arguments[0], str(path), *arguments[1:]])
    told = capsys.readouterr()
    (line,) = [line for line in (told.out + told.err).splitlines() if "P601" in line]
    assert line.startswith(f"{path}:3: warning: No file defines the agent type `test-specialist` of A.1: ")
    assert "it works with the instructions and tools of `general-purpose`" in line
    assert "Write `testing-specialist` if that is meant; else describe it in agents" in line


def test_lint_tells_findings_and_how_many(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clean.md"
    path.write_text("# Clean\n\n- [ ] Sweep the floor\n")
    assert run(["lint", str(path)]) == 0
    assert capsys.readouterr().out == "no errors, no warnings\n"
    path = tmp_path / "cycle.md"
    path.write_text(CYCLE + "  - priority: soon\n")
    assert run(["lint", str(path)]) == 1
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{path}:3: error: These tasks wait for each other: A.1 (line 3) → ")
    assert first.endswith(" [P504 cycle]")
    assert others == [
        f"{path}:7: warning: The value 'soon' of `priority` cannot be read. "
        "Write P0 to P4, or critical, high, medium or low. [P401 unknown-value]",
        "1 error, 1 warning",
    ]
    assert run(["lint", str(path), "--json"]) == 1
    data = _data(capsys)
    assert (data["errors"], data["warnings"]) == (1, 1)
    assert data["findings"][1] == {
        "line": 7,
        "number": "P401",
        "code": "unknown-value",
        "message": "The value 'soon' of `priority` cannot be read.",
        "remedy": "Write P0 to P4, or critical, high, medium or low.",
        "severity": "warning",
        "source": str(path),
    }
    assert run(["lint", str(tmp_path / "absent.md")]) == 3
    assert not home.exists()
