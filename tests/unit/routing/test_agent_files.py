"""Files of agent types: what is read of those in the wild, and what is said of a bad one, with its line."""

from __future__ import annotations

import pytest

from orchestrator.agent_types import TOOLS, AgentLimits, AgentType
from orchestrator.errors import Finding
from orchestrator.routing.agent_files import read_agent_type

WILD = """\
---
name: release-reviewer
description: Use this agent when: a release is cut. See #12 # and this: <example>user: "ship it"</example>
tools: Read, Grep, WebSearch, Bash(git log:*, git diff:*)
model: inherit
color: blue
permissionMode: plan
hooks:
  PreToolUse:
    - matcher: "*"
      hooks: [{type: command, command: ./check}]
maxTurns: 12
---

You review releases.
"""


def head(*lines: str) -> str:
    return "\n".join(("---", *lines, "---", "Prompt."))


def read(text: str | bytes) -> AgentType:
    return read_agent_type(
        text, file="agents/it.md", models={"inherit": "", "opus": "claude-opus"}
    ).agent_type


def findings(text: str | bytes) -> list[Finding]:
    return list(read_agent_type(text, file="agents/it.md", models={}).findings)


@pytest.mark.parametrize(
    "content", [WILD, WILD.encode(), b"\xef\xbb\xbf" + WILD.encode(), WILD.replace("\n", "\r\n").encode()]
)
def test_a_file_for_claude_code_is_read_as_it_is(content: str | bytes) -> None:
    found = read(content)
    assert not found.fault
    assert found.description.startswith(
        "Use this agent when: a release is cut. See #12 # and this: <example>"
    )
    assert (found.model, found.prompt) == ("", "You review releases.")
    assert found.tools == ("Grep", "Read"), "less than is listed, never more"
    assert found.limits == AgentLimits(turns=12)
    assert found.lines["tools"] == 4


def test_tools_that_there_are_not_are_told_with_their_line() -> None:
    told = [(found.severity, found.line, found.message) for found in findings(WILD)]
    assert told == [
        ("warning", 4, "There is no tool `WebSearch` here; sessions go without it."),
        ("warning", 4, "There is no tool `Bash(git log:*, git diff:*)` here; sessions go without it."),
    ]


def test_what_is_denied_otherwise_than_it_reads_is_told_with_its_line() -> None:
    told = findings(head("name: a", "disallowedTools: [bash, Edit(docs/**), WebFetch]"))
    assert [(found.line, found.message, found.remedy) for found in told] == [
        (3, "There is no tool `bash` here; nothing is denied.", "Write `Bash` if that is meant."),
        (
            3,
            "`Edit(docs/**)` is a part of a tool; sessions go without all of `Edit`.",
            "Write `Edit` if that is meant, else leave it out.",
        ),
    ]


@pytest.mark.parametrize(
    ("lines", "tools"),
    [
        (("name: a",), TOOLS),
        (("name: a", "tools:"), TOOLS),
        (("name: a", "tools: ''"), TOOLS),
        (("name: a", "tools: '*'"), TOOLS),
        (("name: a", "tools: Write,Read"), ("Read", "Write")),
        (("name: a", "tools:", "  - Write", "  - Read"), ("Read", "Write")),
        (("name: a", "disallowedTools: Bash, Write"), ("Edit", "Glob", "Grep", "Read")),
        (("name: a", "disallowedTools: Bash(git push:*), Write"), ("Edit", "Glob", "Grep", "Read")),
    ],
)
def test_tools_are_given_in_many_ways(lines: tuple[str, ...], tools: tuple[str, ...]) -> None:
    assert read(head(*lines)).tools == tools


def test_our_own_fields() -> None:
    found = read(
        head(
            "name: poet",
            "description: >",
            "  Writes poems,",
            "  in rhymes.",
            "domains: [documentation, other]",
            "keywords: Ode, Sonnet",
            "default track: [P, Q]",
            "backend: simulated",
            "model: opus",
            "limits:",
            "  sessions: 2",
            "  timeout: 1h 30min",
            "  idle timeout: 5 min",
            "  turns: 20",
            "  cost: $2.50",
        )
    )
    assert found.description == "Writes poems, in rhymes."
    assert (found.domains, found.keywords, found.tracks) == (
        ("documentation", "other"), ("ode", "sonnet"), ("P", "Q"),
    )  # fmt: skip
    assert (found.backend, found.model) == ("simulated", "claude-opus")
    assert found.limits == AgentLimits(
        sessions=2, timeout_s=5400, idle_timeout_s=300, turns=20, cost_micros=2_500_000
    )
    assert found.lines["limits"] == 11


