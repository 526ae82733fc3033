"""A plan whose tasks are worked on by the real Claude Code, here against a local Messages API."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.claude_code_api import ClaudeCodeApi, bash, report, write_files
from tests.support.command_line import CommandLine
from tests.support.messages_api import Reply, Request

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(900)]

API_KEY = "sk-ant-acceptance-1199"
LINES = 8

WRITE = """
- [ ] **A.{n}** Write line {n}
  - verify: `grep -qx 'line {n}' {n}.txt`

  write {n}.txt: line {n}
"""
PLAN = """---
name: long-poem
workdir: work
backend: claude-code
---
# Write a poem of eight lines
{lines}
- [ ] **B.1** Put the lines together
  - depends: {keys}

  shell cat [1-8].txt > poem.txt
- [ ] **B.2** Count them
  - depends: B.1
  - verify: `test "$(cat count.txt)" -eq 8`

  shell wc -l < poem.txt > count.txt; env > seen.txt
""".format(
    lines="".join(WRITE.format(n=n) for n in range(1, LINES + 1)),
    keys=", ".join(f"A.{n}" for n in range(1, LINES + 1)),
)


def work(request: Request) -> Reply:
    """Run the line `shell ...` of the task, if it has one; else write the files that it asks for."""
    lines = [line.strip() for line in request.task.splitlines()]
    commands = [line.removeprefix("shell ") for line in lines if line.startswith("shell ")]
    if not commands:
        return write_files(request)
    return Reply([bash(commands[0])]) if request.turn == 0 else Reply([report("Ran it.")])


def test_ten_tasks_change_files_and_every_token_is_paid_for(cli: CommandLine) -> None:
    with ClaudeCodeApi(work, api_key=API_KEY) as api:
        claude = cli.with_environment(
            ANTHROPIC_API_KEY=API_KEY,
            ANTHROPIC_BASE_URL=api.base_url,
            ORCHESTRATOR_LIMITS__SESSIONS_MAX="3",  # 190 MB each
        )
        data = claude.data("run", str(claude.plan(PLAN)))
        assert api.problems == []
    folder = claude.folder / "work"
    assert (data["plan"]["state"], data["plan"]["tasks"]) == ("done", {"done": LINES + 2})
    assert (folder / "poem.txt").read_text() == "".join(f"line {n}\n" for n in range(1, LINES + 1))
    assert (folder / "count.txt").read_text().strip() == str(LINES)
    assert len(api.requests) == 2 * (LINES + 2)
    assert data["plan"]["cost_micros"] > 0
    assert_the_key_is_kept(claude, folder)
    claude.assert_nothing_is_left()


def assert_the_key_is_kept(cli: CommandLine, folder: Path) -> None:
    """Claude Code had a key that is worth nothing, and no file holds the real one."""
    assert "ANTHROPIC_API_KEY=sk-attempt-" in (folder / "seen.txt").read_text()
    for path in (path for root in (cli.home, folder) for path in root.rglob("*") if path.is_file()):
        assert API_KEY.encode() not in path.read_bytes(), path
