"""Writing states back into Markdown plans of other people: one mark changes, and nothing else ever does."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import pytest

from orchestrator.plan.keys import hidden
from orchestrator.plan.markdown_out import to_markdown
from orchestrator.plan.model import DependencyKind, Mark, MarkSpan, Notation, Plan, PlanTask
from orchestrator.plan.read import read_path, read_plan
from orchestrator.plan.render import WRITTEN, write_marks

REPOSITORY = Path(__file__).parents[2]
CORPUS = Path(os.environ.get("ORCHESTRATOR_CORPUS", REPOSITORY.parent / "shared" / "corpus"))
PLANS = sorted(path for path in CORPUS.glob("[01]*") if path.is_file())
FILES = [path for path in PLANS if path.suffix == ".md"]

pytestmark = pytest.mark.skipif(not FILES, reason=f"NOT RUN: no corpus at {CORPUS}")
each_text = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name[:24])
each_end = pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])


def _text(path: Path, end: str) -> str:
    return (
        "\ufeff" + path.read_bytes().decode().replace("\n", end)
        if end != "\n"
        else path.read_bytes().decode()
    )


def _spans(plan: Plan) -> list[tuple[PlanTask, MarkSpan]]:
    return [(task, task.span) for task in plan.tasks if task.span]


def test_the_corpus_is_whole() -> None:
    assert len(FILES) == 11


@each_end
@each_text
def test_ticking_one_task_changes_its_mark_and_nothing_else(path: Path, end: str) -> None:
    text = _text(path, end)
    plan = read_plan(text)
    assert len(_spans(plan)) == len(plan.tasks)
    for _, span in _spans(plan):
        for mark in Mark:
            changed = write_marks(text, {span: mark})
            written = WRITTEN[span.notation][mark]
            assert changed[: span.start] == text[: span.start]
            assert changed[span.start : span.start + len(written)] == written
            assert changed[span.start + len(written) :] == text[span.end :]


@each_end
@each_text
def test_nothing_to_write_changes_nothing(path: Path, end: str) -> None:
    text = _text(path, end)
    as_read = {
        span: task.mark
        for task, span in _spans(read_plan(text))
        if span.notation is Notation.BOX and text[span.start : span.end] != "X"
    }
    assert write_marks(text, {}) == text
    assert write_marks(text, as_read) == text


@each_text
def test_what_is_written_is_read_again(path: Path) -> None:
    """Every task gets every mark in turn; the rest of the plan stays as it was."""
    text = _text(path, "\n")
    plan = read_plan(text)
    marks = [mark for mark in Mark if WRITTEN[Notation.BOX][mark] != WRITTEN[Notation.BOX][Mark.CANCELLED]]
    for first in range(len(marks)):
        wanted = list(islice(cycle(marks), first, first + len(plan.tasks)))
        spans = dict(zip((span for _, span in _spans(plan)), wanted, strict=True))
        again = read_plan(write_marks(text, spans))
        assert [(task.key, task.title, task.line) for task in again.tasks] == [
            (task.key, task.title, task.line) for task in plan.tasks
        ]
        assert [task.mark for task in again.tasks] == wanted
        assert [(edge.task, edge.on, edge.kind) for edge in again.dependencies] == [
            (edge.task, edge.on, edge.kind) for edge in plan.dependencies
        ]


@each_text
def test_hidden_ids_keep_the_keys_of_tasks_without_one(path: Path) -> None:
    text = _text(path, "\r\n")
    plan = read_plan(text)
    lines = text.split("\r\n")
    for task in plan.tasks:
        if not task.has_own_key:
            lines[task.line - 1] += f" {hidden(task.key)}"
    again = read_plan("\r\n".join(lines))
    assert [(task.key, task.title, task.mark, task.parent) for task in again.tasks] == [
        (task.key, task.title, task.mark, task.parent) for task in plan.tasks
    ]
    assert all(task.has_own_key for task in again.tasks)


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name[:24])
def test_a_plan_written_as_markdown_is_read_as_the_same_plan(path: Path) -> None:
    plan = read_path(path)
    again = read_plan(to_markdown(plan))
    assert again.errors == ()
    assert [_without_place(task) for task in again.tasks] == [_without_place(task) for task in plan.tasks]
    assert _stated(again) == _stated(plan)


def _without_place(task: PlanTask) -> PlanTask:
    mark = Mark.CANCELLED if task.mark is Mark.SKIPPED else task.mark
    return replace(task, mark=mark, line=0, source="", span=None, has_own_key=True)


def _stated(plan: Plan) -> set[tuple[str, str, DependencyKind]]:
    return {(edge.task, edge.on, edge.kind) for edge in plan.dependencies if edge.is_explicit}