def test_a_slip_in_a_key_of_ours_is_told_and_a_key_of_others_is_not() -> None:
    (told,) = findings(head("name: a", "color: red", "keyword: x"))
    assert (told.line, told.remedy) == (4, "Write `keywords` if that is meant.")


@pytest.mark.parametrize(
    ("text", "line", "message", "remedy"),
    [
        ("Just prose", 1, "does not start with front matter", "Begin it with `---`"),
        ("---\nname: a\n", 1, "front matter has no end", "Write `---` below"),
        ("---\n---\n", 1, "has no name", "Write `name: my-agent`"),
        (head("description: x"), 1, "has no name", "Write `name: my-agent`"),
        (head("description: x", "name: My Poet"), 3, "name `My Poet`", "Write `name: my-poet`."),
        (head("name: gate"), 2, "under which gates run", "Choose another name."),
        (head("name: a", "", "backend: gpt"), 4, "`backend: gpt`", "Write auto or "),
        (head("name: a", "backend: command"), 3, "`backend: command`", "Write auto or"),
        (head("name: a", "model: x: y"), 3, "is no YAML", "in quotes"),
        (head("name: a", "\tmodel: x"), 3, "is no YAML", "not by tabs"),
        (head("name: a\x01"), 1, "is no YAML", "Remove control characters."),
        (head("- a list"), 2, "has no fields", "Write fields such as"),
        (head("name: a", "name: b"), 3, "stands there twice", "Keep one"),
        (
            head("name: a", "keywords:", "  - x", "  - [y]"),
            5,
            "one word is expected",
            "Write the word alone.",
        ),
        (head("name: a", "tools: {a: b}"), 3, "A list is expected", "Write `[a, b]`"),
        (head("name: a", "limits: 3"), 3, "`limits` has no fields", "indented"),
        (head("name: a", "limits:", "  session: 1"), 4, "no limit `session`", "There are sessions"),
        (head("name: a", "limits:", "  sessions: 0"), 4, "no number from 1 to 1,000,000", "Write"),
        (head("name: a", "limits:", "  turns: -3"), 4, "no number from 1 to", "Write `turns: 2`"),
        (head("name: a", "limits:", "  timeout: soon"), 4, "is no time", "Write `timeout: 30m`"),
        (head("name: a", "limits:", "  timeout: -5m"), 4, "is no time", "Write `timeout: 30m`"),
        (head("name: a", "limits:", "  idle timeout: 169h"), 4, "longer than a session may be: 168 h", "2h"),
        (head("name: a", "limits:", "  cost: much"), 4, "no sum above zero", "Write `cost: 2.50`"),
        (head("name: a", "limits:", "  cost: -2"), 4, "no sum above zero", "Write `cost: 2.50`"),
        (head("name: a", "limits:", "  cost: $1000.01"), 4, "up to $1,000", "Write `cost: 2.50`"),
        (head("name: a", "", "tools: []"), 4, "`tools` is empty", "Leave `tools` out"),
        (b"---\nname: caf\xe9\n---\n", 2, "is not UTF-8", "Save it as UTF-8."),
    ],
)
def test_a_bad_file_is_told_with_line_and_remedy(
    text: str | bytes, line: int, message: str, remedy: str
) -> None:
    (told,) = findings(text)
    assert (told.severity, told.line, told.source) == ("error", line, "agents/it.md")
    assert message in told.message
    assert remedy in told.remedy
    assert read(text).fault.startswith(f"agents/it.md:{line}: ")


def test_all_that_is_wrong_with_a_file_is_told_at_once() -> None:
    text = head(
        "backend: gpt",
        "name: My Poet",
        "tools: []",
        "keywords: [[x]]",
        "color: red",
        "turns: 3",
        "limits:",
        "  sessions: 0",
        "  timeout: soon",
        "  speed: 3",
    )
    told = findings(text)
    errors = [found.line for found in told if found.severity == "error"]
    assert errors == [2, 3, 4, 5, 9, 10, 11]
    assert [(found.line, found.remedy) for found in told if found.severity == "warning"] == [
        (7, "Write it below `limits:`.")
    ]
    assert "(and 6 more; `orchestrator agents check` tells them)" in read(text).fault


def test_what_a_bad_file_is_for_is_told_by_its_name_or_its_field() -> None:
    assert read(head("name: poet", "backend: gpt")).name == "poet"
    assert read(head("name: poet", "model: x: y")).name == "poet"
    assert read(head("name: Great Poet!")).name == "great-poet"  # so who names it is not told twice
    assert read("no front matter").name == "it"
