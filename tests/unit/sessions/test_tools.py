"""The tools of a model session: what runs side by side, what in order, and what the model is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.agent_types import TOOLS
from orchestrator.core.words import AttemptKind
from orchestrator.sessions.tools.files import Files
from orchestrator.sessions.tools.toolbox import Call, Toolbox, ToolResult, tool_definitions, tools_for
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.notes import MemoryNoteBook
from tests.support.sessions import Recorder, assignment, workspace


class Bench:
    """A toolbox, and what it told."""

    def __init__(self, folder: Path, *, kind: AttemptKind = AttemptKind.WORK) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self.transcript = Recorder()
        self.toolbox = Toolbox(
            ProcessLauncher(records=folder / "records"),
            notes=MemoryNoteBook(),
            assignment=assignment(kind=kind),
            workspace=workspace(self.folder),
            transcript=self.transcript,
            touch=lambda: None,
        )

    async def call(self, name: str, **arguments: object) -> ToolResult:
        [result] = await self.toolbox.call_all([Call(name, arguments)])
        return result


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    found = Bench(tmp_path)
    async with found.toolbox:
        yield found


async def test_what_only_reads_runs_together_and_the_rest_in_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three reads that wait for each other end only if they run at the same time."""
    together = asyncio.Barrier(3)
    loop = asyncio.get_running_loop()
    viewed = Files.view

    def meet(files: Files, name: str, **lines: int) -> str:
        asyncio.run_coroutine_threadsafe(together.wait(), loop).result(60)
        return viewed(files, name, **lines)

    monkeypatch.setattr(Files, "view", meet)
    reads = [Call("read_file", {"path": "log"})] * 3
    results = await bench.toolbox.call_all(
        [
            Call("bash", {"command": "echo one >> log"}),
            Call("bash", {"command": "sleep 0.1; echo two >> log"}),
            Call("write_file", {"path": "other", "content": ""}),
            *reads,
            Call("bash", {"command": "echo three >> log"}),
            *reads,
        ]
    )
    assert [result.text for result in results[3:6]] == ["1\tone\n2\ttwo"] * 3
    assert [result.text for result in results[7:]] == ["1\tone\n2\ttwo\n3\tthree"] * 3
    assert not any(result.is_error for result in results)


async def test_grep_finds_lines_and_says_what_it_cannot(bench: Bench) -> None:
    (bench.folder / "pkg").mkdir()
    (bench.folder / "pkg" / "a.py").write_text("def one():\n    return 'x y'\n")
    (bench.folder / "b.txt").write_text("Define one\n")
    (bench.folder / ".git").mkdir()
    (bench.folder / ".git" / "c.py").write_text("def hidden()\n")
    assert sorted((await bench.call("grep", pattern="[dD]ef")).text.splitlines()) == [
        "./b.txt:1:Define one", "./pkg/a.py:1:def one():",
    ]  # fmt: skip
    assert (await bench.call("grep", pattern="DEF", files="*.txt", ignore_case=True)).text == (
        "./b.txt:1:Define one\n"
    )
    assert (await bench.call("grep", pattern="x y'$", path="pkg")).text == "pkg/a.py:2:    return 'x y'\n"
    assert await bench.call("grep", pattern="-e nothing") == ToolResult("No line matches.")
    failed = await bench.call("grep", pattern="(open")
    assert failed.is_error
    assert "grep:" in failed.text
    outside = await bench.call("grep", pattern="x", path="..")
    assert (outside.is_error, "outside of the workspace" in outside.text) == (True, True)


async def test_the_shell_says_what_it_lost(bench: Bench) -> None:
    assert (await bench.call("bash", command="A=1")).text == "exit code 0\n"
    late = await bench.call("bash", command="echo begun; sleep 300", timeout_s=0.5)
    assert late.is_error
    assert "took longer than 0.5 s. The shell ended with it" in late.text
    assert "begun" in late.text
    fresh = await bench.call("bash", command='echo "<$A>"; exit 2')
    assert fresh.text.startswith("[a new shell, in the workspace: the one before has ended]\nexit code 2\n<>")
    assert fresh.text.endswith("[the shell has ended; the next command gets a new one]")


async def test_long_output_keeps_head_and_tail(bench: Bench) -> None:
    text = (await bench.call("bash", command="seq 1 100000")).text
    assert len(text) < 31_000
    assert "left out" in text
    assert text.endswith("100000\n")


async def test_files_are_written_edited_inserted_and_found(bench: Bench) -> None:
    await bench.call("write_file", path="pkg/a.txt", content="one\nthree\n")
    assert (await bench.call("insert_lines", path="pkg/a.txt", after_line=1, text="two")).text
    await bench.call("edit_file", path="pkg/a.txt", old="three", new="3")
    assert (bench.folder / "pkg/a.txt").read_text() == "one\ntwo\n3\n"
    assert (await bench.call("glob", pattern="**/*.txt")).text == "pkg/a.txt"
    assert (await bench.call("read_file", path="pkg")).text == "a.txt"


async def test_who_reviews_changes_no_files(tmp_path: Path) -> None:
    reviewer = Bench(tmp_path, kind=AttemptKind.REVIEW)
    async with reviewer.toolbox:
        refused = await reviewer.call("write_file", path="a", content="")
    assert refused.is_error
    assert refused.text.startswith("There is no tool 'write_file'; there are bash, read_file, glob, grep, ")


@pytest.mark.parametrize(
    ("kind", "listed", "offered"),
    [
        (AttemptKind.WORK, ("Read", "Edit"), ["read_file", "edit_file", "insert_lines", "notes", "report"]),
        (AttemptKind.WORK, (), ["notes", "report"]),
        (AttemptKind.REVIEW, ("Bash", "Write"), ["bash", "notes", "report"]),
    ],
)
def test_only_what_its_agent_type_lists_is_offered(
    kind: AttemptKind, listed: tuple[str, ...], offered: list[str]
) -> None:
    assert list(tools_for(assignment(kind=kind, tools=listed))) == offered


def test_each_tool_that_may_be_listed_is_one_of_ours() -> None:
    everything = set(tools_for(assignment()))
    for name in TOOLS:
        without = tools_for(assignment(tools=tuple(other for other in TOOLS if other != name)))
        assert everything - set(without), name


def test_every_tool_is_described_by_an_object_schema() -> None:
    for kind in (AttemptKind.WORK, AttemptKind.REVIEW):
        for tool in tool_definitions(tools_for(assignment(kind=kind))):
            assert tool["description"]
            assert tool["input_schema"]["type"] == "object"
            assert tool["input_schema"]["additionalProperties"] is False
