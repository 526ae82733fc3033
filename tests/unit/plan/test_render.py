"""Marks are written where they stand, and nothing else changes."""

from __future__ import annotations

import pytest

from orchestrator.errors import InvariantViolation
from orchestrator.plan.model import Mark, MarkSpan, Notation
from orchestrator.plan.read import read_plan
from orchestrator.plan.render import WRITTEN, write_marks

MESSY = "\ufeff# Plan\r\n\r\n-\t[X]  one \r\n  * [] two\t\n1) [ ] three"


def test_only_the_marks_change() -> None:
    plan = read_plan(MESSY)
    spans = [task.span for task in plan.tasks if task.span]
    changed = write_marks(MESSY, dict(zip(spans, (Mark.OPEN, Mark.DONE, Mark.BLOCKED), strict=True)))
    assert changed == "\ufeff# Plan\r\n\r\n-\t[ ]  one \r\n  * [x] two\t\n1) [!] three"
    assert write_marks(MESSY, {}) == MESSY


def test_a_heading_without_a_box_gets_one_before_its_words() -> None:
    text = "#### Task 1.1: Build ##\n- [x] step\n- [ ] step\n"
    span = read_plan(text).tasks[0].span
    assert span is not None
    changed = write_marks(text, {span: Mark.DONE})
    assert changed == "#### [x] Task 1.1: Build ##\n- [x] step\n- [ ] step\n"
    again = read_plan(changed).tasks[0]
    assert (again.key, again.title, again.mark) == ("1.1", "Build", Mark.DONE)


def test_spans_that_do_not_fit_the_text_are_our_own_fault() -> None:
    for spans in (
        [MarkSpan(3, 4, Notation.BOX), MarkSpan(3, 5, Notation.BOX)],
        [MarkSpan(9, 99, Notation.BOX)],
    ):
        with pytest.raises(InvariantViolation):
            write_marks("- [ ] task", dict.fromkeys(spans, Mark.DONE))


def test_every_notation_can_say_every_mark() -> None:
    assert set(WRITTEN) == set(Notation)
    assert all(set(written) == set(Mark) for written in WRITTEN.values())
