"""Where plans come from: texts, files, folders, standard input; and what cannot be read."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from orchestrator.errors import PlanError
from orchestrator.plan import files
from orchestrator.plan import read as module
from orchestrator.plan.model import Plan
from orchestrator.plan.read import read_path, read_plan
from orchestrator.plan.report import import_report


def _marks(plan: Plan) -> list[str]:
    """What stands at the marks."""
    return [plan.source[task.span.start : task.span.end] for task in plan.tasks if task.span]


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.md"
    path.write_bytes(b"\xef\xbb\xbf---\r\nname: demo\r\n---\r\n# Title\r\n- [x] A.1.1 D\xc3\xb6\r\n")
    plan = read_path(path)
    assert (plan.name, plan.title, plan.tasks[0].title, plan.tasks[0].line) == ("demo", "Title", "Dö", 5)
    assert _marks(plan)[0] == "x"
    assert plan.source.encode() == path.read_bytes()


def test_utf_16_with_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "plan.md"
    path.write_bytes("- [ ] é".encode("utf-16"))
    assert read_path(path).tasks[0].title == "é"


def test_a_folder_is_one_plan(tmp_path: Path) -> None:
    (tmp_path / "tracks").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "tracks/TRACK-A.md").write_text("# Track A: Core\n- [ ] A.1.1 x\n")
    (tmp_path / "tracks/TRACK-B.md").write_text(
        "# Track B: UI\n- [ ] B.1.1 y\n  - depends: Track A\n- [ ] B.1.2 z (depends on A.1.9)\n"
    )
    (tmp_path / "README.md").write_text("# Read me\nProse.\n")
    (tmp_path / ".hidden/x.md").write_text("- [ ] hidden\n")
    plan = read_path(tmp_path)
    assert [(task.key, task.parent, task.source) for task in plan.tasks] == [
        ("track-a", "", "tracks/TRACK-A.md"),
        ("A.1.1", "track-a", "tracks/TRACK-A.md"),
        ("track-b", "", "tracks/TRACK-B.md"),
        ("B.1.1", "track-b", "tracks/TRACK-B.md"),
        ("B.1.2", "track-b", "tracks/TRACK-B.md"),
    ]
    assert [(edge.task, edge.on) for edge in plan.dependencies] == [("B.1.1", "track-a")]
    assert [(finding.source, finding.line, finding.code) for finding in plan.findings] == [
        ("tracks/TRACK-B.md", 4, "unknown-dependency")
    ]
    assert plan.format == "coditect"


def test_equal_ids_in_two_files_name_both(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("- [ ] A.1.1 x\n")
    (tmp_path / "b.md").write_text("\n- [ ] A.1.1 x\n")
    (finding,) = read_path(tmp_path).findings
    assert (finding.source, finding.line) == ("b.md", 2)
    assert "a.md line 1" in finding.message


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("- [ ] é".encode())))
    assert read_path("-").tasks[0].title == "é"


def test_unreadable_paths(tmp_path: Path) -> None:
    (tmp_path / "odd.md").write_bytes(b"\xff\xfe\x2d")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "fifo")
    cases = {
        "missing.md": "No such file",
        "odd.md": "no UTF-16 text",
        "empty": "no Markdown file",
        "fifo": "no ordinary file",
        "a\0b": "cannot be read",
        "x" * 5000: "cannot be read",
    }
    for name, words in cases.items():
        with pytest.raises(PlanError, match=words) as caught:
            read_path(tmp_path / name)
        assert caught.value.remedy


def test_of_a_folder_the_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.md").symlink_to("/proc/self/mem")  # a file whose start nobody can read, root included
    with pytest.raises(PlanError, match=r"/b\.md' cannot be read: Input/output error"):
        read_path(tmp_path)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plan.md").write_text("- [ ] a\n" * 10)
    monkeypatch.setattr(files, "PLAN_BYTES_MAX", 70)
    with pytest.raises(PlanError, match="larger than"):
        read_path(tmp_path / "plan.md")
    monkeypatch.setattr(module, "PLAN_LINES_MAX", 9)
    with pytest.raises(PlanError, match="more than 9 lines"):
        read_plan("- [ ] a\n" * 10)
    with pytest.raises(PlanError, match="unknown"):
        read_plan("- [ ] a", format="yaml")


def test_the_format_may_be_named() -> None:
    text = "## 1.1 Part\n- [ ] 1.1 a\n- [ ] 1.1 b\n"
    assert read_plan(text).findings
    plan = read_plan(text, format="checklist")
    assert (plan.format, plan.format_reason, plan.errors) == ("checklist", "named by the caller", ())
    assert plan.with_id == 1


def test_what_no_database_stores_is_replaced_one_by_one() -> None:
    plan = read_plan("- [ ] a\0b\n- [x] \udc92 c\U0001f389\n")
    assert [task.title for task in plan.tasks] == ["a\ufffdb", "\ufffd c🎉"]
    assert [finding.code for finding in plan.findings] == ["replaced-characters"]
    assert _marks(plan)[1] == "x"
    plan.source.encode()


def test_the_import_report() -> None:
    plan = read_plan(
        "- [ ] A.1.1 x\n- [~] A.1.2 y (2h)\n  - depends: A.1.1, other-thing\n- [X] z\n  - [P] w\n"
    )
    report = import_report(plan)
    assert report["format"] == "coditect"
    assert report["counts"] == {
        "tasks": 3,
        "with_id": 2,
        "checkboxes": {"open": 1, "done": 1, "other": {"~": 1, "P": 1}},
        "dependencies": {"explicit": 1, "inferred": 0},
    }
    assert [(f["line"], f["code"], f["severity"]) for f in report["findings"]] == [
        (3, "outside-dependency", "warning")
    ]
    task = report["tasks"][1]
    assert (task["key"], task["mark"], task["depends_on"], task["estimate_ms"]) == (
        "A.1.2",
        "in_progress",
        ["A.1.1"],
        7_200_000,
    )
