"""The checks that need neither Ray nor PostgreSQL, and what the doctor prints."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import preflight
from cluster.doctor import as_json, as_text, main
from cluster.preflight import Check, CheckState, run_checks
from orchestrator import __version__
from orchestrator.settings import Settings
from orchestrator.stack import write_stack
from orchestrator.store.crypto import KEYS_FILE, FieldKeys, new_key, write_keys
from orchestrator.workspace import sandbox
from tests.support.own_stack import own_stack


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ORCHESTRATOR_", "DATABASE_URL", "ANTHROPIC_")):
            monkeypatch.delenv(name)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def settings(home: Path, **sections: object) -> Settings:
    return Settings(home=home, **({"http": {"port": 0}, "ray": {"dashboard_port": 0}} | sections))


def found(checks: tuple[Check, ...], name: str) -> list[Check]:
    return [check for check in checks if check.name == name]


def test_a_sound_machine_has_no_failure_and_nothing_is_made(tmp_path: Path) -> None:
    home = tmp_path / "not" / "yet"
    checks = run_checks(settings(home))
    assert [check for check in checks if check.state is CheckState.FAIL] == []
    assert not home.parent.exists()


def test_every_finding_that_is_not_ok_has_a_remedy(tmp_path: Path, taken: int) -> None:
    checks = run_checks(settings(tmp_path, http={"host": "0.0.0.0", "port": taken}))
    bad = [check for check in checks if check.state is not CheckState.OK]
    assert bad
    assert all(check.why and check.remedy for check in bad)


def test_a_taken_port_fails_and_one_of_ours_does_not(tmp_path: Path, taken: int) -> None:
    mine = settings(tmp_path, http={"port": taken})
    (check,) = found(run_checks(mine), "http")
    assert check.state is CheckState.FAIL
    assert f"Port {taken} of 127.0.0.1 cannot be used: address already in use." in check.what
    assert "`http.port`" in check.remedy

    write_stack(tmp_path, own_stack(url=f"http://127.0.0.1:{taken}"))
    (check,) = found(run_checks(mine), "http")
    assert check.state is CheckState.OK


def test_an_open_address_is_a_warning(tmp_path: Path) -> None:
    states = [
        check.state
        for check in found(run_checks(settings(tmp_path, http={"host": "0.0.0.0", "port": 0})), "http")
    ]
    assert states == [CheckState.OK, CheckState.WARN]


def test_a_home_that_is_a_file_fails(tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("")
    (check,) = found(run_checks(settings(home / "below")), "home")
    assert check.state is CheckState.FAIL
    assert "ORCHESTRATOR_HOME" in check.remedy


@pytest.mark.parametrize(("minimum", "state"), [(2**62, CheckState.FAIL), (0, CheckState.WARN)])
def test_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minimum: int, state: CheckState
) -> None:
    monkeypatch.setattr(preflight, "DISK_BYTES_WANTED", 2**62)
    monkeypatch.setattr(preflight, "DISK_BYTES_MIN", minimum)
    (check,) = found(run_checks(settings(tmp_path)), "home")
    assert check.state is state


@pytest.mark.parametrize("name", ["token", KEYS_FILE])
def test_readable_secrets_are_a_warning(tmp_path: Path, name: str) -> None:
    token = tmp_path / name
    token.write_text("x")
    token.chmod(0o644)
    (check,) = found(run_checks(settings(tmp_path)), "secrets")
    assert check.remedy == f"Run `chmod 600 {token}`."
    token.chmod(0o600)
    assert found(run_checks(settings(tmp_path)), "secrets") == []


def test_the_encryption_key_is_named_by_its_id_alone_and_a_malformed_one_is_a_failure(tmp_path: Path) -> None:
    (none,) = found(run_checks(settings(tmp_path)), "encryption")
    assert (none.state, "no key yet" in none.what) == (CheckState.OK, True)
    key = new_key()
    write_keys(tmp_path, [key])
    (known,) = found(run_checks(settings(tmp_path)), "encryption")
    assert (known.state, str(FieldKeys([key]).newest_id) in known.what) == (CheckState.OK, True)
    write_keys(tmp_path, [key[:-4]])
    (malformed,) = found(run_checks(settings(tmp_path)), "encryption")
    assert malformed.state is CheckState.FAIL
    assert key[:8] not in malformed.what + malformed.remedy


def test_another_version_that_runs_is_a_warning(tmp_path: Path) -> None:
    write_stack(tmp_path, own_stack(version="0.0.1"))
    (check,) = found(run_checks(settings(tmp_path)), "stack")
    assert (check.state, check.what) == (CheckState.WARN, f"Version 0.0.1 runs, {__version__} is installed.")


def test_sockets_of_our_stack_on_every_interface_are_named(tmp_path: Path) -> None:
    write_stack(tmp_path, own_stack())
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        checks = found(run_checks(settings(tmp_path)), "sockets")
    (check,) = [check for check in checks if f"port {port} " in check.what]
    assert (check.state, check.why) == (CheckState.WARN, "Protected by the token authentication of Ray.")


def test_missing_and_unfit_packages_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["ray==0.1", "no-such-package", "no-such-extra; extra == 'x'", "pyyaml"]
    monkeypatch.setattr(preflight.metadata, "requires", lambda _: wanted)
    (check,) = found(run_checks(settings(tmp_path)), "packages")
    assert check.state is CheckState.FAIL
    assert check.what.endswith("is not ==0.1, no-such-package is not installed")


def test_credentials(tmp_path: Path) -> None:
    (check,) = found(run_checks(settings(tmp_path)), "credentials")
    assert (check.state, "ANTHROPIC_API_KEY" in check.remedy) == (CheckState.WARN, True)
    (check,) = found(run_checks(settings(tmp_path, anthropic={"api_key": "k"})), "credentials")
    assert check.state is CheckState.OK


def test_claude_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = settings(tmp_path, sessions={"backend": "claude-code"})
    (check,) = found(run_checks(asked), "claude code")
    assert (check.state, Path(check.what).is_file()) == (CheckState.OK, True)
    monkeypatch.setitem(sys.modules, "claude_agent_sdk", None)  # as if it were not installed
    (check,) = found(run_checks(asked), "claude code")
    assert (check.state, "coditect-orchestrator[claude-code]" in check.remedy) == (CheckState.WARN, True)
    (check,) = found(run_checks(settings(tmp_path)), "claude code")
    assert check.state is CheckState.OK


def test_a_check_that_cannot_look_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "postgres.json").write_text("{")
    checks = run_checks(settings(tmp_path))
    (check,) = found(checks, "database")
    assert check.state is CheckState.FAIL
    assert "is damaged" in check.what
    assert found(checks, "credentials")


def test_joining_a_cluster_with_the_embedded_database_is_a_warning(tmp_path: Path) -> None:
    checks = found(run_checks(settings(tmp_path, ray={"address": "10.0.0.1:6379"})), "database")
    assert [check.state for check in checks] == [CheckState.OK, CheckState.WARN]
    assert "DATABASE_URL" in checks[1].remedy


OK = Check(name="home", state=CheckState.OK, what="fine")
FAILED = Check(name="database", state=CheckState.FAIL, what="gone", why="it ended", remedy="Start it.")


def test_text_has_one_paragraph_a_check() -> None:
    assert as_text((OK, FAILED)).splitlines() == [
        "ok    home      fine",
        "fail  database  gone",
        "                it ended",
        "                Start it.",
    ]


def test_json_holds_every_field() -> None:
    assert json.loads(as_json((FAILED,))) == {
        "schema_version": 1,
        "data": {
            "is_ok": False,
            "checks": [
                {
                    "name": "database",
                    "state": "fail",
                    "what": "gone",
                    "why": "it ended",
                    "remedy": "Start it.",
                }
            ],
        },
    }


def test_malformed_settings_are_the_only_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    monkeypatch.setenv("ORCHESTRATOR_HTPP__PORT", "1")
    assert main(["--json"]) == 6
    (check,) = json.loads(capsys.readouterr().out)["data"]["checks"]
    assert (check["name"], check["state"]) == ("settings", "fail")


def test_doctor_as_a_program(tmp_path: Path, taken: int) -> None:
    environment = os.environ | {"ORCHESTRATOR_HOME": str(tmp_path), "ORCHESTRATOR_HTTP__PORT": str(taken)}
    command = [sys.executable, "-m", "cluster.doctor", "--json"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (6, "")
    assert json.loads(ended.stdout)["data"]["is_ok"] is False


@pytest.mark.parametrize(("choice", "state"), [("off", "warn"), ("auto", "warn"), ("required", "fail")])
def test_a_missing_sandbox_is_told_with_what_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str, state: str
) -> None:
    monkeypatch.setattr(sandbox, "TRUSTED_PATH", str(tmp_path))
    (check,) = found(run_checks(settings(tmp_path, sessions={"sandbox": choice})), "sandbox")
    assert check.state == state
    assert ("turn it off" if choice == "off" else "the program bwrap is not in") in check.what
    assert check.what.startswith("No program" if choice == "required" else "Programs")
    assert check.why
    assert "bubblewrap" in check.remedy
