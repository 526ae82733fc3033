"""The program as a whole: help, usage, errors, envelopes, exit codes."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import __version__, errors
from orchestrator.cli.exit_codes import EXIT_CODES
from orchestrator.cli.program import run
from orchestrator.errors import OrchestratorError

#: The bar is 0.3 s of the clock on an idle machine; CPU time is what a busy one can measure.
HELP_CPU_MAX_S = 0.6

COMMANDS = (
    *("run", "submit", "watch", "import"),
    *("tasks", "show", "logs", "cancel", "retry", "release"),
    *("init", "up", "down", "status", "doctor"),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an ORCHESTRATOR_HOME of its own, in which nothing runs."""
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _envelope(text: str) -> dict[str, object]:
    found = json.loads(text)
    assert found.pop("schema_version") == 1
    return found


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert [name for name in COMMANDS if not re.search(rf"^  {name} ", out, re.MULTILINE)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_and_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Example: orchestrator {command}" in out
    assert "--json" in out


def test_help_is_instant_and_loads_nothing_heavy() -> None:
    heavy = {"ray", "sqlalchemy", "pydantic", "rich", "httpx2", "networkx", "psycopg", "cluster"}
    program = (
        "import sys; from orchestrator.cli.program import run; run(['--help']); "
        f"sys.stderr.write(','.join(sorted({heavy!r} & set(sys.modules))))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.stderr == ""
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < HELP_CPU_MAX_S


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"orchestrator {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["run", "p.md", "--nope"], ["frobnicate"], ["run", "p.md", "--backend", "x"], ["cancel"]],
)
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")


def test_a_wrong_choice_names_the_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tasks", "p", "--state", "reddy"]) == 2
    assert "Invalid value for '--state': 'reddy' is not one of 'waiting', 'ready'" in capsys.readouterr().err


def test_wrong_usage_with_json_is_an_envelope(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "p.md", "--nope", "--json"]) == 2
    told = capsys.readouterr()
    error = _envelope(told.out)["error"]
    assert error == {
        "code": "SettingsError",
        "message": "No such option: --nope (Possible options: --name)",
        "remedy": "See `orchestrator run --help`.",
        "exit_code": 2,
    }
    assert told.err == ""


def test_a_wrong_setting_exits_2(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HTTP__PORT", "many")
    assert run(["status"]) == 2
    assert "port" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["tasks", "p"], ["show", "A.1"], ["logs", "A.1"], ["watch", "p"], ["retry", "A.1"]],
)
def test_without_a_stack_the_remedy_is_named(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 6
    assert "Start it with `orchestrator up`" in capsys.readouterr().err
    assert run([*arguments, "--json"]) == 6
    assert _envelope(capsys.readouterr().out)["error"]["code"] == "EnvironmentFault"  # type: ignore[index]


def test_down_without_a_stack_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["down", "--json"]) == 0
    assert _envelope(capsys.readouterr().out) == {"data": {"stopped": False}}


def test_a_reader_that_goes_away_is_no_crash(tmp_path: Path) -> None:
    plan = tmp_path / "p.md"
    plan.write_text("# p\n" + "".join(f"- [ ] Task {number}\n" for number in range(3000)))
    arguments = ["orchestrator", "import", str(plan), "--dry-run", "--json"]
    code = f"import sys; from orchestrator.cli import main; sys.argv = {arguments!r}; main()"
    program = [sys.executable, "-c", code]
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(program, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert "Traceback" not in ended.stderr


def test_exit_codes_are_the_documented_ones(capsys: pytest.CaptureFixture[str]) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guide.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", guide.partition("### Exit codes")[2], re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES
    run(["--help"])
    told = capsys.readouterr().out
    assert [meaning for meaning in EXIT_CODES.values() if meaning not in told] == []


def test_every_error_ends_with_a_code_of_the_table() -> None:
    codes = {
        cls.__name__: cls.exit_code
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, OrchestratorError)
    }
    assert {name for name, code in codes.items() if code not in EXIT_CODES} == set()
    named = {"PlanError": 3, "SettingsError": 2, "EnvironmentFault": 6, "NotFound": 4, "Unauthorized": 7}
    assert codes == codes | named | {"Interrupted": 130, "Conflict": 1, "OrchestratorError": 1}
