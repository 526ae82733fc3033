"""Bytes that are no UTF-8: read as what they are, and back as they were, whatever marks are written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from orchestrator.plan.encoding import decode, with_strays
from orchestrator.plan.model import Mark
from orchestrator.plan.read import read_path
from orchestrator.plan.render import write_marks_into

SEED, CASES = 4, 300
_WORDS = [
    b"caf\xe9",
    b"it\x92s",
    b"\x81\x8d",
    "✅".encode(),
    "ünder".encode(),
    b"\xe2\x9c",
    b"\xa0",
    b"\0",
    b"x",
]


def test_bytes_without_a_character_in_windows_1252_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "plan.md"
    path.write_bytes(b"- [ ] a\x81b\n")
    plan = read_path(path)
    assert plan.tasks[0].title == "a\ufffdb"
    assert [finding.code for finding in plan.findings] == ["stray-bytes", "replaced-characters"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_any_mark_is_written_and_every_other_byte_stays(end: bytes, tmp_path: Path) -> None:
    """Seeded: files of words in mixed encodings; each task is ticked alone."""
    draw = random.Random(SEED)
    path = tmp_path / "plan.md"
    marks = 0
    for _ in range(CASES):
        titles = [b" ".join(draw.choices(_WORDS, k=3)) for _ in range(4)]
        content = b"\xef\xbb\xbf" + b"".join(b"- [ ] t " + title + end for title in titles)
        path.write_bytes(content)
        text = decode(content, "plan.md")
        assert len(text) == len(with_strays(content))
        spans = [task.span for task in read_path(path).tasks if task.span]
        assert len(spans) == len(titles)
        for number, span in enumerate(spans):
            parts = content.split(b"- [ ]")
            ticked = b"- [ ]".join(parts[: number + 1]) + b"- [x]" + b"- [ ]".join(parts[number + 1 :])
            assert write_marks_into(content, {span: Mark.DONE}) == ticked
            marks += 1
    assert marks == CASES * 4
