"""The files of a plan as sync writes them: marks and nothing else, and only where it knows what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import PlanError
from orchestrator.plan.model import Mark
from orchestrator.sync.files import PlanFiles

OLD = b"\xef\xbb\xbf# Caf\xe9\r\n- [ ] it\x92s \xe2\x9c\x85 here\0\r\n- [ ] two\t\n"


@pytest.fixture
def files(tmp_path: Path) -> PlanFiles:
    (tmp_path / "plan.md").write_bytes(OLD)
    return PlanFiles(tmp_path / "plan.md")


def _tick(files: PlanFiles, name: str = "") -> bool:
    """Tick the first task of a file as it is now."""
    texts = files.read()
    task = next(task for task in files.parsed(texts, format="auto").tasks if task.source == name)
    assert task.span is not None
    return files.mark(name, {task.span: Mark.DONE}, seen=texts[name])


def test_a_mark_is_written_into_a_file_of_any_bytes(files: PlanFiles) -> None:
    assert _tick(files)
    assert files.path.read_bytes() == OLD.replace(b"[ ] it", b"[x] it")
    assert [path.name for path in files.path.parent.iterdir()] == ["plan.md"]


def test_a_file_that_is_no_longer_as_seen_is_left_alone(files: PlanFiles) -> None:
    seen = files.read()[""]
    files.path.write_bytes(OLD.replace(b"two", b"three"))
    assert not files.mark("", {}, seen=seen)
    assert not files.write("", "new", seen=seen)
    assert files.path.read_bytes() == OLD.replace(b"two", b"three")
    files.path.unlink()
    assert not files.mark("", {}, seen=seen)
    assert list(files.path.parent.iterdir()) == []


def test_lines_are_added_to_utf_8_only(files: PlanFiles) -> None:
    with pytest.raises(PlanError, match="no UTF-8 text, so no lines can be added"):
        files.require_utf8()
    files.path.write_bytes(b"- [ ] a\n")
    files.require_utf8()
    assert files.write("", "- [ ] b\n", seen="- [ ] a\n")
    assert files.path.read_text() == "- [ ] b\n"


def test_utf_16_is_read_and_not_written(files: PlanFiles) -> None:
    files.path.write_bytes("- [ ] a".encode("utf-16"))
    with pytest.raises(PlanError, match="is UTF-16"):
        files.read()


@pytest.mark.parametrize(
    ("name", "other", "content", "ticked"),
    [
        ("issues.jsonl", "notes.txt", b'{"id":"a-1","title":"A","status":"open"}\n', b"closed"),
        ("tasks/tasks.json", "docs/prd.md", b'{"tasks":[{"id":1,"title":"A","status":"pending"}]}', b"done"),
        ("plans/only.md", "data.json", b"- [ ] a\n", b"[x]"),
    ],
)
def test_the_only_file_of_a_folder_is_found(
    tmp_path: Path, name: str, other: str, content: bytes, ticked: bytes
) -> None:
    for path, bytes_ in ((name, content), (other, b"- [ ] other\n")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(bytes_)
    files = PlanFiles(tmp_path)
    assert _tick(files)
    assert ticked in (tmp_path / name).read_bytes()
    assert (tmp_path / other).read_bytes() == b"- [ ] other\n"
