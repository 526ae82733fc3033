"""What a session reaches of the stack that runs it: doors that want a token or a password, and no token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.stack import TOKEN_FILE, require_stack
from orchestrator.store.address import read_record
from orchestrator.workspace.sandbox import Sandbox
from tests.support.command_line import CommandLine

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(600)]

PLAN = """# Burglary

- [ ] **A.1** Try every door
  - attempts: 1
{lines}"""

SECRETS = (TOKEN_FILE, "ray-token", "encryption-keys", "postgres.json")

#: A start of a session of PostgreSQL (protocol 3.0), with its length in front; then it asks who we are.
_PARAMETERS = b"user\0postgres\0database\0postgres\0\0"
HELLO = (len(_PARAMETERS) + 8).to_bytes(4, "big") + b"\0\3\0\0" + _PARAMETERS

#: The first and the last byte of the answer: it is about authentication, by SCRAM; 0 would let in.
ASKS_FOR_PASSWORD = f"{ord('R')} 10"


def test_a_session_is_let_in_nowhere_and_finds_no_key(stack: CommandLine) -> None:
    at, database = require_stack(stack.home), read_record(stack.home)
    assert database is not None
    hello = "".join(f"\\{byte:03o}" for byte in HELLO)
    login = f"exec 3<>/dev/tcp/127.0.0.1/{database.port}; printf '{hello}' >&3; head -c 9 <&3"
    lines = [
        f"curl -s -o /dev/null -w 'dashboard %{{http_code}}\\n' {at.dashboard_url}/api/version",
        f"curl -s -o /dev/null -w 'api %{{http_code}}\\n' {at.url}/api/v1/plans",
        f'bash -c "{login}" | od -An -tu1 | awk \'{{ print "database", $1, $9 }}\'',
        "cat /proc/[0-9]*/environ 2>&1 | tr '\\0' '\\n' | grep -c ^RAY_ || true",
        f"cat {' '.join(str(stack.home / name) for name in SECRETS)} || true",
    ]
    stack.plan(PLAN.format(lines="".join(f"  - run: `{line}`\n" for line in lines)), "burglary.md")
    stack.run("submit", "burglary.md", "--watch")
    said = stack.run("logs", "A.1", "--plan", "Burglary")
    assert "dashboard 401" in said
    assert "api 401" in said
    assert f"database {ASKS_FOR_PASSWORD}" in said
    if os.geteuid() == 0 or not Sandbox().lack():  # else they are files of the user who runs the session
        refusals = said.count("No such file or directory") + said.count("Permission denied")
        assert refusals >= len(SECRETS)
        assert "\n0\n" in said
        for name in SECRETS:
            assert Path(stack.home, name).read_text(encoding="utf-8").strip() not in said
