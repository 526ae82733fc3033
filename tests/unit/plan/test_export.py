"""Plans in other notations, read back by the tools of those notations or by a small reader of them."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace

import networkx as nx
import pytest

from orchestrator.core.words import TaskKind
from orchestrator.errors import PlanError
from orchestrator.plan.export import EXPORTS, export_plan
from orchestrator.plan.export.parts import label
from orchestrator.plan.model import Mark, Plan, PlanTask
from orchestrator.plan.read import read_plan

#: Each would break a notation that forgets one of its rules.
NASTY = [
    "Say \"hello\" and 'bye'",
    "one | two || three",
    'three quotes """ and """ more',
    "back\\slash \\\\ and \\n no line feed",
    "a line\nand another\r\nand a third",
    "<b>bold</b> &amp; `code` *stars* _lines_ #35; ~~gone~~",
    "tab\there, a comma; a semicolon: ]]> --> end",
    "Überprüfung 测试 🚀 \u202eright to left",
    "=1+1",
    "@SUM(A1)",
    "{curly} [square] (round) $money 100 %",
    "]: ; } // comment /* comment */ -- comment",
    "control \x01 and \x1b[31m red",
]


def _plan() -> Plan:
    """A container with a task for each nasty title, each waiting for the one before it, and one beside it."""
    tasks = [
        {"key": f"N.{n}", "title": title, "body": title, "depends_on": [f"N.{n - 1}"] if n else []}
        for n, title in enumerate(NASTY)
    ]
    document = {
        "plan_version": 1,
        "name": 'nasty "plan\'s" \\ name',
        "title": "Nasty | titles\n",
        "meta": {"workdir": "work"},
        "tasks": [
            {"key": "N", "title": 'All "of" it', "tasks": tasks},
            {
                "key": "=Z",
                "title": "Last",
                "mark": "blocked",
                "priority": 0,
                "estimate": 90_001,
                "agent": "testing-specialist",
                "type": "fix",
                "domain": "data",
                "acceptance": ["it | works", "it stays\nso"],
                "touches": ["src/**"],
                "run": ['echo "$HOME"'],
                "verify": ["true"],
                "timeout": "10 min",
                "attempts": 3,
                "depends_on": ["N"],
                "relates": ["N.3"],
                "informs": ["N.2"],
            },
        ],
    }
    plan = read_plan(json.dumps(document))
    assert not plan.errors
    return plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    return _plan()


EDGES = [
    *((f"N.{n - 1}", f"N.{n}", "blocks") for n in range(1, len(NASTY))),
    ("=Z", "N.2", "informs"),
    ("N", "=Z", "blocks"),
    ("N.3", "=Z", "relates"),
]


def _said(plan: Plan) -> tuple[object, ...]:
    """What a plan says, without where and how its author wrote it."""
    unsaid = {"line": 0, "source": "", "span": None, "type_evidence": (), "domain_evidence": ()}
    tasks = [replace(task, has_own_key=True, **unsaid) for task in plan.tasks]
    edges = {(edge.task, edge.on, edge.kind) for edge in plan.dependencies}
    return plan.name, plan.title, dict(plan.meta), tasks, edges


def _edges(plan: Plan) -> list[tuple[str, str, str]]:
    return sorted((edge.on, edge.task, edge.kind.value) for edge in plan.dependencies)


def test_native_json_is_read_as_the_same_plan(plan: Plan) -> None:
    again = read_plan(export_plan(plan, "json"))
    assert _said(again) == _said(plan)
    assert _edges(again) == sorted(EDGES)


def test_native_json_of_markdown_is_read_as_the_same_plan() -> None:
    plan = read_plan(
        "---\nname: ship\nowner: ops\nsteps: [one, two]\n---\n# Ship it\n\n## Phase 1: Build {agent: x}\n"
        "- [x] lay out (2h) [P0]\n- [~] write\n  - review: code-reviewer\n  - depends: lay out\n"
        "## Phase 2: Ship\n- [ ] announce\n  - depends: all of Phase 1\n  - manual: post it\n"
        "  - idle timeout: 5 min\n  - retry lost: never\n"
    )
    again = read_plan(export_plan(plan, "json"))
    assert _said(replace(again, meta={})) == _said(replace(plan, meta={}))
    assert again.meta == {"owner": "ops", "steps": '["one", "two"]'}
    assert export_plan(again, "json") == export_plan(plan, "json")


def test_csv(plan: Plan) -> None:
    rows = list(csv.DictReader(io.StringIO(export_plan(plan, "csv"), newline="")))
    assert [row["title"].removeprefix("'") for row in rows] == [task.title for task in plan.tasks]
    last = rows[-1]
    assert (last["key"], last["estimate_ms"], last["mark"]) == ("'=Z", "90001", "blocked")
    assert last["acceptance"].splitlines() == ["it | works", "it stays", "so"]
    assert (last["blocks"], last["relates"], rows[3]["informs"]) == ("N", "N.3", "'=Z")
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row.values())


def test_beads_lines(plan: Plan) -> None:
    issues = {issue["id"]: issue for issue in map(json.loads, export_plan(plan, "jsonl").splitlines())}
    assert [issue["title"] for issue in issues.values()] == [task.title for task in plan.tasks]
    assert (issues["N"]["issue_type"], issues["N.0"]["status"]) == ("epic", "open")
    last = issues["=Z"]
    assert (last["issue_type"], last["status"], last["priority"]) == ("bug", "blocked", 0)
    assert (last["estimated_minutes"], last["assignee"], last["labels"]) == (
        2,
        "testing-specialist",
        ["data"],
    )
    assert issues["N.1"]["dependencies"] == [
        {"issue_id": "N.1", "depends_on_id": "N", "type": "parent-child"},
        {"issue_id": "N.1", "depends_on_id": "N.0", "type": "blocks"},
    ]


def test_beads_lines_are_read_as_the_same_tasks(plan: Plan) -> None:
    again = read_plan(export_plan(plan, "jsonl"))
    assert again.format == "beads"
    assert [task.key for task in again.tasks] == [task.key for task in plan.tasks]
    assert [task.mark for task in again.tasks] == [task.mark for task in plan.tasks]
    blocks = {(first, then) for first, then, kind in EDGES if kind == "blocks"}
    assert {(edge.on, edge.task) for edge in again.dependencies if edge.kind == "blocks"} == blocks


def test_beads_titles_are_cut_by_bytes_and_kept_whole_below() -> None:
    title = "测" * 300
    plan = read_plan(json.dumps({"plan_version": 1, "tasks": [{"key": "A", "title": title}]}))
    issue = json.loads(export_plan(plan, "jsonl"))
    assert len(issue["title"].encode()) <= 500
    assert title.startswith(issue["title"].removesuffix("…"))
    assert issue["description"] == title


def _shown(task: PlanTask) -> str:
    """What a diagram may show of a task: control characters are blanks, line ends are alike."""
    text = re.sub(r"\r\n?", "\n", label(task))
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", " ", text)


_MERMAID = re.compile(
    r'\s*(?:(?P<box>subgraph )?(?P<name>n\d+)\["(?P<text>[^"\\`]*)"\]|(?P<end>end)'
    r"|(?P<first>n\d+) (?P<arrow>-->|-\.->|-\.-) (?P<then>n\d+)"
    r"|classDef \w+ fill:#\w{6},color:#\w{6}|class (?P<marked>n[\dn,]*) (?P<mark>\w+))"
)


def test_mermaid(plan: Plan) -> None:
    head, *lines = export_plan(plan, "mermaid").splitlines()
    assert head == "flowchart TD"
    names, edges, depth = {}, [], 0
    for line in lines:
        found = _MERMAID.fullmatch(line)
        assert found, line
        depth += bool(found["box"]) - bool(found["end"])
        if found["name"]:
            assert not re.search(r"[<>&](?!br/>|lt;)", found["text"].replace("<br/>", "")), line
            names[found["name"]] = html.unescape(
                re.sub(r"#(\d+);", r"&#\1;", found["text"].replace("<br/>", "\n"))
            )
        elif found["first"]:
            kinds = {"-->": "blocks", "-.->": "informs", "-.-": "relates"}
            edges.append((found["first"], found["then"], kinds[found["arrow"]]))
    assert depth == 0
    assert list(names.values()) == list(map(_shown, plan.tasks))
    keys = dict(zip(names, (task.key for task in plan.tasks), strict=True))
    assert sorted((keys[first], keys[then], kind) for first, then, kind in edges) == sorted(EDGES)


_DOT = re.compile(r'"(?:[^"\\]|\\.)*"|#\w+|\w+|->|[{}\[\];=,]|\s+')


def _dot_tokens(text: str) -> Iterator[str]:
    """The words of DOT; a quoted one as what it shows, behind a quote."""
    at = 0
    while at < len(text):
        found = _DOT.match(text, at)
        assert found, text[at : at + 40]
        at = found.end()
        if found[0].startswith('"'):
            yield '"' + re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), found[0][1:-1])
        elif not found[0].isspace():
            yield found[0]


def test_dot(plan: Plan) -> None:
    tokens = list(_dot_tokens(export_plan(plan, "dot")))
    assert tokens[:3] == ["digraph", '"' + plan.title, "{"]
    assert tokens.count("{") == tokens.count("}") == 1 + 1  # the graph and one cluster
    labels = {tokens[n - 2]: tokens[n + 2][1:] for n, token in enumerate(tokens) if token == "label"}
    assert list(labels.values()) == list(map(_shown, plan.tasks))
    keys = dict(zip(labels, (task.key for task in plan.tasks), strict=True))
    edges = [(keys[tokens[n - 1]], keys[tokens[n + 1]]) for n, token in enumerate(tokens) if token == "->"]
    assert sorted(edges) == sorted((first, then) for first, then, _ in EDGES)


def test_graphml(plan: Plan) -> None:
    graph = nx.read_graphml(io.BytesIO(export_plan(plan, "graphml").encode()))
    nodes = [data for _, data in graph.nodes(data=True)]
    assert [node["title"] for node in nodes] == [
        re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "\ufffd", task.title) for task in plan.tasks
    ]
    assert nodes[-1]["estimate_ms"] == 90_001
    keys = {name: data["key"] for name, data in graph.nodes(data=True)}
    edges = [(keys[a], keys[b], data["dependency"]) for a, b, data in graph.edges(data=True)]
    assert sorted(edges) == sorted(EDGES)


_CYPHER = re.compile(
    r"(?P<space>\s+)|'(?P<text>(?:[^'\\\n\r]|\\['\\nrtbf])*)'|(?P<word>[A-Za-z_]\w*)|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<sign>->|\+=|[-<>(){}\[\]:,.;=])"
)
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def _cypher_tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        found = _CYPHER.match(text, at)
        assert found, text[at : at + 60]
        at = found.end()
        kind = str(found.lastgroup)
        if kind == "text":
            yield kind, re.sub(r"\\(.)", lambda escape: _UNESCAPED.get(escape[1], escape[1]), found["text"])
        elif kind != "space":
            yield kind, found[0]


def test_cypher(plan: Plan) -> None:
    tokens = list(_cypher_tokens(export_plan(plan, "cypher")))
    texts = {
        name: [
            value
            for n, (kind, value) in enumerate(tokens)
            if kind == "text" and tokens[n - 2 : n] == [("word", name), ("sign", ":")]
        ]
        for name in ("title", "first", "then")
    }
    assert texts["title"] == [task.title for task in plan.tasks]
    inside = [(task.parent, task.key) for task in plan.tasks if task.parent]
    pairs = list(zip(texts["first"], texts["then"], strict=True))
    assert sorted(pairs) == sorted(inside + [(first, then) for first, then, _ in EDGES])
    for opening, closing in ("()", "{}", "[]"):
        assert tokens.count(("sign", opening)) == tokens.count(("sign", closing))
    statements = [n for n, token in enumerate(tokens) if token == ("sign", ";")]
    starts = {tokens[n + 1][1] for n in [-1, *statements[:-1]]}
    assert starts == {"CREATE", "MERGE", "UNWIND"}


@pytest.mark.parametrize("to", EXPORTS)
@pytest.mark.parametrize("mark", Mark)
def test_every_mark_is_written(mark: Mark, to: str) -> None:
    document = {"plan_version": 1, "tasks": [{"key": "A.1", "title": "Sweep", "mark": mark}]}
    assert "Sweep" in export_plan(read_plan(json.dumps(document)), to)


@pytest.mark.parametrize("to", EXPORTS)
def test_the_same_plan_gives_the_same_text(to: str) -> None:
    assert export_plan(_plan(), to) == export_plan(_plan(), to)


@pytest.mark.parametrize("to", EXPORTS)
def test_a_plan_of_nothing_but_a_task_is_written(to: str) -> None:
    plan = read_plan("- [ ] Sweep the floor\n")
    assert "Sweep the floor" in export_plan(plan, to)
    assert plan.tasks[0].kind is TaskKind.LEAF


def test_an_unknown_notation_is_refused(plan: Plan) -> None:
    with pytest.raises(PlanError, match="docx"):
        export_plan(plan, "docx")
