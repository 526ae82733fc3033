"""The Messages API as Claude Code uses it: another version, other fields, other tools than our own sessions.

with ClaudeCodeApi(turns(Reply([write("a.txt", "one")]), Reply([report()]))) as api: ...
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from tests.support.messages_api import Block, MessagesApi, Reply, Request, Scenario, call, text
from tests.support.messages_schema import blocks_of


def report(summary: str = "All done.", **more: Any) -> Block:
    """The report that says done."""
    return call("StructuredOutput", **{"status": "done", "summary": summary, **more})


def write(path: str, content: str) -> Block:
    """Write a file."""
    return call("Write", file_path=path, content=content)


def bash(command: str, **more: Any) -> Block:
    """Run a command line."""
    return call("Bash", command=command, **more)


def turns(*replies: Reply) -> Scenario:
    """Give these replies by the turn of the conversation, the last one again and again."""
    return lambda request: replies[min(request.turn, len(replies) - 1)]


def write_files(request: Request) -> Reply:
    """Write what lines `write FILE: TEXT` of the task ask for, then report."""
    wanted = re.findall(r"^\W*write (\S+): (.*)$", request.task, re.MULTILINE)
    if request.turn == 0 and wanted:
        return Reply([text("I write the files."), *(write(path, f"{words}\n") for path, words in wanted)])
    failed = [str(result["content"]) for result in results(request) if result.get("is_error")]
    if failed:
        return Reply([report(f"A tool failed: {failed[0]}", status="failed")])
    return Reply([report(f"Wrote {len(wanted)} files.", files=[path for path, _ in wanted])])


def results(request: Request) -> list[Block]:
    """The tool results since the last answer; words of the program may follow them."""
    found: list[Block] = []
    for message in reversed(request.body["messages"]):
        if message["role"] == "assistant":
            break
        found = [block for block in blocks_of(message) if block["type"] == "tool_result"] + found
    return found


class ClaudeCodeApi(MessagesApi):
    """Serves the program of Claude Code; `write_files` unless told otherwise."""

    def __init__(self, scenario: Scenario = write_files, **options: Any) -> None:
        super().__init__(scenario, **options)

    def problem(self, body: object, *, betas: Collection[str]) -> str | None:
        """Look at what must hold in every version: each call is answered, and nothing else is."""
        return next(_problems(body), None) if isinstance(body, dict) else "the body must be a JSON object"


def _problems(body: dict[str, Any]) -> Iterator[str]:
    yield from (f"{name}: Field required" for name in ("model", "max_tokens", "messages") if name not in body)
    called: list[str] = []
    answered: list[str] = []
    for message in body["messages"]:
        for block in blocks_of(message):
            called += [block["id"]] if block["type"] == "tool_use" else []
            answered += [block["tool_use_id"]] if block["type"] == "tool_result" else []
    if sorted(called) != sorted(answered):
        yield f"messages: the calls {called} were answered by {answered}"
