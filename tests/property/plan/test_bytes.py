"""Ten thousand files of pieces of plans and of any bytes: a plan or a clear refusal, never a crash."""

from __future__ import annotations

import random
from pathlib import Path

from orchestrator.errors import PlanError
from orchestrator.plan.read import read_path
from orchestrator.plan.render import write_marks

SEED = 20_260
CASES = 10_000
PIECES = [
    b"- [ ] ", b"- [x] ", b"* [~]", b"1. **", b"## ", b"#### Task 1.1: ", b"A.1.1 ", b"T001-T003 ", b"#12 ",
    b"[P] ", b"\n", b"\r\n", b"\r", b"\t", b"  ", b"> ", b"|", b"| id | status |\n|--|--|\n",
    b"| A.1 | \xe2\x9c\x85 |\n", b"```", b"```body\n", b"<!--", b" -->", b"<!-- id: %41 -->", b"---\n",
    b"track: B\n", b"status: done", b"run:", b'title: "', b"{", b"}", b'"tasks": [', b"depends: A.1.1", b"\0",
    b'{"id": "a-1", "status": "open"}\n', b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x92",
    "✅ ".encode(), "\u00a0".encode(), b"word ",
]  # fmt: skip


def _piece(dice: random.Random) -> bytes:
    return dice.choice(PIECES) if dice.random() < 0.95 else dice.randbytes(3)


def test_any_file_is_read_or_refused(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    path = tmp_path / "plan.md"
    read = refused = marks = 0
    for _ in range(CASES):
        path.write_bytes(b"".join(_piece(dice) for _ in range(dice.randint(0, 30))))
        try:
            plan = read_path(path)
        except PlanError as error:
            refused += bool(error.remedy)
            continue
        read += 1
        assert plan.tasks or plan.errors
        spans = {task.span: task.mark for task in plan.tasks if task.span}
        assert len(spans) == sum(task.span is not None for task in plan.tasks)
        write_marks(plan.source, spans)
        marks += len(spans)
    print(f"seed {SEED}: {read} read with {marks} marks, {refused} refused")
    assert read > CASES / 10
    assert read + refused == CASES
